"""What every optimizer has: parameters, a learning rate, a count of steps, state arrays, and how they are saved.

The methods themselves stand in descent.py and moments.py, their equations in reference/updates.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import numpy as np

from scratchnet.arrays import check_array, check_flag, check_in_place, check_integer, check_number, check_ops
from scratchnet.attributes import HeldArrays, assigned_once

LearningRate = float | Callable[[int], float]
Betas = tuple[float, float]


class Optimizer:
    """A method over one flat array of parameters; a subclass names its arguments and writes `_update`.

    Attributes:
        params: (P,) the array that `step` moves.
        lr: a number > 0, or a schedule t -> lr, asked for t = 1, 2, 3, ... A schedule may return 0, e.g. at its end.
        t: steps done.
        state: name -> (P,) array; each class says which. m, v: running means of the gradient and of its square.
        ops: the floor it runs on, the module kernels or reference.
    """

    params: np.ndarray = assigned_once(
        "params", "{owner}.{name}: expected to stay the array that it was made over; make another optimizer"
    )
    state: Mapping[str, np.ndarray] = assigned_once(
        "state", "{owner}.{name}: expected to stay the arrays that it made; write state[name][...] = value"
    )
    arguments: tuple[str, ...] = ()  # names of the hyperparameters beside lr; a subclass keeps each as an attribute
    fixed: tuple[str, ...] = ()  # names of attributes that, as arguments, keep their first value
    scalars: tuple[str, ...] = ()  # names of attributes that change with the steps and are saved, beside t

    def __init__(self, params: np.ndarray, lr: LearningRate, ops: ModuleType) -> None:
        self.params = check_in_place(f"{self._name()}: params", params, (None,))
        self.lr = lr
        self.ops = check_ops(f"{self._name()}: ops", ops)
        self.t = 0
        self._arrays: dict[str, np.ndarray] = {}
        self.state = HeldArrays(self._arrays)
        self._unused = np.empty(0, params.dtype)

    def __repr__(self) -> str:
        values = {"lr": self.lr, **{name: getattr(self, name) for name in self.arguments}}
        return f"{self._name()}({', '.join(f'{name}={value!r}' for name, value in values.items())})"

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Refuse copy.deepcopy and pickle: a copy's steps would move a copy of the parameters, and no net."""
        raise TypeError(
            f"{self._name()}: expected to stay one object, which moves the parameters it was made over; keep "
            "saved = optimizer.state_dict() and go back with optimizer.load_state_dict(saved), or use save_checkpoint"
        )

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse another value for an argument: what was computed from it at the start would stay."""
        if (name in self.arguments or name in self.fixed) and name in self.__dict__:
            raise AttributeError(
                f"{self._name()}.{name}: expected to stay {getattr(self, name)!r}, got {value!r}; "
                "make a new optimizer, and hand it this one's state_dict()"
            )
        super().__setattr__(name, value)

    @property
    def lr(self) -> LearningRate:
        return self._lr

    @lr.setter
    def lr(self, lr: LearningRate) -> None:
        self._lr = lr if callable(lr) else self._number("lr", lr, include_low=False)
        kind = np.finfo(self.params.dtype)
        if not callable(lr) and not float(kind.smallest_subnormal) <= lr <= float(kind.max):
            raise ValueError(f"{self._name()}: lr: expected a number that {self.params.dtype} can hold, got {lr}")

    def current_lr(self) -> float:
        """The learning rate of the next step, number t + 1."""
        return self.lr_of(self.t + 1)

    def lr_of(self, t: int) -> float:
        """The learning rate of step t, 1, 2, 3, ..., as lr is now."""
        if callable(self._lr):
            return check_number(f"{self._name()}: lr: what the schedule returns for t = {t}", self._lr(t), 0)
        return self._lr

    def step(self, grads: np.ndarray) -> None:
        """Move the parameters by one step.

        Args:
            grads: (P,) dLoss/dparams, of the dtype of params. Read. NaN in it becomes NaN in the parameter.

        Raises:
            TypeError, ValueError: grads has another dtype or shape, or is (a view of) the parameters themselves; these
                are read-only; or the schedule returned no finite number >= 0. Then no step is done or counted.
        """
        params = self.params
        grads = check_array(f"{self._name()}.step: grads", grads, params.dtype, params.shape)
        if np.may_share_memory(grads, params):
            raise ValueError(f"{self._name()}.step: grads: expected an array of its own, got memory shared with params")
        if not params.flags.writeable:
            raise ValueError(f"{self._name()}.step: expected params that can be written, got them read-only")
        lr = self.current_lr()
        self.t += 1
        self._update(grads, lr)

    def _update(self, grads: np.ndarray, lr: float) -> None:
        """Do step number self.t, by one operation of self.ops."""
        raise NotImplementedError

    def hyperparameters(self) -> dict[str, Any]:
        """The arguments it was made with, fit for JSON; a schedule is given as the text it prints."""
        values = {name: getattr(self, name) for name in self.arguments}
        lists = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        return {"lr": repr(self.lr) if callable(self.lr) else self.lr, **lists}

    def state_dict(self) -> dict[str, Any]:
        """Copy all that a resumed run needs beside params and the arguments: see load_state_dict."""
        return {
            "name": self._name(),
            "t": self.t,
            "scalars": {name: getattr(self, name) for name in self.scalars},
            "arrays": {name: array.copy() for name, array in self.state.items()},
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Take over what state_dict returned. An optimizer made with the same arguments then goes on bit for bit.

        Raises:
            TypeError, ValueError: another method, a missing or foreign name, another shape or dtype, a bad number.
                Nothing is taken over then.
        """
        here = f"{self._name()}.load_state_dict"
        _check_names(f"{here}: state", saved, ("name", "t", "scalars", "arrays"))
        if saved["name"] != self._name():
            raise ValueError(f"{here}: expected the state of {self._name()}, got that of {saved['name']!r}")
        t = check_integer(f"{here}: t", saved["t"], minimum=0)
        _check_names(f"{here}: scalars", saved["scalars"], self.scalars)
        numbers = {name: check_number(f"{here}: {name}", saved["scalars"][name]) for name in self.scalars}
        _check_names(f"{here}: arrays", saved["arrays"], self.state)
        dtype, shape = self.params.dtype, self.params.shape
        arrays = {name: check_array(f"{here}: {name}", saved["arrays"][name], dtype, shape) for name in self.state}
        self.t = t
        for name, number in numbers.items():
            setattr(self, name, number)
        for name, array in arrays.items():
            self.state[name][...] = array

    # --- what subclasses use -----------------------------------------------------------------------------------------

    def _name(self) -> str:
        return type(self).__name__

    def _allocate(self, name: str, used: bool = True, value: float = 0.0) -> None:
        """Make a state array, unless this mode has no use for it: an operation then gets an empty one."""
        if used:
            self._arrays[name] = np.full_like(self.params, value)

    def _array(self, name: str) -> np.ndarray:
        return self._arrays.get(name, self._unused)

    def _number(self, name: str, value: Any, high: float = math.inf, **limits: bool) -> float:
        """Check a hyperparameter: at least 0, below `high`."""
        return check_number(f"{self._name()}: {name}", value, 0, high, **limits)

    def _flag(self, name: str, value: Any) -> bool:
        return check_flag(f"{self._name()}: {name}", value, f"write {name}=True")

    def _check_betas(self, betas: Any) -> Betas:
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise TypeError(f"{self._name()}: betas: expected two numbers in [0, 1), got {betas!r}")
        return self._number("betas[0]", betas[0], 1), self._number("betas[1]", betas[1], 1)

    def _rounded(self, rate: float) -> float:
        """A decay rate as the parameters' dtype can hold it."""
        rounded = float(self.params.dtype.type(rate))
        if rounded == 1:
            raise ValueError(f"{self._name()}: expected a decay rate < 1, got {rate}: 1 in float32; use float64 params")
        return rounded


def check_moves(name: str, optimizer: Any, params: np.ndarray, part: bool = False) -> None:
    """Refuse an optimizer whose steps would not move these parameters, or, with `part`, none of them."""
    if not isinstance(optimizer, Optimizer):
        got = type(optimizer).__name__
        raise TypeError(f"{name}: optimizer: expected one such as Adam(net.params), got {got}")
    its = optimizer.params
    if part and np.may_share_memory(its, params):
        return
    if its.shape != params.shape or its.ctypes.data != params.ctypes.data:
        raise ValueError(
            f"{name}: optimizer: expected one over this net's params, got one over another array; its steps "
            "would not move the net: make it with e.g. Adam(net.params)"
        )


def _check_names(name: str, mapping: Any, expected: Any) -> None:
    """Refuse a dict whose keys are not exactly `expected`."""
    if not isinstance(mapping, Mapping):
        raise TypeError(f"{name}: expected a dict, got {type(mapping).__name__}")
    if set(mapping) != set(expected):
        raise ValueError(f"{name}: expected the names {sorted(expected)}, got {sorted(map(str, mapping))}")

"""Methods without a bias correction: gradient descent, those that divide by past gradients, and Lion."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from scratchnet import kernels
from scratchnet.optimizers.base import Betas, LearningRate, Optimizer


class SGD(Optimizer):
    """Gradient descent, with momentum (Polyak 1964) and Nesterov's look-ahead (Sutskever et al. 2013) on request.

    Dampening leaves the first step alone, as in PyTorch: the buffer starts as the first gradient.

    Args:
        params: (P,) float, e.g. net.params. Written by step.
        lr: > 0, or a schedule t -> lr.
        momentum: in [0, 1). dampening: in [0, 1]. weight_decay: >= 0, coupled.
        nesterov: needs momentum > 0 and dampening 0.
        ops: the floor to run on, kernels or reference.

    State: momentum_buffer, with momentum.
    """

    arguments = ("momentum", "dampening", "weight_decay", "nesterov")

    def __init__(
        self,
        params: np.ndarray,
        lr: LearningRate = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        ops: ModuleType = kernels,
    ) -> None:
        super().__init__(params, lr, ops)
        self.momentum = self._number("momentum", momentum, 1)
        self.dampening = self._number("dampening", dampening, 1, include_high=True)
        self.weight_decay = self._number("weight_decay", weight_decay)
        self.nesterov = self._flag("nesterov", nesterov)
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            raise ValueError(
                f"SGD: nesterov: expected momentum > 0 and dampening 0 with it, got {momentum} and {dampening}"
            )
        self._momentum, self._dampening = self._rounded(self.momentum), float(params.dtype.type(self.dampening))
        self._allocate("momentum_buffer", used=self.momentum > 0)

    def _update(self, grads: np.ndarray, lr: float) -> None:
        buffer = self._array("momentum_buffer")
        dampening = 0.0 if self.t == 1 else self._dampening
        self.ops.sgd_update(self.params, buffer, grads, lr, self._momentum, dampening, self.weight_decay, self.nesterov)


class Adagrad(Optimizer):
    """Steps that shrink where gradients have been large (Duchi, Hazan & Singer 2011).

    Args:
        lr: > 0, or a schedule; at step t it is divided by 1 + (t - 1) lr_decay.
        lr_decay, weight_decay (coupled), initial_accumulator_value, eps: >= 0.

    State: square_sum.
    """

    arguments = ("lr_decay", "weight_decay", "initial_accumulator_value", "eps")

    def __init__(
        self,
        params: np.ndarray,
        lr: LearningRate = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        ops: ModuleType = kernels,
    ) -> None:
        super().__init__(params, lr, ops)
        self.lr_decay = self._number("lr_decay", lr_decay)
        self.weight_decay = self._number("weight_decay", weight_decay)
        self.initial_accumulator_value = self._number("initial_accumulator_value", initial_accumulator_value)
        self.eps = self._number("eps", eps)
        self._allocate("square_sum", value=self.initial_accumulator_value)

    def _update(self, grads: np.ndarray, lr: float) -> None:
        lr = lr / (1 + (self.t - 1) * self.lr_decay)
        self.ops.adagrad_update(self.params, self.state["square_sum"], grads, lr, self.eps, self.weight_decay)


class Adadelta(Optimizer):
    """Steps with the unit of the parameters: no rate to tune, in the paper (Zeiler 2012).

    Args:
        lr: > 0, or a schedule; the paper's is 1.
        rho: in [0, 1); the paper's is 0.95. eps, weight_decay (coupled): >= 0.

    State: v, v_delta.
    """

    arguments = ("rho", "eps", "weight_decay")

    def __init__(
        self,
        params: np.ndarray,
        lr: LearningRate = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        ops: ModuleType = kernels,
    ) -> None:
        super().__init__(params, lr, ops)
        self.rho = self._number("rho", rho, 1)
        self.eps = self._number("eps", eps)
        self.weight_decay = self._number("weight_decay", weight_decay)
        self._rho = self._rounded(self.rho)
        self._allocate("v")
        self._allocate("v_delta")

    def _update(self, grads: np.ndarray, lr: float) -> None:
        v, v_delta = self.state["v"], self.state["v_delta"]
        self.ops.adadelta_update(self.params, v, v_delta, grads, lr, self._rho, self.eps, self.weight_decay)


class RMSprop(Optimizer):
    """Gradients over their running root mean square (Tieleman & Hinton 2012), centred and with momentum as Graves 2013.

    Args:
        lr: > 0, or a schedule.
        alpha: decay of the running means, in [0, 1). eps, weight_decay (coupled): >= 0. momentum: in [0, 1).
        centered: divide by the standard deviation of the gradient instead.

    State: v; m when centred; momentum_buffer with momentum.
    """

    arguments = ("alpha", "eps", "weight_decay", "momentum", "centered")

    def __init__(
        self,
        params: np.ndarray,
        lr: LearningRate = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        ops: ModuleType = kernels,
    ) -> None:
        super().__init__(params, lr, ops)
        self.alpha = self._number("alpha", alpha, 1)
        self.eps = self._number("eps", eps)
        self.weight_decay = self._number("weight_decay", weight_decay)
        self.momentum = self._number("momentum", momentum, 1)
        self.centered = self._flag("centered", centered)
        self._alpha, self._momentum = self._rounded(self.alpha), self._rounded(self.momentum)
        self._allocate("v")
        self._allocate("m", used=self.centered)
        self._allocate("momentum_buffer", used=self.momentum > 0)

    def _update(self, grads: np.ndarray, lr: float) -> None:
        v, m, buffer = self.state["v"], self._array("m"), self._array("momentum_buffer")
        self.ops.rmsprop_update(
            self.params, v, m, buffer, grads, lr, self._alpha, self.eps, self._momentum, self.weight_decay
        )


class Lion(Optimizer):
    """Steps of one size, lr, by the sign of a running mean (Chen et al. 2023, algorithm 2; PyTorch has none).

    Args:
        lr: > 0, or a schedule; 3 to 10 times below AdamW's.
        betas: the weight of m in the step, and the decay of m, each in [0, 1).
        weight_decay: >= 0, decoupled; 3 to 10 times above AdamW's.

    State: m.
    """

    arguments = ("betas", "weight_decay")

    def __init__(
        self,
        params: np.ndarray,
        lr: LearningRate = 1e-4,
        betas: Betas = (0.9, 0.99),
        weight_decay: float = 0.0,
        ops: ModuleType = kernels,
    ) -> None:
        super().__init__(params, lr, ops)
        self.betas = self._check_betas(betas)
        self.weight_decay = self._number("weight_decay", weight_decay)
        self._betas = self._rounded(self.betas[0]), self._rounded(self.betas[1])
        self._allocate("m")

    def _update(self, grads: np.ndarray, lr: float) -> None:
        self.ops.lion_update(self.params, self.state["m"], grads, lr, *self._betas, lr * self.weight_decay)

"""What every layer is: shapes, parameters, buffers, and what is kept between forward and backward. No arithmetic.

A layer is written once and runs on either floor: `self.ops` is the module reference or kernels. A subclass declares
shapes in `build` and calls operations in `_forward` and `_backward`; this class checks what comes in, hands out
buffers, and makes sure that a backward pass follows its own forward pass.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from scratchnet.arrays import Shape, check_array, is_sparse, show_shape
from scratchnet.attributes import assigned_once

DETACHED = (
    "{owner}.{name} is a view into the net's flat array, and assigning would detach it; write layer.{name}[...] = value"
)

FIXED = "{owner}.{name}: expected to stay what the layer was made with; make another layer, and a net of it"
EARLY = (
    "{owner}.{name}: expected no value before the layer is in a net, which makes the array and fills it; "
    "write layer.{name}[...] = value once there is a net"
)
STATE = "{owner}.{name}: expected to stay the array that the layer made; write layer.{name}[...] = value"


class Layer:
    """A step of a net, from (N, *input_shape) to (N, *output_shape).

    Attributes:
        input_shape, output_shape: of one example, without N. Known after `build`.
        parameter_shapes: name -> shape of each trained array, in the order in which the net stores them.
        layers: the layers inside this one, for a layer made of layers.
        use_bias: False for a Dense or Conv2d made with bias=False.
        ops, dtype: the floor and precision it runs on; set by the net.
    """

    input_shape: Shape = assigned_once("input_shape", FIXED, once="_bound")
    output_shape: Shape = assigned_once("output_shape", FIXED, once="_bound")
    ops: ModuleType = assigned_once("ops", FIXED, once="_bound")
    dtype: np.dtype[Any] = assigned_once("dtype", FIXED, once="_bound")
    bias: np.ndarray
    dbias: np.ndarray
    layers: tuple[Layer, ...] = ()
    use_bias = True

    def __init__(self) -> None:
        self.parameter_shapes: dict[str, Shape] = {}
        self._buffer_shapes: dict[str, tuple[Shape, Any]] = {}  # name -> (shape of one example, dtype or None)
        self._buffers: dict[str, np.ndarray] = {}
        self._kept: tuple | None = None
        self._x_shape: Shape | None = None  # of the last batch forward, and of what backward takes after it
        self._dy_shape: Shape | None = None
        self._bound = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Refuse copy.deepcopy and pickle once there is a net: the copy's weights would lie in no net's flat array."""
        if self._bound:
            raise TypeError(f"{self._name()}: expected to stay one object, which is in a net; make another layer")
        return super().__reduce_ex__(protocol)

    # --- what a subclass writes --------------------------------------------------------------------------------------

    def build(self, input_shape: Shape) -> Shape:
        """Fix all shapes, as the attributes say, for inputs of (N, *input_shape); return the output shape, without N.

        Raises:
            ValueError: this layer can't follow a layer of that output shape.
        """
        raise NotImplementedError

    def initialize(self, rng: np.random.Generator) -> None:
        """Write the first values of the parameters; nothing to do without parameters."""

    def _forward(self, x: Any, train: bool) -> np.ndarray:
        """Return y; when `train`, put what backward needs into `self._kept`."""
        raise NotImplementedError

    def _backward(self, dy: np.ndarray, kept: tuple, input_gradient: bool) -> np.ndarray | None:
        """Overwrite the parameter gradients; return dx, or None where it is not asked for."""
        raise NotImplementedError

    # --- what a user calls -------------------------------------------------------------------------------------------

    def forward(self, x: Any, train: bool = False) -> np.ndarray:
        """Compute the output for a batch.

        Args:
            x: (N, *input_shape), N >= 1, of the net's dtype. Read, and needed again by backward when `train`.
            train: keep what backward needs (dropout and batch norm behave as in training).

        Returns:
            (N, *output_shape), a buffer of the layer, valid until its next forward, or a view of x: do not write to it.

        Raises:
            TypeError, ValueError: x has another dtype or shape, or no rows.
            RuntimeError: the layer is in no net.
        """
        if not self._is_ready(x, self._x_shape):
            self._require_net()
            x = self._check_batch(x)
            self._x_shape, self._dy_shape = x.shape, (x.shape[0], *self.output_shape)
        self._kept = None
        if train and type(x) is np.ndarray:
            x = x.view()  # of a shape of its own, which backward counts on
        y = self._forward(x, train)
        if not (self._is_ready(y, self._dy_shape) or is_sparse(y)):  # kernels count on what a user's layer returns, too
            y = check_array(f"{self._name()}._forward: what it returned", y, self.dtype, self._dy_shape)
        return y

    def backward(self, dy: np.ndarray, input_gradient: bool = True) -> np.ndarray | None:
        """Compute the gradients of the last training batch, overwriting the earlier ones.

        Args:
            dy: (N, *output_shape): dLoss/dy. Read.
            input_gradient: False skips dx, which the first layer of a net has no use for.

        Returns:
            dx, (N, *input_shape), a buffer of the layer, or a view of dy: do not write to it. None without
            `input_gradient`.

        Raises:
            RuntimeError: no forward(x, train=True) came before, or it was used up by an earlier backward.
            TypeError, ValueError: dy has another dtype or shape; `input_gradient` is asked of a CSR batch, or the batch
                was changed since.
        """
        if self._kept is None:
            raise RuntimeError(
                f"{self._name()}.backward: expected a forward(x, train=True) just before, found none left; "
                "each training forward serves one backward, a forward without train=True discards it, and layers that "
                "a net runs as one keep nothing (make the net with join=False to call each by itself); a layer of your "
                "own sets self._kept in _forward"
            )
        if not self._is_ready(dy, self._dy_shape):
            dy = check_array(f"{self._name()}.backward: dy", dy, self.dtype, self._dy_shape)
        kept, self._kept = self._kept, None
        dx = self._backward(dy, kept, input_gradient)
        if input_gradient and not self._is_ready(dx, self._x_shape):
            dx = check_array(f"{self._name()}._backward: what it returned", dx, self.dtype, self._x_shape)
        return dx

    def state(self) -> dict[str, np.ndarray]:
        """What a layer keeps beside its parameters, by name; a checkpoint saves it, and writes in place to restore."""
        return {}

    def kinks(self) -> np.ndarray | None:
        """Which side of its kinks each number of the last forward fell on, as integers; None where there are none."""
        return None

    def memory(self, batch_size: int, input_gradient: bool = True) -> int:
        """Bytes of the buffers that a training step on a dense batch of `batch_size` uses, with dx or without."""
        own = sum(
            batch_size * int(np.prod(shape, dtype=object)) * np.dtype(dtype or self.dtype).itemsize
            for name, (shape, dtype) in self._buffer_shapes.items()
            if name != "dx" or input_gradient
        )
        return own + sum(layer.memory(batch_size, input_gradient or i > 0) for i, layer in enumerate(self.layers))

    # --- what the net and subclasses use -----------------------------------------------------------------------------

    def bind(
        self, ops: ModuleType, dtype: np.dtype, params: dict[str, np.ndarray], grads: dict[str, np.ndarray]
    ) -> None:
        """Attach the floor, and the views into the net's flat arrays as `name` and `dname`."""
        self.ops, self.dtype = ops, dtype
        views = {**params, **{f"d{name}": grad for name, grad in grads.items()}}
        if not self.use_bias:  # the operations always add one: zeros here, and a gradient nobody reads
            units = self.output_shape[-1]
            views |= {"bias": np.zeros(units, dtype), "dbias": np.empty(units, dtype)}
        for name, view in views.items():
            if vars(self).get(name, vars(self).get(f"_{name}")) is not None:
                raise AttributeError(EARLY.format(owner=self._name(), name=name))
            if not isinstance(getattr(type(self), name, None), property):
                setattr(type(self), name, assigned_once(name, DETACHED))
            setattr(self, f"_{name}", view)
        self._bound = True

    def seed_with(self, seed: int, index: int) -> None:
        """Take the net's seed and this layer's number in it; for layers that draw random numbers while training."""

    def _declare_buffer(self, name: str, shape: Shape, dtype: Any = None) -> None:
        """Announce a buffer of (N, *shape), of the net's dtype unless another is given."""
        self._buffer_shapes[name] = (shape, dtype)

    def _buffer(self, name: str, rows: int) -> np.ndarray:
        """The declared buffer for a batch of `rows`: allocated once for the largest batch, a slice of it for others."""
        held = self._buffers.get(name)
        if held is None or len(held) < rows:
            shape, dtype = self._buffer_shapes[name]
            held = self._buffers[name] = np.empty((rows, *shape), dtype or self.dtype)
        return held if len(held) == rows else held[:rows]

    def _is_ready(self, batch: Any, shape: Shape | None) -> bool:
        """Whether a batch passes every check and needs no copy, asked at once: so it is at each step inside a net."""
        return type(batch) is np.ndarray and batch.shape == shape and batch.dtype is self.dtype and batch.flags.carray

    def _check_batch(self, x: Any) -> Any:
        if getattr(x, "dtype", None) == np.uint8:
            raise TypeError(
                f"{self._name()}.forward: x: expected dtype {self.dtype}, got uint8 pixels; scale them as training "
                f'does, with scratchnet.data.scale(x, "{self.dtype}")'
            )
        x = check_array(f"{self._name()}.forward: x", x, self.dtype, (None, *self.input_shape))
        if x.shape[0] == 0:
            raise ValueError(f"{self._name()}.forward: x: expected at least one row, got shape {show_shape(x.shape)}")
        return x

    def _require_net(self) -> None:
        if not self._bound:
            raise RuntimeError(
                f"{self._name()}: a layer works inside a net; make one with Sequential([...], input_shape)"
            )

    def _fill(self, init: Any, array: np.ndarray, rng: np.random.Generator) -> None:
        """Let an initializer write its values."""
        if (returned := init(array, rng)) is not None:
            raise TypeError(
                f"{self._name()}: init: expected a function that writes into its first argument and returns nothing, "
                f"as initializers.he_normal does, got one that returned {type(returned).__name__}"
            )

    def _name(self) -> str:
        return type(self).__name__

    def _require_rank(self, input_shape: Shape, rank: int, meaning: str, remedy: str) -> None:
        """Refuse an input whose examples do not have `rank` axes."""
        if len(input_shape) != rank:
            raise ValueError(
                f"{self._name()}: expected examples of shape {meaning}, got {show_shape(input_shape)}; {remedy}"
            )

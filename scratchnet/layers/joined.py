"""Neighbours that run as one.

    Conv2d, ReLU, MaxPool2d      the images in between never go to memory
    ReLU, MaxPool2d              behind anything else: what is pooled is rectified, not the whole image
    Dense, ReLU, Dense, ...      small layers are computed in one call; ReLU writes over what it reads

They keep their parameters, and each still works by itself when called by hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import Any

import numpy as np

from scratchnet.layers.activations import ReLU
from scratchnet.layers.base import Layer
from scratchnet.layers.conv import Conv2d
from scratchnet.layers.dense import Dense
from scratchnet.layers.pool import MaxPool2d


class _Joined(Layer):
    """Built layers of a net that run in one operation: `chain`, in their order."""

    chain: tuple[Layer, ...]

    def __repr__(self) -> str:
        return ", ".join(map(repr, self.chain))

    def _name(self) -> str:
        return ", ".join(type(layer).__name__ for layer in self.chain)


class ConvReLUPool(_Joined):
    """Run three built layers of a net in one operation; this holds the buffers.

    After a forward here, ReLU.kinks() tells the sides of the cells that won, and MaxPool2d.kinks() which ones did.
    """

    def __init__(self, conv: Conv2d, relu: ReLU, pool: MaxPool2d) -> None:
        super().__init__()
        self.conv, self.relu, self.pool = self.chain = conv, relu, pool
        self.input_shape, self.output_shape = conv.input_shape, pool.output_shape
        self._declare_buffer("y", self.output_shape)
        self._declare_buffer("index", self.output_shape, np.uint8)
        self._declare_buffer("dx", self.input_shape)
        self._windows = (
            (conv.output_shape[0], conv.output_shape[1]), conv.stride, conv._before,
            pool.kernel_size, pool.stride, pool._before,
        )  # fmt: skip

    def _forward(self, x: Any, train: bool) -> np.ndarray:
        conv, y, index = self.conv, self._buffer("y", x.shape[0]), self._buffer("index", x.shape[0])  # (N, PH, PW, U)
        self.ops.conv2d_relu_max_pool2d_forward(y, index, x, conv.weight, conv.bias, *self._windows)
        self.relu._last, self.pool._last = y, index
        if train:
            self._kept = (x, y, index)
        return y

    def _backward(self, dy: np.ndarray, kept: tuple, input_gradient: bool) -> np.ndarray | None:
        (x, y, index), conv = kept, self.conv
        dx = self._buffer("dx", x.shape[0]) if input_gradient else np.empty(0, self.dtype)  # (N, H, W, C)
        self.ops.conv2d_relu_max_pool2d_backward(
            dx, conv.dweight, conv.dbias, dy, y, index, x, conv.weight, *self._windows
        )
        return dx if input_gradient else None


class ReLUPool(_Joined):
    """Run two built layers of a net in one operation; this holds the buffers. kinks() as after ConvReLUPool."""

    def __init__(self, relu: ReLU, pool: MaxPool2d) -> None:
        super().__init__()
        self.relu, self.pool = self.chain = relu, pool
        self.input_shape, self.output_shape = relu.input_shape, pool.output_shape
        self._declare_buffer("y", self.output_shape)
        self._declare_buffer("index", self.output_shape, np.uint8)
        self._declare_buffer("dx", self.input_shape)
        self._windows = pool.kernel_size, pool.stride, pool._before

    def _forward(self, x: Any, train: bool) -> np.ndarray:
        y, index = self._buffer("y", x.shape[0]), self._buffer("index", x.shape[0])  # (N, OH, OW, C)
        self.ops.relu_max_pool2d_forward(y, index, x, *self._windows)
        self.relu._last, self.pool._last = y, index
        if train:
            self._kept = (y, index)
        return y

    def _backward(self, dy: np.ndarray, kept: tuple, input_gradient: bool) -> np.ndarray | None:
        if not input_gradient:
            return None
        dx = self._buffer("dx", dy.shape[0])  # (N, H, W, C)
        self.ops.relu_max_pool2d_backward(dx, dy, *kept, *self._windows)
        return dx


class DenseChain(_Joined):
    """Run built layers of a net, Dense with ReLU between them, in one operation; this holds the buffers.

    A CSR batch goes through them one by one.

    Attributes:
        params, dparams: (P,) the part of the net's flat arrays in which their parameters lie.
    """

    params: np.ndarray
    dparams: np.ndarray
    _ys: np.ndarray
    _outputs: list[np.ndarray]

    def __init__(self, chain: Sequence[Dense | ReLU]) -> None:
        super().__init__()
        self.chain = tuple(chain)
        dense = [layer for layer in chain if isinstance(layer, Dense)]
        self.input_shape, self.output_shape = dense[0].input_shape, dense[-1].output_shape
        self.parameter_shapes = {"params": (sum((layer.input_shape[0] + 1) * layer.units for layer in dense),)}
        self._widths = (self.input_shape[0], *(layer.units for layer in dense))
        self._relus = [layer for layer in chain if isinstance(layer, ReLU)]
        self._rectify_last = isinstance(self.chain[-1], ReLU)
        self._rows = 0
        for name in ("ys", "dzs"):
            self._declare_buffer(name, (sum(self._widths[1:]),))
        self._declare_buffer("dx", self.input_shape)

    def _check_batch(self, x: Any) -> Any:
        return self.chain[0]._check_batch(x)

    def _forward(self, x: Any, train: bool) -> np.ndarray:
        if train:
            self._kept = (x,)
        if type(x) is not np.ndarray:
            for layer in self.chain:
                x = layer.forward(x, train)
            return x
        if x.shape[0] != self._rows:
            self._cut(x.shape[0])
        self.ops.dense_chain_forward(self._ys, x, self.params, self._widths, self._rectify_last)
        for relu, y in zip(self._relus, self._outputs):
            relu._last = y
        return self._outputs[-1]

    def _cut(self, rows: int) -> None:
        """Take the buffer of the outputs as the operation wants it, and cut each output out of it."""
        self._rows, ends = rows, rows * np.cumsum(self._widths[1:-1])
        self._ys = self._buffer("ys", rows).reshape(-1)
        self._outputs = [y.reshape(rows, -1) for y in np.split(self._ys, ends)]

    def _backward(self, dy: np.ndarray, kept: tuple, input_gradient: bool) -> np.ndarray | None:
        (x,) = kept
        if type(x) is not np.ndarray:
            gradient: Any = dy
            for layer in reversed(self.chain):
                gradient = layer.backward(gradient, input_gradient or layer is not self.chain[0])
            return gradient
        rows = x.shape[0]
        dx = self._buffer("dx", rows) if input_gradient else np.empty((0, 0), self.dtype)  # (N, D)
        dzs = self._buffer("dzs", rows).reshape(-1)
        self.ops.dense_chain_backward(
            dx, self.dparams, dzs, dy, self._ys, x, self.params, self._widths, self._rectify_last
        )
        return dx if input_gradient else None


def join_layers(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """Return the steps that a chain of built layers runs in: layers, and what joins some of them.

    Only the classes themselves are joined: a subclass may compute something else.
    """
    steps: list[Layer] = []
    rest = list(layers)
    while rest:
        if [type(layer) for layer in rest[:3]] == [Conv2d, ReLU, MaxPool2d]:
            steps.append(ConvReLUPool(*rest[:3]))  # type: ignore[arg-type]
        elif [type(layer) for layer in rest[:2]] == [ReLU, MaxPool2d]:
            steps.append(ReLUPool(*rest[:2]))  # type: ignore[arg-type]
        elif (length := _chain_length(rest)) > 1:
            steps.append(DenseChain(rest[:length]))  # type: ignore[arg-type]
        else:
            steps.append(rest[0])
        del rest[: len(members(steps[-1]))]
    return tuple(steps)


def _chain_length(layers: Sequence[Layer]) -> int:
    """How many layers from the first on are a DenseChain: Dense, ReLU, Dense, ..., each Dense with its bias."""
    length = 0
    for layer, kind in zip(layers, cycle((Dense, ReLU))):
        if type(layer) is not kind or not layer.use_bias:
            break
        length += 1
    return length


def members(step: Layer) -> tuple[Layer, ...]:
    """The layers of the net that a step runs."""
    return step.chain if isinstance(step, _Joined) else (step,)

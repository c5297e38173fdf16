"""Neighbours that run as one: Conv2d, ReLU, MaxPool2d, whose images in between then never go to memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from scratchnet.layers.activations import ReLU
from scratchnet.layers.base import Layer
from scratchnet.layers.conv import Conv2d
from scratchnet.layers.pool import MaxPool2d


class ConvReLUPool(Layer):
    """Run three built layers of a net in one operation. They keep their parameters; this holds the buffers.

    Each still works by itself when called by hand. After a forward here, ReLU.kinks() tells the sides of the cells that
    won, and MaxPool2d.kinks() which ones did.
    """

    def __init__(self, conv: Conv2d, relu: ReLU, pool: MaxPool2d) -> None:
        super().__init__()
        self.conv, self.relu, self.pool = conv, relu, pool
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

    def __repr__(self) -> str:
        return f"{self.conv!r}, {self.relu!r}, {self.pool!r}"

    def _name(self) -> str:
        return "Conv2d, ReLU, MaxPool2d"


JOINED = (Conv2d, ReLU, MaxPool2d)


def join_layers(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """Return the steps that a chain of built layers runs in: layers, and what joins some of them.

    Only the classes themselves are joined: a subclass may compute something else.
    """
    steps: list[Layer] = []
    rest = list(layers)
    while rest:
        if tuple(map(type, rest[:3])) == JOINED:
            steps.append(ConvReLUPool(*rest[:3]))  # type: ignore[arg-type]
        else:
            steps.append(rest[0])
        del rest[: len(members(steps[-1]))]
    return tuple(steps)


def members(step: Layer) -> tuple[Layer, ...]:
    """The layers of the net that a step runs."""
    return (step.conv, step.relu, step.pool) if isinstance(step, ConvReLUPool) else (step,)

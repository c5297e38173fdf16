"""Pooling layers: fewer pixels, the same channels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from scratchnet.arrays import Shape, check_pair
from scratchnet.attributes import assigned_once
from scratchnet.layers.base import FIXED, Layer
from scratchnet.layers.windows import Pair, check_padding, place_windows, show_windows


class _Pool2d(Layer):
    """What both window poolings share: their arguments, shapes and buffers."""

    kernel_size: Pair = assigned_once("kernel_size", FIXED)
    stride: Pair = assigned_once("stride", FIXED)
    padding: Pair | str = assigned_once("padding", FIXED)

    def __init__(
        self, kernel_size: int | Pair, stride: int | Pair | None = None, padding: int | Pair | str = 0
    ) -> None:
        super().__init__()
        name = self._name()
        self.kernel_size = check_pair(f"{name}: kernel_size", kernel_size, minimum=1)
        self.stride = self.kernel_size if stride is None else check_pair(f"{name}: stride", stride, minimum=1)
        most = self.kernel_size[0] // 2, self.kernel_size[1] // 2
        self.padding = check_padding(f"{name}: padding", padding, self.kernel_size, most, "that is half the kernel")

    def __repr__(self) -> str:
        return f"{self._name()}({show_windows(self.kernel_size, self.stride, self.kernel_size, self.padding)})"

    def build(self, input_shape: Shape) -> Shape:
        self._require_rank(input_shape, 3, "(H, W, C)", "pool images, before Flatten()")
        size, self._before = place_windows(self._name(), input_shape, self.kernel_size, self.stride, self.padding)
        self.input_shape, self.output_shape = input_shape, (*size, input_shape[2])
        self._declare_buffer("y", self.output_shape)
        self._declare_buffer("dx", input_shape)
        return self.output_shape


class MaxPool2d(_Pool2d):
    """Take the largest value of each window: (N, H, W, C) -> (N, OH, OW, C).

    Args:
        kernel_size: (KH, KW), or one integer for both; at most 256 cells.
        stride: (rows, columns) from one window to the next, or one integer; None takes kernel_size.
        padding: cells around the image, which never win: an integer or (rows, columns), at most half the kernel,
            "same" or "valid".
    """

    _last: np.ndarray | None = None

    def __init__(
        self, kernel_size: int | Pair, stride: int | Pair | None = None, padding: int | Pair | str = 0
    ) -> None:
        super().__init__(kernel_size, stride, padding)
        cells = math.prod(self.kernel_size)
        if cells > 256:
            raise ValueError(
                f"MaxPool2d: kernel_size: expected at most 256 cells, because the winner is kept in one byte, "
                f"got {self.kernel_size} = {cells}; pool twice, or use GlobalAvgPool2d"
            )

    def build(self, input_shape: Shape) -> Shape:
        super().build(input_shape)
        self._declare_buffer("index", self.output_shape, np.uint8)
        return self.output_shape

    def kinks(self) -> np.ndarray | None:
        return None if self._last is None else self._last.copy()

    def _forward(self, x: Any, train: bool) -> np.ndarray:
        y, index = self._buffer("y", x.shape[0]), self._buffer("index", x.shape[0])  # (N, OH, OW, C)
        self.ops.max_pool2d_forward(y, index, x, self.kernel_size, self.stride, self._before)
        self._last = index
        if train:
            self._kept = (index,)
        return y

    def _backward(self, dy: np.ndarray, kept: tuple, input_gradient: bool) -> np.ndarray | None:
        if not input_gradient:
            return None
        (index,) = kept
        dx = self._buffer("dx", dy.shape[0])  # (N, H, W, C)
        self.ops.max_pool2d_backward(dx, dy, index, self.kernel_size, self.stride, self._before)
        return dx


class AvgPool2d(_Pool2d):
    """Take the mean of each window: (N, H, W, C) -> (N, OH, OW, C). Padding counts as zeros.

    Args:
        kernel_size: (KH, KW), or one integer for both.
        stride: (rows, columns) from one window to the next, or one integer; None takes kernel_size.
        padding: zeros around the image: an integer or (rows, columns), at most half the kernel, "same" or "valid".
    """

    def _forward(self, x: Any, train: bool) -> np.ndarray:
        y = self._buffer("y", x.shape[0])  # (N, OH, OW, C)
        self.ops.avg_pool2d_forward(y, x, self.kernel_size, self.stride, self._before)
        if train:
            self._kept = (y,)  # for its number of rows: the derivative depends on nothing
        return y

    def _backward(self, dy: np.ndarray, kept: tuple, input_gradient: bool) -> np.ndarray | None:
        if not input_gradient:
            return None
        dx = self._buffer("dx", dy.shape[0])  # (N, H, W, C)
        self.ops.avg_pool2d_backward(dx, dy, self.kernel_size, self.stride, self._before)
        return dx


class GlobalAvgPool2d(Layer):
    """Take the mean of each channel over the whole image: (N, H, W, C) -> (N, C)."""

    def build(self, input_shape: Shape) -> Shape:
        self._require_rank(input_shape, 3, "(H, W, C)", "pool images, before Flatten()")
        self.input_shape, self.output_shape = input_shape, (input_shape[2],)
        self._declare_buffer("y", self.output_shape)
        self._declare_buffer("dx", input_shape)
        return self.output_shape

    def _forward(self, x: Any, train: bool) -> np.ndarray:
        y = self._buffer("y", x.shape[0])  # (N, C)
        self.ops.global_avg_pool2d_forward(y, x)
        if train:
            self._kept = (y,)  # for its number of rows
        return y

    def _backward(self, dy: np.ndarray, kept: tuple, input_gradient: bool) -> np.ndarray | None:
        if not input_gradient:
            return None
        dx = self._buffer("dx", dy.shape[0])  # (N, H, W, C)
        self.ops.global_avg_pool2d_backward(dx, dy)
        return dx

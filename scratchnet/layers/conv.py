"""The convolution layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from scratchnet.arrays import Shape, check_callable, check_flag, check_integer, check_pair
from scratchnet.attributes import assigned_once
from scratchnet.initializers import Initializer, he_normal
from scratchnet.layers.base import FIXED, Layer
from scratchnet.layers.windows import Pair, check_padding, place_windows, show_windows


class Conv2d(Layer):
    """Compute one weighted sum per place and output channel: (N, H, W, C) -> (N, OH, OW, U).

    Args:
        channels: U, the number of output channels; those of the input, C, are found by the net.
        kernel_size: (KH, KW), or one integer for both.
        stride: (rows, columns) from one window to the next, or one integer for both.
        padding: zeros around the image: an integer or (rows, columns), less than the kernel; "same" keeps the image's
            size (at stride 1), "valid" is 0.
        bias: False leaves the bias out, for a layer that batch norm follows.
        init: fills `weight`; the bias starts at 0.

    Attributes:
        weight, dweight: (KH, KW, C, U). bias, dbias: (U,).
    """

    weight: np.ndarray
    dweight: np.ndarray
    kernel_size: Pair = assigned_once("kernel_size", FIXED)
    stride: Pair = assigned_once("stride", FIXED)
    padding: Pair | str = assigned_once("padding", FIXED)

    def __init__(
        self,
        channels: int,
        kernel_size: int | Pair,
        *,  # or Conv2d(3, 64, 5), as one writes it elsewhere, would be 3 channels, a kernel of 64 and a stride of 5
        stride: int | Pair = 1,
        padding: int | Pair | str = 0,
        bias: bool = True,
        init: Initializer = he_normal,
    ) -> None:
        super().__init__()
        self.channels = check_integer("Conv2d: channels", channels, minimum=1)
        self.kernel_size = check_pair("Conv2d: kernel_size", kernel_size, minimum=1)
        self.stride = check_pair("Conv2d: stride", stride, minimum=1)
        most = self.kernel_size[0] - 1, self.kernel_size[1] - 1
        why = "with more, windows would lie in the padding alone"
        self.padding = check_padding("Conv2d: padding", padding, self.kernel_size, most, why)
        self.use_bias = check_flag("Conv2d: bias", bias, "the net finds the channels of its input")
        self.init = check_callable("Conv2d: init", init, "initializers.he_normal")

    def __repr__(self) -> str:
        shown = show_windows(self.kernel_size, self.stride, (1, 1), self.padding)
        return f"Conv2d({self.channels}, {shown}{'' if self.use_bias else ', bias=False'})"

    def build(self, input_shape: Shape) -> Shape:
        self._require_rank(input_shape, 3, "(H, W, C)", "convolve images, before Flatten()")
        size, self._before = place_windows("Conv2d", input_shape, self.kernel_size, self.stride, self.padding)
        self.parameter_shapes = {"weight": (*self.kernel_size, input_shape[2], self.channels)}
        if self.use_bias:
            self.parameter_shapes["bias"] = (self.channels,)
        self.input_shape, self.output_shape = input_shape, (*size, self.channels)
        self._declare_buffer("y", self.output_shape)
        self._declare_buffer("dx", input_shape)
        return self.output_shape

    def initialize(self, rng: np.random.Generator) -> None:
        self._fill(self.init, self.weight, rng)
        self.bias[...] = 0

    def _forward(self, x: Any, train: bool) -> np.ndarray:
        y = self._buffer("y", x.shape[0])  # (N, OH, OW, U)
        self.ops.conv2d_forward(y, x, self.weight, self.bias, self.stride, self._before)
        if train:
            self._kept = (x,)
        return y

    def _backward(self, dy: np.ndarray, kept: tuple, input_gradient: bool) -> np.ndarray | None:
        (x,) = kept
        self.ops.conv2d_backward_weight(self.dweight, self.dbias, x, dy, self.stride, self._before)
        if not input_gradient:
            return None
        dx = self._buffer("dx", x.shape[0])  # (N, H, W, C)
        self.ops.conv2d_backward_input(dx, dy, self.weight, self.stride, self._before)
        return dx

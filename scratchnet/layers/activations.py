"""Activations: a function of one number, applied to every element. Examples of any shape go in and come out."""

from __future__ import annotations

from typing import Any

import numpy as np

from scratchnet.arrays import Shape, check_number
from scratchnet.layers.base import Layer


class _Activation(Layer):
    """What all activations share. A subclass names its two operations, and whether backward reads y or x."""

    keeps_output = True

    def _apply(self, y: np.ndarray, x: np.ndarray) -> None:
        """Write y."""
        raise NotImplementedError

    def _differentiate(self, dx: np.ndarray, dy: np.ndarray, kept: np.ndarray) -> None:
        """Write dx; `kept` is y where `keeps_output`, else x."""
        raise NotImplementedError

    def build(self, input_shape: Shape) -> Shape:
        self._declare_buffer("y", input_shape)
        self._declare_buffer("dx", input_shape)
        self.input_shape = self.output_shape = input_shape
        return self.output_shape

    def _forward(self, x: Any, train: bool) -> np.ndarray:
        y = self._buffer("y", x.shape[0])  # (N, ...)
        self._apply(y, x)
        if train:
            self._kept = (y if self.keeps_output else x,)
        return y

    def _backward(self, dy: np.ndarray, kept: tuple, input_gradient: bool) -> np.ndarray | None:
        if not input_gradient:
            return None
        dx = self._buffer("dx", dy.shape[0])  # (N, ...)
        self._differentiate(dx, dy, *kept)
        return dx


class _Rectifier(_Activation):
    """An activation with a kink at 0: the output is positive where the input is."""

    _last: np.ndarray | None = None

    def _forward(self, x: Any, train: bool) -> np.ndarray:
        self._last = super()._forward(x, train)
        return self._last

    def kinks(self) -> np.ndarray | None:
        return None if self._last is None else (self._last > 0).astype(np.int8)


class ReLU(_Rectifier):
    """Compute y = max(x, 0) (Nair & Hinton 2010)."""

    def _apply(self, y: np.ndarray, x: np.ndarray) -> None:
        self.ops.relu_forward(y, x)

    def _differentiate(self, dx: np.ndarray, dy: np.ndarray, kept: np.ndarray) -> None:
        self.ops.relu_backward(dx, dy, kept)


class LeakyReLU(_Rectifier):
    """Compute y = x where x > 0, else slope x (Maas et al. 2013).

    Args:
        slope: >= 0; 0 makes it ReLU for finite x.
    """

    keeps_output = False

    def __init__(self, slope: float = 0.01) -> None:
        super().__init__()
        self.slope = check_number("LeakyReLU: slope", slope, low=0)

    def __repr__(self) -> str:
        return f"LeakyReLU({self.slope:g})"

    def _apply(self, y: np.ndarray, x: np.ndarray) -> None:
        self.ops.leaky_relu_forward(y, x, self.slope)

    def _differentiate(self, dx: np.ndarray, dy: np.ndarray, kept: np.ndarray) -> None:
        self.ops.leaky_relu_backward(dx, dy, kept, self.slope)


class Sigmoid(_Activation):
    """Compute y = 1 / (1 + exp(-x)). Before binary_cross_entropy leave it out: that takes logits."""

    def _apply(self, y: np.ndarray, x: np.ndarray) -> None:
        self.ops.sigmoid_forward(y, x)

    def _differentiate(self, dx: np.ndarray, dy: np.ndarray, kept: np.ndarray) -> None:
        self.ops.sigmoid_backward(dx, dy, kept)


class Tanh(_Activation):
    """Compute y = tanh(x)."""

    def _apply(self, y: np.ndarray, x: np.ndarray) -> None:
        self.ops.tanh_forward(y, x)

    def _differentiate(self, dx: np.ndarray, dy: np.ndarray, kept: np.ndarray) -> None:
        self.ops.tanh_backward(dx, dy, kept)


class Softplus(_Activation):
    """Compute y = log(1 + exp(x)), a ReLU without a kink (Dugas et al. 2001)."""

    keeps_output = False

    def _apply(self, y: np.ndarray, x: np.ndarray) -> None:
        self.ops.softplus_forward(y, x)

    def _differentiate(self, dx: np.ndarray, dy: np.ndarray, kept: np.ndarray) -> None:
        self.ops.softplus_backward(dx, dy, kept)

"""A residual block: layers with a shortcut around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from scratchnet.arrays import Shape, show_shape
from scratchnet.layers.base import Layer


class Residual(Layer):
    """Compute y = x + f(x), f being a chain of layers that keeps the shape (He et al. 2016).

    Args:
        layers: the chain f; layer objects, used nowhere else.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        super().__init__()
        if not isinstance(layers, (list, tuple)):
            raise TypeError(
                f"Residual: layers: expected a list of layer objects, got {layers!r}; write Residual([...])"
            )
        self.layers = tuple(layers)
        if not self.layers:
            raise ValueError("Residual: expected at least one layer, got an empty list")
        for layer in self.layers:
            if not isinstance(layer, Layer):
                raise TypeError(f"Residual: expected layer objects, got {layer!r}; write e.g. Residual([ReLU()])")

    def __repr__(self) -> str:
        return f"Residual([{', '.join(map(repr, self.layers))}])"

    def build(self, input_shape: Shape) -> Shape:
        shape = input_shape
        for layer in self.layers:
            shape = layer.build(shape)
        if shape != input_shape:
            raise ValueError(
                f"Residual: expected its layers to keep the shape {show_shape(input_shape)}, because x is added to "
                f"their output, got {show_shape(shape)}; use as many units or channels as come in, stride 1 and "
                'padding="same"'
            )
        self._declare_buffer("y", input_shape)
        self._declare_buffer("dx", input_shape)
        self.input_shape = self.output_shape = input_shape
        return self.output_shape

    def _forward(self, x: Any, train: bool) -> np.ndarray:
        branch = x
        for layer in self.layers:
            branch = layer.forward(branch, train)
        y = self._buffer("y", x.shape[0])  # (N, ...)
        self.ops.residual_forward(y, x, branch)
        if train:
            self._kept = (x,)
        return y

    def _backward(self, dy: np.ndarray, kept: tuple, input_gradient: bool) -> np.ndarray | None:
        dbranch: Any = dy
        for i in range(len(self.layers) - 1, -1, -1):
            dbranch = self.layers[i].backward(dbranch, input_gradient or i > 0)
        if not input_gradient:
            return None
        dx = self._buffer("dx", dy.shape[0])  # (N, ...)
        self.ops.residual_backward(dx, dy, dbranch)
        return dx

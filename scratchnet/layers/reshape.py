"""Layers that only change the shape."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from scratchnet.arrays import Shape
from scratchnet.layers.base import Layer


class Flatten(Layer):
    """Lay an image out as a row of numbers: (N, H, W, C) -> (N, H W C). Copies nothing."""

    def build(self, input_shape: Shape) -> Shape:
        self.input_shape, self.output_shape = input_shape, (math.prod(input_shape),)
        return self.output_shape

    def _forward(self, x: Any, train: bool) -> np.ndarray:
        if train:
            self._kept = (x,)  # for its number of rows
        return x.reshape(x.shape[0], *self.output_shape)

    def _backward(self, dy: np.ndarray, kept: tuple, input_gradient: bool) -> np.ndarray | None:
        return dy.reshape(dy.shape[0], *self.input_shape) if input_gradient else None

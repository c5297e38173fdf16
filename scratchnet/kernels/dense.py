"""The dense layer: three products; equations in reference/dense.py."""

from __future__ import annotations

import numpy as np

from scratchnet.kernels.matmul import matmul


def dense_forward(y: np.ndarray, x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> None:
    """y = x W + b; see reference.dense_forward."""
    matmul(y, x, weight, bias)


def dense_backward_weight(dweight: np.ndarray, dbias: np.ndarray, x: np.ndarray, dy: np.ndarray) -> None:
    """dW = x^T dy, db = sum_n dy; see reference.dense_backward_weight."""
    matmul(dweight, x, dy, sums=dbias, turn_a=True)


def dense_backward_input(dx: np.ndarray, dy: np.ndarray, weight: np.ndarray) -> None:
    """dx = dy W^T; see reference.dense_backward_input."""
    matmul(dx, dy, weight, turn_b=True)

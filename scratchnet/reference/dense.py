"""The dense layer: every output unit is a weighted sum of all inputs."""

from __future__ import annotations

import numpy as np


def dense_forward(y: np.ndarray, x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> None:
    """Compute a dense layer.

        y[n, u] = sum_d x[n, d] weight[d, u] + bias[u]

    Args:
        y: (N, U) float. Written.
        x: (N, D), weight: (D, U), bias: (U,), same dtype. Read. NaN and infinity travel into y.
    """
    np.matmul(x, weight, out=y)
    y += bias


def dense_backward_weight(dweight: np.ndarray, dbias: np.ndarray, x: np.ndarray, dy: np.ndarray) -> None:
    """Differentiate a dense layer by its parameters.

        dweight[d, u] = sum_n x[n, d] dy[n, u]          dL/dW = x^T dL/dy
        dbias[u]      = sum_n dy[n, u]

    Args:
        dweight: (D, U), dbias: (U,). Overwritten.
        x: (N, D), dy: (N, U), same dtype. Read.
    """
    np.matmul(x.T, dy, out=dweight)
    np.sum(dy, axis=0, out=dbias)


def dense_backward_input(dx: np.ndarray, dy: np.ndarray, weight: np.ndarray) -> None:
    """Differentiate a dense layer by its input.

        dx[n, d] = sum_u dy[n, u] weight[d, u]          dL/dx = dL/dy W^T

    Args:
        dx: (N, D). Overwritten.
        dy: (N, U), weight: (D, U), same dtype. Read.
    """
    np.matmul(dy, weight.T, out=dx)

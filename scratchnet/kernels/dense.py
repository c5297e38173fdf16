"""The dense layer; equations in reference/dense.py.

The products are NumPy's. What stands around them, the bias and its gradient, is one pass each.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from scratchnet.kernels.jit import kernel


def dense_forward(y: np.ndarray, x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> None:
    """y = x W + b; see reference.dense_forward."""
    np.matmul(x, weight, out=y)
    _add_bias(y, bias)


def dense_backward_weight(dweight: np.ndarray, dbias: np.ndarray, x: np.ndarray, dy: np.ndarray) -> None:
    """dW = x^T dy, db = sum_n dy; see reference.dense_backward_weight."""
    np.matmul(x.T, dy, out=dweight)
    _sum_rows(dbias, dy)


def dense_backward_input(dx: np.ndarray, dy: np.ndarray, weight: np.ndarray) -> None:
    """dx = dy W^T; see reference.dense_backward_input."""
    np.matmul(dy, weight.T, out=dx)


@kernel
def _add_bias(y: np.ndarray, bias: np.ndarray) -> None:
    """y[n, u] += bias[u]."""
    for n in prange(y.shape[0]):
        for u in range(y.shape[1]):
            y[n, u] += bias[u]


@kernel
def _sum_rows(total: np.ndarray, rows: np.ndarray) -> None:
    """total[u] = sum_n rows[n, u], in the order of n whatever the number of threads: each thread owns columns."""
    units = rows.shape[1]
    blocks = (units + 15) // 16
    for block in prange(blocks):
        first, last = block * 16, min(units, block * 16 + 16)
        total[first:last] = 0
        for n in range(rows.shape[0]):
            for u in range(first, last):
                total[u] += rows[n, u]

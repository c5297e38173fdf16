"""The dense layer: three products and a sum; equations in reference/dense.py."""

from __future__ import annotations

import numpy as np
from numba import prange

from scratchnet.kernels.jit import kernel
from scratchnet.kernels.matmul import matmul


def dense_forward(y: np.ndarray, x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> None:
    """y = x W + b; see reference.dense_forward."""
    matmul(y, x, weight, bias)


def dense_backward_weight(dweight: np.ndarray, dbias: np.ndarray, x: np.ndarray, dy: np.ndarray) -> None:
    """dW = x^T dy, db = sum_n dy; see reference.dense_backward_weight."""
    matmul(dweight, x.T, dy)
    _sum_rows(dbias, dy)


def dense_backward_input(dx: np.ndarray, dy: np.ndarray, weight: np.ndarray) -> None:
    """dx = dy W^T; see reference.dense_backward_input."""
    matmul(dx, dy, weight.T)


@kernel
def _sum_rows(total: np.ndarray, rows: np.ndarray) -> None:
    """total[u] = sum_n rows[n, u], in one order whatever the number of threads: each thread owns columns.

    Each 256 rows are summed apart: to one large total their small numbers would be lost.
    """
    count, units = rows.shape
    for block in prange((units + 15) // 16):
        first, last = block * 16, min(units, block * 16 + 16)
        part = np.empty(16, total.dtype)
        total[first:last] = 0
        for n0 in range(0, count, 256):
            part[:] = 0
            for n in range(n0, min(count, n0 + 256)):
                for u in range(first, last):
                    part[u - first] += rows[n, u]
            for u in range(first, last):
                total[u] += part[u - first]

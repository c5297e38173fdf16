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
    """total[u] = sum_n rows[n, u], in one order whatever the number of threads.

    Each 512 rows are summed apart: by any thread, and so that small numbers are not lost beside a large total.
    """
    count, units = rows.shape
    parts = np.zeros(((count + 511) // 512, units), total.dtype)
    for i in prange(parts.shape[0]):
        part = parts[i]
        for n in range(i * 512, min(count, i * 512 + 512)):
            row = rows[n]
            for u in range(units):
                part[u] += row[u]
    total[:] = 0
    for i in range(parts.shape[0]):
        for u in range(units):
            total[u] += parts[i, u]

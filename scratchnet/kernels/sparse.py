"""The dense layer on a CSR batch; equations in reference/sparse.py.

Forward: a thread owns rows of y. Backward: a thread owns rows of dweight, one per column of x, so the elements are
first sorted by column; a layer of few units is done before that has paid, and adds them up as they come.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from scratchnet.kernels.jit import kernel, workspace

FEW_UNITS = 8  # measured: sorting pays from about here


@kernel
def csr_dense_forward(
    y: np.ndarray, indptr: np.ndarray, indices: np.ndarray, data: np.ndarray, weight: np.ndarray, bias: np.ndarray
) -> None:
    """y = x W + b; see reference.csr_dense_forward."""
    units = y.shape[1]
    for n in prange(y.shape[0]):
        for u in range(units):
            y[n, u] = bias[u]
        for j in range(indptr[n], indptr[n + 1]):
            d = indices[j]
            for u in range(units):
                y[n, u] += data[j] * weight[d, u]


def csr_dense_backward_weight(
    dweight: np.ndarray,
    dbias: np.ndarray,
    indptr: np.ndarray,
    indices: np.ndarray,
    data: np.ndarray,
    dy: np.ndarray,
) -> None:
    """dW = x^T dy, db = sum_n dy; see reference.csr_dense_backward_weight."""
    np.add.reduce(dy, axis=0, out=dbias)
    if dy.shape[1] < FEW_UNITS:
        _add_by_row(dweight, indptr, indices, data, dy)
        return
    features, count, integer = len(dweight), indices.size, np.dtype(np.int64)
    places = workspace("csr columns", 2 * features + 1, integer)
    row, value = workspace("csr rows", count, integer)[:count], workspace("csr values", count, data.dtype)[:count]
    start, place = places[: features + 1], places[features + 1 : 2 * features + 1]
    _add_by_column(dweight, start, place, row, value, indptr, indices, data, dy)


@kernel
def _add_by_row(dweight: np.ndarray, indptr: np.ndarray, indices: np.ndarray, data: np.ndarray, dy: np.ndarray) -> None:
    """dweight = x^T dy, on one thread."""
    for d in prange(dweight.shape[0]):
        dweight[d, :] = 0
    for n in range(dy.shape[0]):
        for j in range(indptr[n], indptr[n + 1]):
            d = indices[j]
            for u in range(dy.shape[1]):
                dweight[d, u] += data[j] * dy[n, u]


@kernel
def _add_by_column(
    dweight: np.ndarray,
    start: np.ndarray,
    place: np.ndarray,
    row: np.ndarray,
    value: np.ndarray,
    indptr: np.ndarray,
    indices: np.ndarray,
    data: np.ndarray,
    dy: np.ndarray,
) -> None:
    """dweight = x^T dy, after a counting sort of the elements by column that keeps the order of rows in a column.

    Column d has elements start[d] to start[d + 1] of (row, value); the next one goes to place[d].
    """
    start[:] = 0
    for j in range(indices.size):
        start[indices[j] + 1] += 1
    for d in range(dweight.shape[0]):
        start[d + 1] += start[d]
        place[d] = start[d]
    for n in range(dy.shape[0]):
        for j in range(indptr[n], indptr[n + 1]):
            i = place[indices[j]]
            row[i], value[i] = n, data[j]
            place[indices[j]] += 1
    for d in prange(dweight.shape[0]):
        dweight[d, :] = 0
        for i in range(start[d], start[d + 1]):
            n = row[i]
            for u in range(dy.shape[1]):
                dweight[d, u] += value[i] * dy[n, u]

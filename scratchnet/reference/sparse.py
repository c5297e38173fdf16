"""The dense layer on a sparse batch: row n of x holds data[j] in column indices[j] for indptr[n] <= j < indptr[n + 1].

That is SciPy's CSR. Columns need not be sorted; a column named twice in a row counts as the sum of its values.
"""

from __future__ import annotations

import numpy as np


def csr_dense_forward(
    y: np.ndarray, indptr: np.ndarray, indices: np.ndarray, data: np.ndarray, weight: np.ndarray, bias: np.ndarray
) -> None:
    """Compute a dense layer from the elements that are there.

        y[n, u] = sum_j data[j] weight[indices[j], u] + bias[u]          over the j of row n

    Args:
        y: (N, U) float. Written; a row without elements becomes the bias.
        indptr: (N + 1,), indices: (J,), int32 or int64; data: (J,), weight: (D, U), bias: (U,), of y's dtype. Read.
    """
    for n in range(len(y)):
        row = slice(indptr[n], indptr[n + 1])
        y[n] = data[row] @ weight[indices[row]] + bias


def csr_dense_backward_weight(
    dweight: np.ndarray,
    dbias: np.ndarray,
    indptr: np.ndarray,
    indices: np.ndarray,
    data: np.ndarray,
    dy: np.ndarray,
) -> None:
    """Differentiate it by its parameters.

        dweight[d, u] = sum_n sum_j data[j] dy[n, u]          over the j of row n with indices[j] = d
        dbias[u]      = sum_n dy[n, u]

    Args:
        dweight: (D, U), dbias: (U,). Overwritten, with zeros for a column that no row names.
        indptr: (N + 1,), indices: (J,), int32 or int64; data: (J,), dy: (N, U), of one dtype. Read.
    """
    dweight[...] = 0
    for n in range(len(dy)):
        row = slice(indptr[n], indptr[n + 1])
        np.add.at(dweight, indices[row], data[row, None] * dy[n])  # dweight[d] += ..., also where d comes twice
    np.sum(dy, axis=0, out=dbias)

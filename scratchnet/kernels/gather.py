"""How a batch is put together: the chosen rows of a dataset in one pass, pixels turned into floats on the way.

The caller has proven that the index stays inside the rows. A thread owns rows of the batch.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from scratchnet.kernels.jit import exact, worth_threads


def gather(batch: np.ndarray, rows: np.ndarray, index: np.ndarray) -> None:
    """batch[i] = rows[index[i]], divided by 255 where rows are pixels (uint8).

    Args:
        batch: (M, ...) float. Written.
        rows: (N, ...) uint8 or float, C-contiguous. Read.
        index: (M,) int64 in [0, N). Read.
    """
    kernel = _gather_pixels if rows.dtype == np.uint8 else _gather_numbers
    flat, flat_rows = batch.reshape(len(batch), -1), rows.reshape(len(rows), -1)
    kernel.launch(worth_threads(batch.size), flat, flat_rows, index)  # the size of the dataset does not count


@exact
def _gather_pixels(batch: np.ndarray, pixels: np.ndarray, index: np.ndarray) -> None:
    white = batch.dtype.type(255)
    for i in prange(batch.shape[0]):
        row, pixel = batch[i], pixels[index[i]]
        for j in range(row.size):
            row[j] = batch.dtype.type(pixel[j]) / white  # no multiplication: it would round twice


@exact
def _gather_numbers(batch: np.ndarray, numbers: np.ndarray, index: np.ndarray) -> None:
    for i in prange(batch.shape[0]):
        row, number = batch[i], numbers[index[i]]
        for j in range(row.size):
            row[j] = number[j]


def gather_csr(
    data: np.ndarray,
    indices: np.ndarray,
    indptr: np.ndarray,
    from_data: np.ndarray,
    from_indices: np.ndarray,
    from_indptr: np.ndarray,
    index: np.ndarray,
) -> None:
    """The same for rows of a CSR matrix.

    Args:
        data, indices: (J,), J the numbers in the chosen rows. Written.
        indptr: (M + 1,), filled: indptr[i + 1] - indptr[i] is the length of row index[i]. Read.
        from_data, from_indices, from_indptr: the matrix. Read.
        index: (M,) int64. Read.
    """
    _gather_csr.launch(worth_threads(data.size), data, indices, indptr, from_data, from_indices, from_indptr, index)


@exact
def _gather_csr(
    data: np.ndarray,
    indices: np.ndarray,
    indptr: np.ndarray,
    from_data: np.ndarray,
    from_indices: np.ndarray,
    from_indptr: np.ndarray,
    index: np.ndarray,
) -> None:
    for i in prange(index.size):
        start, end = from_indptr[index[i]], from_indptr[index[i] + 1]
        to, to_indices = data[indptr[i] : indptr[i + 1]], indices[indptr[i] : indptr[i + 1]]
        numbers, columns = from_data[start:end], from_indices[start:end]
        for j in range(to.size):
            to[j] = numbers[j]
            to_indices[j] = columns[j]

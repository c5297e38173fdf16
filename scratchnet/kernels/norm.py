"""Batch normalisation; equations in reference/norm.py.

A sum over rows is cut into CHUNKS runs of rows, each added up by one thread in float64, then combined in their order:
the same bits for any number of threads. What is left per channel is NumPy's: under fastmath a square root may be an
estimate, and NaN at infinity.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from scratchnet.kernels.jit import kernel, workspace

CHUNKS = 32


def batch_norm_forward(
    y: np.ndarray,
    mean: np.ndarray,
    variance: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    eps: float,
) -> None:
    """Normalise by this batch's mean and variance; see reference.batch_norm_forward."""
    rows = max(len(x), 1)
    sums, total = _sums("batch norm", x.shape[1])
    _sum(sums, x)
    np.add.reduce(sums, axis=0, out=total)
    np.divide(total, rows, out=mean, casting="same_kind")
    _sum_squares(sums, x, mean)
    np.add.reduce(sums, axis=0, out=total)
    np.divide(total, rows, out=variance, casting="same_kind")
    batch_norm_apply(y, x, mean, variance, weight, bias, eps)


def batch_norm_apply(
    y: np.ndarray,
    x: np.ndarray,
    mean: np.ndarray,
    variance: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    eps: float,
) -> None:
    """Normalise by a given mean and variance; see reference.batch_norm_apply."""
    _scale_and_shift(y, x, mean, weight / np.sqrt(variance + x.dtype.type(eps)), bias)


def batch_norm_backward(
    dx: np.ndarray,
    dweight: np.ndarray,
    dbias: np.ndarray,
    dy: np.ndarray,
    x: np.ndarray,
    mean: np.ndarray,
    variance: np.ndarray,
    weight: np.ndarray,
    eps: float,
) -> None:
    """dx = weight r (dy - mean(dy) - z mean(dy z)), z = (x - mean) r; see reference.batch_norm_backward."""
    rows = max(len(x), 1)
    r = 1 / np.sqrt(variance + x.dtype.type(eps))  # (C,)
    (sums, sum_dy), (products, sum_dyx) = (_sums(name, x.shape[1]) for name in ("batch norm", "batch norm products"))
    _sum_products(sums, products, dy, x, mean)
    np.add.reduce(sums, axis=0, out=sum_dy)
    np.add.reduce(products, axis=0, out=sum_dyx)
    dbias[...] = sum_dy
    np.multiply(sum_dyx, r, out=dweight, casting="same_kind")
    _subtract_means(dx, dy, x, mean, weight * r, dbias / x.dtype.type(rows), dweight * r / x.dtype.type(rows))


def _sums(name: str, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Room for the sums of all chunks, (CHUNKS, C), and for their total, (C,), in float64."""
    space = workspace(name, (CHUNKS + 1) * channels, np.dtype(np.float64))[: (CHUNKS + 1) * channels]
    return space[channels:].reshape(CHUNKS, channels), space[:channels]


@kernel
def _sum(sums: np.ndarray, x: np.ndarray) -> None:
    """sums[chunk, c] = sum of x[m, c] over the rows m of a chunk."""
    rows, channels = x.shape
    step = (rows + CHUNKS - 1) // CHUNKS
    for chunk in prange(CHUNKS):
        sums[chunk, :] = 0
        for m in range(chunk * step, min(rows, chunk * step + step)):
            for c in range(channels):
                sums[chunk, c] += x[m, c]


@kernel
def _sum_squares(sums: np.ndarray, x: np.ndarray, mean: np.ndarray) -> None:
    """sums[chunk, c] = sum of (x[m, c] - mean[c])^2 over the rows m of a chunk."""
    rows, channels = x.shape
    step = (rows + CHUNKS - 1) // CHUNKS
    for chunk in prange(CHUNKS):
        sums[chunk, :] = 0
        for m in range(chunk * step, min(rows, chunk * step + step)):
            for c in range(channels):
                difference = np.float64(x[m, c] - mean[c])
                sums[chunk, c] += difference * difference


@kernel
def _sum_products(sums: np.ndarray, products: np.ndarray, dy: np.ndarray, x: np.ndarray, mean: np.ndarray) -> None:
    """sums[chunk, c] = sum of dy[m, c], products[chunk, c] = sum of dy[m, c] (x[m, c] - mean[c]) over a chunk."""
    rows, channels = x.shape
    step = (rows + CHUNKS - 1) // CHUNKS
    for chunk in prange(CHUNKS):
        sums[chunk, :] = 0
        products[chunk, :] = 0
        for m in range(chunk * step, min(rows, chunk * step + step)):
            for c in range(channels):
                sums[chunk, c] += dy[m, c]
                products[chunk, c] += np.float64(dy[m, c]) * np.float64(x[m, c] - mean[c])


@kernel
def _scale_and_shift(y: np.ndarray, x: np.ndarray, mean: np.ndarray, scale: np.ndarray, bias: np.ndarray) -> None:
    """y = scale (x - mean) + bias."""
    for m in prange(x.shape[0]):
        for c in range(x.shape[1]):
            y[m, c] = scale[c] * (x[m, c] - mean[c]) + bias[c]


@kernel
def _subtract_means(
    dx: np.ndarray,
    dy: np.ndarray,
    x: np.ndarray,
    mean: np.ndarray,
    scale: np.ndarray,
    mean_dy: np.ndarray,
    slope: np.ndarray,
) -> None:
    """dx = scale (dy - mean_dy - slope (x - mean)): what is left of dy beside its mean and its part along x."""
    for m in prange(x.shape[0]):
        for c in range(x.shape[1]):
            dx[m, c] = scale[c] * (dy[m, c] - mean_dy[c] - slope[c] * (x[m, c] - mean[c]))

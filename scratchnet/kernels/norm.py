"""Batch normalisation; equations in reference/norm.py.

A sum over rows is cut into chunks, whose number depends on the shape alone. Each is added up by one thread, four rows
at a time in the dtype of x, and these sums of four in float64. Then the chunks are combined in their order: the same
bits for any number of threads. What is left per channel is NumPy's: under fastmath a square root may be an estimate,
and NaN at infinity.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from scratchnet.kernels.jit import exact, kernel, workspace

LEAST_CHUNKS, ROWS_OF_CHUNK = 32, 64  # fewer than 32 only where a chunk would be less than 64 rows
NUMBERS_OF_CHUNK = 65_536  # at most about so many, which stay in the second cache


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
    (sums, _), (squares, _) = (_sums(name, *x.shape) for name in ("batch norm", "batch norm products"))
    centers = workspace("batch norm centers", sums.size, x.dtype)[: sums.size].reshape(sums.shape)
    _moments(mean, variance, sums, squares, centers, x)
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
    (sums, sum_dy), (products, sum_dyx) = (_sums(name, *x.shape) for name in ("batch norm", "batch norm products"))
    _sum_products(sums, products, dy, x, mean)
    np.add.reduce(sums, axis=0, out=sum_dy)
    np.add.reduce(products, axis=0, out=sum_dyx)
    dbias[...] = sum_dy
    np.multiply(sum_dyx, r, out=dweight, casting="same_kind")
    _subtract_means(dx, dy, x, mean, weight * r, dbias / x.dtype.type(rows), dweight * r / x.dtype.type(rows))


def _sums(name: str, rows: int, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Room for the sums of all chunks, (chunks, C), and for their total, (C,), in float64."""
    chunks = max(min(LEAST_CHUNKS, -(-rows // ROWS_OF_CHUNK)), min(rows, rows * channels // NUMBERS_OF_CHUNK))
    space = workspace(name, (chunks + 1) * channels, np.dtype(np.float64))[: (chunks + 1) * channels]
    return space[channels:].reshape(chunks, channels), space[:channels]


@exact
def _moments(
    mean: np.ndarray, variance: np.ndarray, sums: np.ndarray, squares: np.ndarray, centers: np.ndarray, x: np.ndarray
) -> None:
    """Mean and variance over the rows of x.

        sum_m (x[m] - mean)^2 = sum over chunks of (sum_m (x[m] - mean_k)^2 + n_k (mean_k - mean)^2)

    with chunk k of n_k rows and their mean_k (Chan, Golub & LeVeque 1979): a chunk is read twice while it is in the
    cache, and x comes from memory once.
    """
    rows, chunks = len(x), len(sums)
    for chunk in prange(chunks):
        total, square, center = sums[chunk], squares[chunk], centers[chunk]
        first, end = chunk * rows // chunks, (chunk + 1) * rows // chunks
        total[:] = 0
        square[:] = 0
        fours = end - (end - first) % 4
        for m in range(first, fours, 4):
            x0, x1, x2, x3 = x[m], x[m + 1], x[m + 2], x[m + 3]
            for c in range(total.size):
                total[c] += (x0[c] + x1[c]) + (x2[c] + x3[c])
        for m in range(fours, end):
            for c in range(total.size):
                total[c] += x[m, c]
        for c in range(total.size):
            center[c] = total[c] / (end - first)
        for m in range(first, fours, 4):
            x0, x1, x2, x3 = x[m], x[m + 1], x[m + 2], x[m + 3]
            for c in range(total.size):
                d0, d1, d2, d3 = x0[c] - center[c], x1[c] - center[c], x2[c] - center[c], x3[c] - center[c]
                square[c] += (d0 * d0 + d1 * d1) + (d2 * d2 + d3 * d3)
        for m in range(fours, end):
            for c in range(total.size):
                d = x[m, c] - center[c]
                square[c] += d * d
    for c in range(mean.size):
        whole, spread = 0.0, 0.0
        for chunk in range(chunks):
            whole += sums[chunk, c]
        whole /= max(rows, 1)
        for chunk in range(chunks):
            count = (chunk + 1) * rows // chunks - chunk * rows // chunks
            offset = sums[chunk, c] / count - whole
            spread += squares[chunk, c] + count * offset * offset
        mean[c], variance[c] = whole, spread / max(rows, 1)


@exact
def _sum_products(sums: np.ndarray, products: np.ndarray, dy: np.ndarray, x: np.ndarray, mean: np.ndarray) -> None:
    """sums[chunk, c] = sum of dy[m, c], products[chunk, c] = sum of dy[m, c] (x[m, c] - mean[c]) over a chunk."""
    rows, chunks = len(x), len(sums)
    for chunk in prange(chunks):
        total, product = sums[chunk], products[chunk]
        first, end = chunk * rows // chunks, (chunk + 1) * rows // chunks
        total[:] = 0
        product[:] = 0
        fours = end - (end - first) % 4
        for m in range(first, fours, 4):
            x0, x1, x2, x3 = x[m], x[m + 1], x[m + 2], x[m + 3]
            g0, g1, g2, g3 = dy[m], dy[m + 1], dy[m + 2], dy[m + 3]
            for c in range(total.size):
                total[c] += (g0[c] + g1[c]) + (g2[c] + g3[c])
                p0, p1 = g0[c] * (x0[c] - mean[c]), g1[c] * (x1[c] - mean[c])
                p2, p3 = g2[c] * (x2[c] - mean[c]), g3[c] * (x3[c] - mean[c])
                product[c] += (p0 + p1) + (p2 + p3)
        for m in range(fours, end):
            for c in range(total.size):
                total[c] += dy[m, c]
                product[c] += dy[m, c] * (x[m, c] - mean[c])


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

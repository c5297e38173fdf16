"""Batch normalisation (Ioffe & Szegedy 2015), over the rows of an (M, C) array: an image batch has M = N H W rows.

All means are summed in float64: NumPy adds rows one after another, and a float32 sum of 100,000 of them loses digits.
"""

from __future__ import annotations

import numpy as np


def batch_norm_forward(
    y: np.ndarray,
    mean: np.ndarray,
    variance: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    eps: float,
) -> None:
    """Normalise every channel by the mean and variance of this batch, then scale and shift it.

        mean[c]     = 1/M sum_m x[m, c]
        variance[c] = 1/M sum_m (x[m, c] - mean[c])^2          biased; two passes, because E[x^2] - E[x]^2 cancels
        y[m, c]     = weight[c] (x[m, c] - mean[c]) / sqrt(variance[c] + eps) + bias[c]

    Args:
        y: (M, C) float. Written.
        mean, variance: (C,). Written. One row has variance 0, so y = bias; no rows have mean and variance 0.
        x: (M, C), weight, bias: (C,), the same dtype. Read. A NaN or infinity in x makes NaN of its whole
            channel.
        eps: > 0.
    """
    rows = max(len(x), 1)
    mean[...] = x.sum(axis=0, dtype=np.float64) / rows
    variance[...] = np.square(x - mean, dtype=np.float64).sum(axis=0) / rows
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
    """Normalise by a given mean and variance: the running ones, once training is over.

        y[m, c] = weight[c] (x[m, c] - mean[c]) / sqrt(variance[c] + eps) + bias[c]

    Args:
        y: (M, C) float. Written.
        x: (M, C), mean, variance, weight, bias: (C,), the same dtype. Read.
        eps: > 0.
    """
    y[...] = (x - mean) * (weight / np.sqrt(variance + x.dtype.type(eps))) + bias


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
    """Differentiate batch_norm_forward, whose mean and variance depend on x.

        r          = 1 / sqrt(variance[c] + eps),   z[m, c] = (x[m, c] - mean[c]) r
        dbias[c]   = sum_m dy[m, c]
        dweight[c] = sum_m dy[m, c] z[m, c]
        dx[m, c]   = weight[c] r (dy[m, c] - dbias[c] / M - z[m, c] dweight[c] / M)

    Channel by channel, with g[m] = weight dy[m] = dL/dz[m], x reaches z in three ways, whose sum is dx:

        directly             g[m] r
        through variance     dvariance (2/M) (x[m] - mean) = -(r/M) z[m] sum_k g[k] z[k]
        through mean         dmean (1/M) = -(r/M) sum_k g[k]

    where dvariance = -(r^2/2) sum_k g[k] z[k], because dr/dvariance = -r^3/2 and x - mean = z / r, and dmean =
    -r sum_k g[k] (variance does not move with mean, for sum_m (x[m] - mean) = 0). Then sum_k g = weight dbias and
    sum_k g z = weight dweight give the line above.

    Args:
        dx: (M, C), dweight, dbias: (C,). Overwritten.
        dy, x: (M, C), mean, variance: (C,) as batch_norm_forward wrote them, weight: (C,). Read.
        eps: > 0.
    """
    rows = max(len(x), 1)
    r = 1 / np.sqrt(variance + x.dtype.type(eps))  # (C,)
    z = (x - mean) * r  # (M, C)
    dbias[...] = dy.sum(axis=0, dtype=np.float64)
    dweight[...] = np.multiply(dy, z, dtype=np.float64).sum(axis=0)
    dx[...] = weight * r * (dy - dbias / rows - z * (dweight / rows))

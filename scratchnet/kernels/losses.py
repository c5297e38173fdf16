"""Losses, rows in parallel; equations in reference/losses.py.

A row is summed by one thread in float64, so that the batch's loss keeps its digits; by binary_cross_entropy in parts of
PART numbers that are summed in their own dtype, or its loop, full of exponentials, would run on half vectors.
Where a difference must be taken first (`gap`, `rest`), an abs that changes nothing stands around it: fastmath may add
in another order, but not through an abs.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from scratchnet.kernels.exponential import exp, expm1, log1p, rank, ranked
from scratchnet.kernels.jit import kernel

BLOCK = 2048  # logits: they stay in the first cache
PART = 64


@kernel
def softmax_cross_entropy(
    losses: np.ndarray, dlogits: np.ndarray, logits: np.ndarray, labels: np.ndarray, row_weight: np.ndarray
) -> None:
    """losses = -row_weight log p[label], dlogits = row_weight (p - onehot); see reference.softmax_cross_entropy.

    Rows are taken in blocks, so that the exponentials of many short rows are one loop.
    """
    rows, classes = logits.shape
    flat, step = dlogits.reshape(-1), max(1, BLOCK // classes)
    for block in prange((rows + step - 1) // step):
        first, end = block * step, min(rows, block * step + step)
        for n in range(first, end):
            top = rank(logits[n, 0])  # of integers LLVM finds the largest a vector at a time; of floats, for NaN, not
            for k in range(1, classes):
                top = max(top, rank(logits[n, k]))
            largest = ranked(top)
            losses[n] = largest
            for k in range(classes):
                dlogits[n, k] = logits[n, k] - largest
        exps = flat[first * classes : end * classes]
        for i in range(exps.size):
            exps[i] = exp(exps[i])
        for n in range(first, end):
            total = np.float64(0)
            for k in range(classes):
                total += dlogits[n, k]
            label = labels[n]
            gap = abs(losses[n] - np.float64(logits[n, label]))
            losses[n] = row_weight[n] * (math.log(total) + gap)
            at_label = row_weight[n] * ((dlogits[n, label] - total) / total)
            scale = dlogits.dtype.type(row_weight[n] / total)
            for k in range(classes):
                dlogits[n, k] *= scale
            dlogits[n, label] = at_label


@kernel
def binary_cross_entropy(
    losses: np.ndarray, dlogits: np.ndarray, logits: np.ndarray, targets: np.ndarray, row_weight: np.ndarray
) -> None:
    """losses = -row_weight sum_k (t log p + (1 - t) log(1 - p)); see reference.binary_cross_entropy."""
    zero, one = logits.dtype.type(0), logits.dtype.type(1)
    for n in prange(logits.shape[0]):
        scale = logits.dtype.type(row_weight[n])
        total = np.float64(0)
        for first in range(0, logits.shape[1], PART):
            end = first + PART
            z, t, dz = logits[n, first:end], targets[n, first:end], dlogits[n, first:end]
            part = zero
            for k in range(z.size):
                e = exp(-abs(z[k]))
                rest = abs(one - t[k])
                part += abs(z[k]) * (t[k] if z[k] < zero else rest) + log1p(e)
                q = e / (one + e)
                dz[k] = scale * (q - t[k] if z[k] < zero else rest - q)
            total += np.float64(part)
        losses[n] = row_weight[n] * total


@kernel
def mse(
    losses: np.ndarray, dpredictions: np.ndarray, predictions: np.ndarray, targets: np.ndarray, row_weight: np.ndarray
) -> None:
    """losses = row_weight sum_k (predictions - targets)^2; see reference.mse."""
    for n in prange(predictions.shape[0]):
        scale = predictions.dtype.type(2 * row_weight[n])
        total = np.float64(0)
        for k in range(predictions.shape[1]):
            difference = predictions[n, k] - targets[n, k]
            total += np.float64(difference) * np.float64(difference)
            dpredictions[n, k] = scale * difference
        losses[n] = row_weight[n] * total


@kernel
def gaussian_kl(
    losses: np.ndarray,
    dmean: np.ndarray,
    dlog_variance: np.ndarray,
    mean: np.ndarray,
    log_variance: np.ndarray,
    row_weight: np.ndarray,
) -> None:
    """losses = row_weight / 2 sum_k (mean^2 + exp(log_variance) - 1 - log_variance); see reference.gaussian_kl."""
    for n in prange(mean.shape[0]):
        scale = mean.dtype.type(row_weight[n])
        half = mean.dtype.type(row_weight[n] / 2)
        total = np.float64(0)
        for k in range(mean.shape[1]):
            excess = expm1(log_variance[n, k])
            total += mean[n, k] * mean[n, k] + (excess - log_variance[n, k])
            dmean[n, k] = scale * mean[n, k]
            dlog_variance[n, k] = half * excess
        losses[n] = row_weight[n] / 2 * total

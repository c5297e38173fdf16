"""Losses: each writes the loss of every row and the gradient with respect to the predictions, in one go.

    losses[n] = row_weight[n] * (sum of the row's elements)      dlogits = d(sum_n losses[n]) / d logits

`row_weight` (N,) is what each example counts, already divided by what a mean divides by (1 / N in a plain mean), so an
operation knows nothing of reductions: scratchnet/losses.py does. `losses` and `row_weight` are float64 whatever the
predictions are, because a batch is summed from them; the sum inside a row is float64 as well. NaN or infinity among the
predictions shows in the row's loss, but for a logit of -inf in softmax_cross_entropy, a class that is ruled out.
"""

from __future__ import annotations

import numpy as np

QUIET = np.errstate(all="ignore")  # what overflows shows in the loss


@QUIET
def softmax_cross_entropy(
    losses: np.ndarray, dlogits: np.ndarray, logits: np.ndarray, labels: np.ndarray, row_weight: np.ndarray
) -> None:
    """Compare the softmax of `logits` with integer labels (Bridle 1990).

        p[n, k]       = exp(logits[n, k] - m) / sum_j exp(logits[n, j] - m),   m = max_k logits[n, k]
        losses[n]     = -row_weight[n] log p[n, label]
                      =  row_weight[n] (log sum_j exp(logits[n, j] - m) - (logits[n, label] - m))
        dlogits[n, k] = row_weight[n] (p[n, k] - 1[k = label])

    because log sum_j exp(logits[j]) has the derivative p[k] by logits[k], and logits[label] has 1[k = label]: 1 at the
    label, else 0. Subtracting the largest logit changes no p, and no exponential overflows.

    Args:
        losses: (N,) float64. Written.
        dlogits: (N, K) float. Overwritten; every row sums to 0.
        logits: (N, K), K >= 1, the same dtype. Read. -inf is a class that is ruled out; +inf gives NaN.
        labels: (N,) int64 in [0, K). Read.
        row_weight: (N,) float64. Read.
    """
    rows = np.arange(len(labels))
    top = logits.max(axis=1)  # (N,)
    exps = np.exp(logits - top[:, None])  # (N, K)
    total = exps.sum(axis=1, dtype=np.float64)  # (N,)
    losses[...] = row_weight * (np.log(total) - (logits[rows, labels].astype(np.float64) - top))
    dlogits[...] = exps * (row_weight / total)[:, None]
    at_label = exps[rows, labels] - total  # (p - 1) total, which keeps its digits where p is nearly 1
    dlogits[rows, labels] = row_weight * at_label / total


@QUIET
def binary_cross_entropy(
    losses: np.ndarray, dlogits: np.ndarray, logits: np.ndarray, targets: np.ndarray, row_weight: np.ndarray
) -> None:
    """Compare the sigmoid of `logits` with targets in [0, 1], element by element.

        p             = 1 / (1 + exp(-z)),   z = logits[n, k],   t = targets[n, k]
        losses[n]     = -row_weight[n] sum_k (t log p + (1 - t) log(1 - p))
        dlogits[n, k] =  row_weight[n] (p - t)

    because dloss/dp = -t / p + (1 - t) / (1 - p) and dp/dz = p (1 - p), whose product is p - t. Written so that nothing
    overflows and no digit is lost near p = 0 or 1: with q = exp(-|z|) / (1 + exp(-|z|)),

        z < 0:  -log p       = |z| + log1p(exp(-|z|)),   -log(1 - p) = log1p(exp(-|z|)),         p - t = q - t
        z >= 0: -log(1 - p)  = |z| + log1p(exp(-|z|)),   -log p      = log1p(exp(-|z|)),         p - t = (1 - t) - q

    Args:
        losses: (N,) float64. Written.
        dlogits: (N, K) float. Overwritten.
        logits, targets: (N, K), the same dtype. Read.
        row_weight: (N,) float64. Read.
    """
    e = np.exp(-np.abs(logits))  # (N, K)
    elements = np.abs(logits) * np.where(logits < 0, targets, 1 - targets) + np.log1p(e)
    losses[...] = row_weight * elements.sum(axis=1, dtype=np.float64)
    q = e / (1 + e)
    dlogits[...] = row_weight[:, None] * np.where(logits < 0, q - targets, (1 - targets) - q)


@QUIET
def mse(
    losses: np.ndarray, dpredictions: np.ndarray, predictions: np.ndarray, targets: np.ndarray, row_weight: np.ndarray
) -> None:
    """Square the errors (no factor 1/2, as PyTorch).

        losses[n]          = row_weight[n] sum_k (predictions[n, k] - targets[n, k])^2
        dpredictions[n, k] = 2 row_weight[n] (predictions[n, k] - targets[n, k])

    Args:
        losses: (N,) float64. Written.
        dpredictions: (N, K) float. Overwritten.
        predictions, targets: (N, K), the same dtype. Read.
        row_weight: (N,) float64. Read.
    """
    difference = predictions - targets  # (N, K)
    losses[...] = row_weight * np.square(difference, dtype=np.float64).sum(axis=1)
    dpredictions[...] = 2 * row_weight[:, None] * difference


@QUIET
def gaussian_kl(
    losses: np.ndarray,
    dmean: np.ndarray,
    dlog_variance: np.ndarray,
    mean: np.ndarray,
    log_variance: np.ndarray,
    row_weight: np.ndarray,
) -> None:
    """Measure how far N(mean, exp(log_variance)) is from N(0, 1) (Kingma & Welling 2014, appendix B).

        losses[n]           = row_weight[n] / 2 sum_k (mean^2 + exp(log_variance) - 1 - log_variance)
        dmean[n, k]         = row_weight[n] mean
        dlog_variance[n, k] = row_weight[n] / 2 (exp(log_variance) - 1)

    log_variance is log(sigma^2), not log(sigma).

    Args:
        losses: (N,) float64. Written.
        dmean, dlog_variance: (N, K) float. Overwritten.
        mean, log_variance: (N, K), the same dtype. Read. A variance too large for the dtype gives an infinite loss.
        row_weight: (N,) float64. Read.
    """
    excess = np.expm1(log_variance)  # exp(log_variance) - 1, exact near 0
    elements = mean * mean + (excess - log_variance)
    losses[...] = row_weight / 2 * elements.sum(axis=1, dtype=np.float64)
    dmean[...] = row_weight[:, None] * mean
    dlog_variance[...] = row_weight[:, None] / 2 * excess

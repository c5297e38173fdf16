"""Losses: each returns (loss, gradient), the loss as a Python float summed in float64, the gradient ready for
`net.backward`: a new array, or `out` overwritten, which saves a training loop the memory of every step.

    reduction    loss is ...                                        and with sample_weight s
    "mean"       the mean over every element                        sum_n s[n] loss[n] / (E sum_n s[n])
    "batchmean"  summed within an example, mean over examples       sum_n s[n] loss[n] / sum_n s[n]
    "sum"        the sum over every element                         sum_n s[n] loss[n]

loss[n] is the sum over the E elements of example n.
A whole-number weight is worth that many copies of the example. For softmax_cross_entropy an example is one element.
NaN or infinity among the predictions comes out as a NaN or infinite loss: a diverged net must be seen, not caught here.
Only a logit of -inf is allowed to softmax_cross_entropy: a class that is ruled out.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from scratchnet import kernels
from scratchnet.arrays import (
    NATIVE_FLOATS,
    check_array,
    check_choice,
    check_finite,
    check_in_place,
    check_interval,
    check_labels,
    check_number,
    check_ops,
    check_same_shape,
    show_shape,
)
from scratchnet.kernels.jit import workspace

REDUCTIONS = ("mean", "sum", "batchmean")


def softmax_cross_entropy(
    logits: np.ndarray,
    labels: np.ndarray,
    sample_weight: np.ndarray | None = None,
    reduction: str = "mean",
    ops: ModuleType = kernels,
    out: np.ndarray | None = None,
) -> tuple[float, np.ndarray]:
    """Compare the softmax of `logits` with integer labels; stable for logits of any size.

    Its equations, and those of the other losses, stand in reference/losses.py.

    Args:
        logits: (N, K) float32 or float64, N and K >= 1. Read.
        labels: (N,) integers in [0, K). Read.
        sample_weight: (N,) float, finite, >= 0, not all 0; None counts every example once.
        reduction: "mean" (the same as "batchmean" here) or "sum".
        ops: the floor to compute on.
        out: an array of the shape and dtype of the gradient, none of the arguments, to write it to. Overwritten.

    Returns:
        the loss, and its gradient by logits, (N, K).

    Raises:
        TypeError, ValueError: an argument has another dtype, shape or range.
    """
    check_ops("softmax_cross_entropy: ops", ops)
    logits = _check_predictions("softmax_cross_entropy: logits", logits, (None, None))
    labels = check_labels("softmax_cross_entropy: labels", labels, *logits.shape)
    losses, dlogits = _row_losses(len(logits)), _gradient("softmax_cross_entropy: out", out, logits, labels)
    weight = _row_weight("softmax_cross_entropy", sample_weight, reduction, len(logits), 1)
    ops.softmax_cross_entropy(losses, dlogits, logits, labels, weight)
    return _total(losses), dlogits


def binary_cross_entropy(
    logits: np.ndarray,
    targets: np.ndarray,
    sample_weight: np.ndarray | None = None,
    reduction: str = "mean",
    ops: ModuleType = kernels,
    out: np.ndarray | None = None,
) -> tuple[float, np.ndarray]:
    """Compare the sigmoid of `logits` with targets in [0, 1], element by element; stable for logits of any size.

    Args:
        logits: (N, ...) float32 or float64, N >= 1, not yet squashed. Read.
        targets: the same shape and dtype, in [0, 1]. Read.
        sample_weight: (N,) float, finite, >= 0, not all 0; None counts every example once.
        reduction: "mean", "sum" or "batchmean".
        ops: the floor to compute on.
        out: an array of the shape and dtype of the gradient, none of the arguments, to write it to. Overwritten.

    Returns:
        the loss, and its gradient by logits, of their shape.

    Raises:
        TypeError, ValueError: an argument has another dtype, shape or range.
    """
    name = "binary_cross_entropy"
    check_ops(f"{name}: ops", ops)
    logits = _check_predictions(f"{name}: logits", logits)
    targets = _check_like(f"{name}: targets", targets, "logits", logits)
    check_interval(f"{name}: targets", targets, 0, 1)
    return _elementwise(name, ops.binary_cross_entropy, logits, targets, sample_weight, reduction, out)


def mse(
    predictions: np.ndarray,
    targets: np.ndarray,
    sample_weight: np.ndarray | None = None,
    reduction: str = "mean",
    ops: ModuleType = kernels,
    out: np.ndarray | None = None,
) -> tuple[float, np.ndarray]:
    """Square the errors (no factor 1/2, as PyTorch).

    Args:
        predictions: (N, ...) float32 or float64, N >= 1. Read.
        targets: the same shape and dtype, finite. Read.
        sample_weight: (N,) float, finite, >= 0, not all 0; None counts every example once.
        reduction: "mean", "sum" or "batchmean".
        ops: the floor to compute on.
        out: an array of the shape and dtype of the gradient, none of the arguments, to write it to. Overwritten.

    Returns:
        the loss, and its gradient by predictions, of their shape.

    Raises:
        TypeError, ValueError: an argument has another dtype, shape or range.
    """
    check_ops("mse: ops", ops)
    predictions = _check_predictions("mse: predictions", predictions)
    targets = _check_like("mse: targets", targets, "predictions", predictions)
    check_finite("mse: targets", targets)
    return _elementwise("mse", ops.mse, predictions, targets, sample_weight, reduction, out)


def gaussian_kl(
    mean: np.ndarray,
    log_variance: np.ndarray,
    sample_weight: np.ndarray | None = None,
    reduction: str = "batchmean",
    ops: ModuleType = kernels,
    out: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[float, tuple[np.ndarray, np.ndarray]]:
    """Measure how far N(mean, exp(log_variance)) is from N(0, 1): the second half of a variational autoencoder's loss.

    Args:
        mean: (N, ...) float32 or float64, N >= 1. Read.
        log_variance: the same shape and dtype: log(sigma^2). Read.
        sample_weight: (N,) float, finite, >= 0, not all 0; None counts every example once.
        reduction: "batchmean", "mean" or "sum".
        ops: the floor to compute on.
        out: two arrays of the shape and dtype of mean, neither of them an argument, for the gradients. Overwritten.

    Returns:
        the divergence, and its gradients by mean and by log_variance.

    Raises:
        TypeError, ValueError: an argument has another dtype, shape or range.
    """
    check_ops("gaussian_kl: ops", ops)
    mean = _check_predictions("gaussian_kl: mean", mean)
    log_variance = _check_like("gaussian_kl: log_variance", log_variance, "mean", mean)
    rows, size = len(mean), math.prod(mean.shape[1:])
    first, second = (None, None) if out is None else _two("gaussian_kl: out", out)
    dmean = _gradient("gaussian_kl: out[0]", first, mean, log_variance)
    dlog_variance = _gradient("gaussian_kl: out[1]", second, mean, log_variance, dmean)
    losses = _row_losses(rows)
    weight = _row_weight("gaussian_kl", sample_weight, reduction, rows, size)
    flat = (a.reshape(rows, size) for a in (dmean, dlog_variance, mean, log_variance))
    ops.gaussian_kl(losses, *flat, weight)
    return _total(losses), (dmean, dlog_variance)


def l2_penalty(weight: np.ndarray, coefficient: float) -> tuple[float, np.ndarray]:
    """Penalise large weights: coefficient/2 sum(weight^2), with gradient coefficient * weight.

    Add the loss to the data's, and the gradient to `layer.dweight` after backward. An optimizer's `weight_decay` has
    the same gradient (decoupled decay, AdamW's and Lion's, has not).

    Args:
        weight: float32 or float64, any shape. Read.
        coefficient: >= 0.

    Raises:
        TypeError, ValueError: an argument has another dtype or range.
    """
    weight = check_array("l2_penalty: weight", weight)
    coefficient = check_number("l2_penalty: coefficient", coefficient, low=0)
    with np.errstate(all="ignore"):
        loss = coefficient / 2 * float(np.square(weight, dtype=np.float64).sum())
        return loss, weight.dtype.type(coefficient) * weight


def on_floor(loss: Callable[..., tuple[float, np.ndarray]], ops: ModuleType) -> Callable[..., tuple[float, np.ndarray]]:
    """The loss as a function of outputs and targets, told the floor to compute on where it takes `ops`."""
    try:
        arguments = inspect.signature(loss).parameters.values()
    except (TypeError, ValueError):  # of a function written in C
        return loss
    takes = any(argument.name == "ops" or argument.kind is argument.VAR_KEYWORD for argument in arguments)
    return functools.partial(loss, ops=ops) if takes else loss


def check_returned(name: str, returned: Any) -> tuple[float, np.ndarray]:
    """(loss, gradient) as a loss of the user's returned them, the loss as a Python float: JSON can't hold NumPy's."""
    if not isinstance(returned, tuple) or len(returned) != 2:
        raise TypeError(f"{name}: expected one that returns (loss, gradient), got {type(returned).__name__}")
    value, gradient = returned
    try:
        return float(value), gradient
    except (TypeError, ValueError):
        got = ", ".join(type(part).__name__ for part in returned)
        raise TypeError(
            f"{name}: expected one that returns (loss, gradient), a number and an array, got ({got})"
        ) from None


def _elementwise(
    name: str,
    operation: Callable[..., None],
    predictions: np.ndarray,
    targets: np.ndarray,
    sample_weight: np.ndarray | None,
    reduction: str,
    out: np.ndarray | None,
) -> tuple[float, np.ndarray]:
    """Run an operation over (N, K) on arrays of (N, ...)."""
    rows, size = len(predictions), math.prod(predictions.shape[1:])
    losses, gradient = _row_losses(rows), _gradient(f"{name}: out", out, predictions, targets)  # (N,), (N, ...)
    weight = _row_weight(name, sample_weight, reduction, rows, size)
    operation(losses, *(a.reshape(rows, size) for a in (gradient, predictions, targets)), weight)
    return _total(losses), gradient


def _row_losses(rows: int) -> np.ndarray:
    """Where an operation writes the loss of each row: (N,), for the time of one call."""
    return workspace("losses", rows, NATIVE_FLOATS[1])[:rows]


def _total(losses: np.ndarray) -> float:
    """The loss of a batch. Those of rows are >= 0, so the sum can't cancel, only overflow, and infinity shows."""
    return float(np.add.reduce(losses))


def _gradient(name: str, out: np.ndarray | None, like: np.ndarray, *others: np.ndarray) -> np.ndarray:
    """The array of the gradient: new, or `out`, fit to be written while `like` and `others` are read."""
    if out is None:
        return np.empty_like(like)
    check_in_place(name, out, like.shape)
    if out.dtype != like.dtype:
        check_array(name, out, like.dtype)
    if any(np.may_share_memory(out, array) for array in (like, *others)):
        raise ValueError(
            f"{name}: expected memory of its own, got that of another argument; make one with np.empty_like"
        )
    return out


def _two(name: str, out: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return a pair of arrays."""
    if not isinstance(out, (tuple, list)) or len(out) != 2:
        raise TypeError(f"{name}: expected two arrays, one for each gradient, got {type(out).__name__}")
    return out[0], out[1]


def _check_predictions(name: str, array: np.ndarray, shape: tuple[None, ...] | None = None) -> np.ndarray:
    """Return `array` as a batch of at least one element, with as many axes as `shape` has."""
    array = check_array(name, array, shape=shape)
    if array.ndim == 0 or array.size == 0:
        raise ValueError(f"{name}: expected shape (N, ...) with every size >= 1, got {show_shape(array.shape)}")
    return array


def _check_like(name: str, array: np.ndarray, other_name: str, other: np.ndarray) -> np.ndarray:
    """Return `array` after checking that it has the dtype and shape of `other`: nothing is broadcast."""
    array = check_array(name, array, other.dtype)
    check_same_shape(name, array, other_name, other)
    return array


def _row_weight(name: str, sample_weight: np.ndarray | None, reduction: str, rows: int, elements: int) -> np.ndarray:
    """What each example's summed loss is multiplied by: (N,) float64."""
    if reduction not in REDUCTIONS:
        check_choice(f"{name}: reduction", reduction, REDUCTIONS)
    divisor = elements if reduction == "mean" else 1
    if sample_weight is None:
        return _equal_weight(rows, 1 if reduction == "sum" else rows * divisor)
    weight = check_array(f"{name}: sample_weight", sample_weight, shape=(rows,)).astype(np.float64)
    check_finite(f"{name}: sample_weight", weight)
    check_interval(f"{name}: sample_weight", weight, 0, math.inf)
    with np.errstate(over="ignore"):
        total = weight.sum()
    if not np.isfinite(total):
        raise ValueError(f"{name}: sample_weight: expected a finite sum, got {total}; scale the weights down")
    if not weight.any():
        raise ValueError(f"{name}: sample_weight: expected at least one weight above 0, got {rows} zeros")
    return weight if reduction == "sum" else weight / total / divisor


@functools.lru_cache(maxsize=8)
def _equal_weight(rows: int, divisor: int) -> np.ndarray:
    """The weight of examples that count alike: kept, for the batches of a run are of one or two sizes. Only read."""
    return np.full(rows, 1 / divisor)

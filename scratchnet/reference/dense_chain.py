"""Dense layers in a chain, ReLU between them, as one operation: those of dense.py and activations.py one by one.

All parameters of a chain are one array, as a net keeps them anyway, and so are all outputs. A fast floor can then run
small layers in one call; a call of its own for each would take longer than the arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from scratchnet.reference.activations import relu_backward, relu_forward
from scratchnet.reference.dense import dense_backward_input, dense_backward_weight, dense_forward

Widths = tuple[int, ...]


def _parameters(flat: np.ndarray, widths: Widths) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Cut W_1, b_1, W_2, b_2, ... out of the array that holds them."""
    end = 0
    for d, u in pairwise(widths):
        start, end = end, end + (d + 1) * u
        yield flat[start : end - u].reshape(d, u), flat[end - u : end]


def _batches(flat: np.ndarray, rows: int, widths: Widths) -> Iterator[np.ndarray]:
    """Cut arrays of (rows, U_1), (rows, U_2), ... out of the array that holds them."""
    end = 0
    for u in widths[1:]:
        start, end = end, end + rows * u
        yield flat[start:end].reshape(rows, u)


def dense_chain_forward(ys: np.ndarray, x: np.ndarray, params: np.ndarray, widths: Widths, rectify_last: bool) -> None:
    """Compute L dense layers, each from the outputs of the one before.

        z_i = y_{i-1} W_i + b_i          y_i = max(z_i, 0)          i = 1, ..., L          y_0 = x

    The last layer has no max unless `rectify_last`.

    Args:
        ys: (N (U_1 + ... + U_L),) float: y_1 of (N, U_1), behind it y_2, and so on. Written.
        x: (N, D). params: W_1 of (D, U_1), b_1 of (U_1,), behind them W_2, and so on. Same dtype. Read.
        widths: (D, U_1, ..., U_L).
    """
    for i, (y, (weight, bias)) in enumerate(zip(_batches(ys, len(x), widths), _parameters(params, widths)), start=1):
        dense_forward(y, x, weight, bias)
        if i < len(widths) - 1 or rectify_last:
            relu_forward(y, y)
        x = y


def dense_chain_backward(
    dx: np.ndarray,
    dparams: np.ndarray,
    dzs: np.ndarray,
    dy: np.ndarray,
    ys: np.ndarray,
    x: np.ndarray,
    params: np.ndarray,
    widths: Widths,
    rectify_last: bool,
) -> None:
    """Differentiate that by everything it reads, from the last layer to the first.

        dz_i = dy_i where y_i > 0, else 0                dW_i = y_{i-1}^T dz_i        db_i = sum_n dz_i[n]
        dy_{i-1} = dz_i W_i^T                            dx = dy_0

    Without `rectify_last` dz_L = dy.

    Args:
        dx: (N, D), or empty where it is not wanted. dparams: as params. dzs: as ys. Overwritten.
        dy: (N, U_L). ys: from the forward pass. x, params, widths: as there. Read. Where a y is NaN, so is its dz.
    """
    inputs, gradients = [x, *_batches(ys, len(x), widths)], list(_batches(dzs, len(x), widths))
    if rectify_last:
        relu_backward(gradients[-1], dy, inputs[-1])
    else:
        gradients[-1][...] = dy
    weights = [weight for weight, _ in _parameters(params, widths)]
    # inputs[i] is y_i, but gradients[i] is dz_{i+1} and weights[i] is W_{i+1}
    for i, (dweight, dbias) in reversed(list(enumerate(_parameters(dparams, widths)))):
        dense_backward_weight(dweight, dbias, inputs[i], gradients[i])
        if i > 0:
            dense_backward_input(gradients[i - 1], gradients[i], weights[i])
            relu_backward(gradients[i - 1], gradients[i - 1], inputs[i])
        elif dx.size:
            dense_backward_input(dx, gradients[0], weights[0])

"""Dense layers in a chain; equations in reference/dense_chain.py.

Where every product is small, the whole chain is one launch on one thread: a launch takes some microseconds of Python,
in which a core does 100,000 multiply-adds. Larger layers are launched one by one.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from scratchnet.kernels import tile
from scratchnet.kernels.activations import relu_backward
from scratchnet.kernels.dense import dense_backward_weight
from scratchnet.kernels.jit import kernel, workspace
from scratchnet.kernels.matmul import ADD, COLLECT, MASK, NOTHING, RECTIFY, matmul, plan, product, work

Widths = tuple[int, ...]

# From this many multiply-adds of the largest product each one has its launch, and may have threads. It is more than a
# single product needs for that: 110-110-110-10 takes 445 us at once, layer by layer on two threads 523 us.
APART_FROM = 2_000_000

_product, _relu_backward = product.serial, relu_backward.serial


def dense_chain_forward(ys: np.ndarray, x: np.ndarray, params: np.ndarray, widths: Widths, rectify_last: bool) -> None:
    """y_i = max(y_{i-1} W_i + b_i, 0); see reference.dense_chain_forward."""
    x = np.ascontiguousarray(x)
    if plans := _plans(len(x), widths, rectify_last, x.dtype):
        numbers, *rest = plans
        return _forward.serial(ys, x, params, workspace("matmul", numbers, x.dtype), *rest)
    for i, (y, (weight, bias)) in enumerate(zip(_batches(ys, len(x), widths), _parameters(params, widths)), start=1):
        matmul(y, x, weight, bias, rectify=i < len(widths) - 1 or rectify_last)
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
    """dx, dW_i, db_i from dy; see reference.dense_chain_backward."""
    dy, x = np.ascontiguousarray(dy), np.ascontiguousarray(x)
    if plans := _plans(len(x), widths, rectify_last, x.dtype):
        numbers, *rest = plans
        space = workspace("matmul", numbers, x.dtype)
        return _backward.serial(dx, dparams, dzs, dy, ys, x, params, rectify_last, space, *rest)
    inputs, gradients = [x, *_batches(ys, len(x), widths)], list(_batches(dzs, len(x), widths))
    if rectify_last:
        relu_backward(gradients[-1], dy, inputs[-1])
    else:
        gradients[-1][...] = dy
    weights = [weight for weight, _ in _parameters(params, widths)]
    for i, (dweight, dbias) in reversed(list(enumerate(_parameters(dparams, widths)))):
        dense_backward_weight(dweight, dbias, inputs[i], gradients[i])
        if i > 0:
            matmul(gradients[i - 1], gradients[i], weights[i], turn_b=True, outputs=inputs[i])
        elif dx.size:
            matmul(dx, gradients[0], weights[0], turn_b=True)


@kernel
def _forward(ys, x, params, space, multiply, pack, widths, plans):
    """All layers, one behind the other, on one thread."""
    rows, at, p = x.shape[0], 0, 0
    for i in range(widths.size - 1):
        d, u = widths[i], widths[i + 1]
        weight, bias = params[p : p + d * u].reshape(d, u), params[p + d * u : p + d * u + u]
        y = ys[at : at + rows * u].reshape(rows, u)
        _product(y, x, weight, bias, space, multiply, pack, plans[i, 0])
        x, at, p = y, at + rows * u, p + d * u + u


@kernel
def _backward(dx, dparams, dzs, dy, ys, x, params, rectify_last, space, multiply, pack, widths, plans):
    """All layers, the last one first, on one thread."""
    rows, at, p, flat = x.shape[0], ys.size, params.size, dy.reshape(-1)
    last = at - flat.size
    if rectify_last:
        _relu_backward(dzs[last:], flat, ys[last:])
    else:
        for j in range(flat.size):
            dzs[last + j] = flat[j]
    for i in range(widths.size - 2, -1, -1):
        d, u = widths[i], widths[i + 1]
        at, p = at - rows * u, p - d * u - u
        dz, weight = dzs[at : at + rows * u].reshape(rows, u), params[p : p + d * u].reshape(d, u)
        dweight, dbias = dparams[p : p + d * u].reshape(d, u), dparams[p + d * u : p + d * u + u]
        before = at - rows * d
        inputs = ys[before:at].reshape(rows, d) if i else x
        _product(dweight, inputs, dz, dbias, space, multiply, pack, plans[i, 1])
        if i:
            into = dzs[before:at].reshape(rows, d)
            _product(into, dz, weight, ys[before:at], space, multiply, pack, plans[i, 2])
        elif dx.size:
            _product(dx, dz, weight, dbias, space, multiply, pack, plans[i, 2])


@functools.lru_cache(1024)
def _plans(rows: int, widths: Widths, rectify_last: bool, dtype: np.dtype[Any]) -> tuple[Any, ...]:
    """The size of the workspace; the tile, the widths, and the plans of each layer's three products (L, 3, 14).

    Nothing where a product is large.
    """
    if max(work(rows, u, d, dtype) for d, u in pairwise(widths)) >= APART_FROM:
        return ()
    edges = [RECTIFY] * (len(widths) - 2) + [RECTIFY if rectify_last else ADD]
    found = [
        (
            plan(rows, u, d, False, False, edge, dtype, 1),  # y = x W + b
            plan(d, u, rows, True, False, COLLECT, dtype, 1),  # dW = x^T dz
            plan(rows, d, u, False, True, MASK if i else NOTHING, dtype, 1),  # dx = dz W^T
        )
        for i, ((d, u), edge) in enumerate(zip(pairwise(widths), edges))
    ]
    sizes = np.array([[sizes for sizes, _ in layer] for layer in found])
    most = max(numbers for layer in found for _, numbers in layer)
    return most, *tile.functions(dtype), np.array(widths), sizes


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

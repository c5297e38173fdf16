"""One entry per operation: how to make its arguments for a size. test_twins.py runs both floors on them and compares.

A case is `operation name -> function(rng, size, dtype, integers) -> (written, read, scalars)`:
    written: list of arrays the operation writes. What it only writes holds junk; what it also reads (an optimizer's
        params and state) holds meaningful values. The test copies them for each floor;
    read: list of arrays it only reads;  scalars: list.
The call is operation(*written, *read, *scalars). `size` is one of SIZES below, and scales the number of rows; with
`integers` the float arrays must hold small integers, so that float32 sums are exact in any order.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

Case = Callable[[np.random.Generator, int, str, bool], tuple[list, list, list]]
CASES: dict[str, Case] = {}

SIZES = (0, 1, 7, 37, 3000)  # rows; 3000 rows reach the parallel body of the kernels


def case(function: Case) -> Case:
    """Register a case under the function's name."""
    CASES[function.__name__] = function
    return function


def floats(rng: np.random.Generator, shape: tuple[int, ...], dtype: str, integers: bool) -> np.ndarray:
    """Random normal numbers, or integers from -3 to 3, as `dtype`."""
    if integers:
        return rng.integers(-3, 4, shape).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)


@case
def dense_forward(rng, size, dtype, integers):
    return (
        [np.empty((size, 19), dtype)],
        [floats(rng, s, dtype, integers) for s in ((size, 13), (13, 19), (19,))],
        [],
    )


@case
def dense_backward_weight(rng, size, dtype, integers):
    return (
        [np.empty((13, 19), dtype), np.empty(19, dtype)],
        [floats(rng, s, dtype, integers) for s in ((size, 13), (size, 19))],
        [],
    )


@case
def dense_backward_input(rng, size, dtype, integers):
    return [np.empty((size, 13), dtype)], [floats(rng, s, dtype, integers) for s in ((size, 19), (13, 19))], []


CHAIN = (5, 19, 7, 4)  # widths


@case
def dense_chain_forward(rng, size, dtype, integers):
    written = [np.empty(size * sum(CHAIN[1:]), dtype)]
    count = sum((d + 1) * u for d, u in pairwise(CHAIN))
    return written, [floats(rng, s, dtype, integers) for s in ((size, CHAIN[0]), (count,))], [CHAIN, False]


@case
def dense_chain_backward(rng, size, dtype, integers):
    (ys,), (x, params), _ = dense_chain_forward(rng, size, dtype, integers)
    dy = floats(rng, (size, CHAIN[-1]), dtype, integers)
    ys = np.maximum(floats(rng, ys.shape, dtype, integers), 0)
    return [np.empty_like(a) for a in (x, params, ys)], [dy, ys, x, params], [CHAIN, True]


# --- activations, dropout, residual: any shape -------------------------------------------------------------------


def elementwise_forward(*scalars, reads=1):
    """A case that writes one array of (size, 29) and reads `reads` such arrays."""

    def make(rng, size, dtype, integers):
        read = [floats(rng, (size, 29), dtype, integers) for _ in range(reads)]
        return [np.empty((size, 29), dtype)], read, list(scalars)

    return make


def through_output(forward):
    """A case of (dx, dy, y), where y = forward(random numbers)."""

    def make(rng, size, dtype, integers):
        dy, x = (floats(rng, (size, 29), dtype, integers) for _ in range(2))
        return [np.empty((size, 29), dtype)], [dy, forward(x).astype(dtype)], []

    return make


CASES["relu_forward"] = elementwise_forward()
CASES["relu_backward"] = through_output(lambda x: np.maximum(x, 0))
CASES["leaky_relu_forward"] = elementwise_forward(0.01)
CASES["leaky_relu_backward"] = elementwise_forward(0.01, reads=2)
CASES["sigmoid_forward"] = elementwise_forward()
CASES["sigmoid_backward"] = through_output(lambda x: 1 / (1 + np.exp(-x)))
CASES["tanh_forward"] = elementwise_forward()
CASES["tanh_backward"] = through_output(np.tanh)
CASES["softplus_forward"] = elementwise_forward()
CASES["softplus_backward"] = elementwise_forward(reads=2)
CASES["residual_forward"] = elementwise_forward(reads=2)
CASES["residual_backward"] = elementwise_forward(reads=2)
CASES["dropout_forward"] = elementwise_forward(np.uint64(0x9E3779B97F4A7C15), 0.3)
CASES["dropout_backward"] = elementwise_forward(np.uint64(2**64 - 1), 0.3)


# --- losses ------------------------------------------------------------------------------------------------------


@case
def softmax_cross_entropy(rng, size, dtype, integers):
    logits = floats(rng, (size, 11), dtype, integers)
    return (
        [np.empty(size), np.empty((size, 11), dtype)],
        [logits, rng.integers(0, 11, size), rng.random(size)],
        [],
    )


@case
def binary_cross_entropy(rng, size, dtype, integers):
    logits, targets = floats(rng, (size, 11), dtype, integers), rng.random((size, 11)).astype(dtype)
    return [np.empty(size), np.empty((size, 11), dtype)], [logits, targets, rng.random(size)], []


@case
def mse(rng, size, dtype, integers):
    predictions, targets = (floats(rng, (size, 11), dtype, integers) for _ in range(2))
    return [np.empty(size), np.empty((size, 11), dtype)], [predictions, targets, rng.random(size)], []


@case
def gaussian_kl(rng, size, dtype, integers):
    mean, log_variance = (floats(rng, (size, 11), dtype, integers) for _ in range(2))
    written = [np.empty(size), np.empty((size, 11), dtype), np.empty((size, 11), dtype)]
    return written, [mean, log_variance, rng.random(size)], []


# --- batch norm: 13 channels -------------------------------------------------------------------------------------


@case
def batch_norm_forward(rng, size, dtype, integers):
    written = [np.empty((size, 13), dtype), np.empty(13, dtype), np.empty(13, dtype)]
    return written, [floats(rng, s, dtype, integers) for s in ((size, 13), (13,), (13,))], [1e-5]


@case
def batch_norm_apply(rng, size, dtype, integers):
    x, mean, weight, bias = (floats(rng, s, dtype, integers) for s in ((size, 13), (13,), (13,), (13,)))
    variance = rng.uniform(0.5, 2, 13).astype(dtype)
    return [np.empty((size, 13), dtype)], [x, mean, variance, weight, bias], [1e-5]


@case
def batch_norm_backward(rng, size, dtype, integers):
    dy, x, weight = (floats(rng, s, dtype, integers) for s in ((size, 13), (size, 13), (13,)))
    mean, variance = (np.full(13, value, dtype) for value in (0.1, 1.1))
    written = [np.empty((size, 13), dtype), np.empty(13, dtype), np.empty(13, dtype)]
    return written, [dy, x, mean, variance, weight], [1e-5]


# --- sparse: rows of 0 to 7 elements over 23 columns, some named twice -------------------------------------------


def csr(rng, size, dtype, integers):
    """(indptr, indices, data); int32 like SciPy's, or int64 for odd sizes."""
    index = np.int64 if size % 2 else np.int32
    indptr = np.concatenate([[0], np.cumsum(rng.integers(0, 8, size))]).astype(index)
    indices = rng.integers(0, 23, indptr[-1]).astype(index)
    return [indptr, indices, floats(rng, (int(indptr[-1]),), dtype, integers)]


@case
def csr_dense_forward(rng, size, dtype, integers):
    weight, bias = floats(rng, (23, 19), dtype, integers), floats(rng, (19,), dtype, integers)
    return [np.empty((size, 19), dtype)], [*csr(rng, size, dtype, integers), weight, bias], []


@case
def csr_dense_backward_weight(rng, size, dtype, integers):
    dy = floats(rng, (size, 19), dtype, integers)
    return [np.empty((23, 19), dtype), np.empty(19, dtype)], [*csr(rng, size, dtype, integers), dy], []


# --- optimizer updates: they read what they write, so `written` holds meaningful values; rates exact in float32 -------
# The rate is no power of two, which would hide in what order a product and a quotient are rounded.


def update(*scalars, states, empty=()):
    """A case of (params, *states, grads): running means of squares positive and above the square of the mean."""

    def make(rng, size, dtype, integers):
        params, grads = (floats(rng, (16 * size,), dtype, integers) for _ in range(2))
        written = [params]
        for name in states:
            if name in empty:
                written.append(np.empty(0, dtype))
            elif name in ("m", "momentum_buffer"):
                written.append(rng.uniform(-1, 1, 16 * size).astype(dtype))
            else:
                written.append(rng.uniform(2, 3, 16 * size).astype(dtype))
        return written, [grads], list(scalars)

    return make


CASES["sgd_update"] = update(0.15625, 0.875, 0.25, 0.0625, True, states=["momentum_buffer"])
CASES["adagrad_update"] = update(0.15625, 1e-8, 0.0625, states=["square_sum"])
CASES["adadelta_update"] = update(0.15625, 0.875, 1e-6, 0.0625, states=["v", "v_delta"])
CASES["rmsprop_update"] = update(0.15625, 0.875, 1e-8, 0.75, 0.0625, states=["v", "m", "momentum_buffer"])
CASES["adam_update"] = update(0.15625, 1.5, 0.875, 0.9375, 1e-8, 0.0625, 0.03125, states=["m", "v", "v_max"])
CASES["adamax_update"] = update(0.15625, 0.875, 0.9375, 1e-8, 0.0625, states=["m", "u"])
CASES["nadam_update"] = update(0.15625, 0.28125, 1.5, 0.875, 0.9375, 1e-8, 0.0625, 0.03125, states=["m", "v"])
CASES["radam_update"] = update(0.15625, 0.875, 0.9375, 1e-8, 0.0625, 0.03125, True, states=["m", "v"])
CASES["lion_update"] = update(0.15625, 0.875, 0.9375, 0.03125, states=["m"])

# The modes that the cases above leave out: tests/test_updates.py compares the floors on them too.
MODES = {
    "sgd_update: plain": update(
        0.15625, 0.0, 0.0, 0.0625, False, states=["momentum_buffer"], empty=["momentum_buffer"]
    ),
    "sgd_update: momentum": update(0.15625, 0.875, 0.25, 0.0625, False, states=["momentum_buffer"]),
    "rmsprop_update: plain": update(
        0.15625, 0.875, 1e-8, 0.0, 0.0625, states=["v", "m", "momentum_buffer"], empty=["m", "momentum_buffer"]
    ),
    "rmsprop_update: centered": update(
        0.15625, 0.875, 1e-8, 0.0, 0.0625, states=["v", "m", "momentum_buffer"], empty=["momentum_buffer"]
    ),
    "rmsprop_update: momentum": update(
        0.15625, 0.875, 1e-8, 0.75, 0.0625, states=["v", "m", "momentum_buffer"], empty=["m"]
    ),
    "adam_update: plain": update(
        0.15625, 1.5, 0.875, 0.9375, 1e-8, 0.0625, 0.03125, states=["m", "v", "v_max"], empty=["v_max"]
    ),
    "radam_update: not rectified": update(0.15625, 0.875, 0.9375, 1e-8, 0.0625, 0.03125, False, states=["m", "v"]),
}


@case
def squared_norm(rng, size, dtype, integers):
    return [np.zeros(1)], [floats(rng, (16 * size,), dtype, integers)], []


@case
def scale_gradients(rng, size, dtype, integers):
    return [floats(rng, (16 * size,), dtype, integers)], [], [0.75]


@case
def clip_gradients(rng, size, dtype, integers):
    return [floats(rng, (16 * size,), dtype, integers)], [], [1.5]


# --- convolution and pooling: 5 x 6 images, an odd stride and padding on one side only ---------------------------


@case
def conv2d_forward(rng, size, dtype, integers):
    shapes = (size, 5, 6, 3), (3, 2, 3, 4), (4,)
    return [np.empty((size, 5, 3, 4), dtype)], [floats(rng, s, dtype, integers) for s in shapes], [(1, 2), (1, 0)]


@case
def conv2d_backward_weight(rng, size, dtype, integers):
    shapes = (size, 5, 6, 3), (size, 5, 3, 4)
    written = [np.empty((3, 2, 3, 4), dtype), np.empty(4, dtype)]
    return written, [floats(rng, s, dtype, integers) for s in shapes], [(1, 2), (1, 0)]


@case
def conv2d_backward_input(rng, size, dtype, integers):
    shapes = (size, 5, 3, 4), (3, 2, 3, 4)
    return [np.empty((size, 5, 6, 3), dtype)], [floats(rng, s, dtype, integers) for s in shapes], [(1, 2), (1, 0)]


JOINED = [(5, 3), (1, 2), (1, 0), (2, 2), (2, 1), (1, 0)]  # to (N, 3, 2, 4)


@case
def conv2d_relu_max_pool2d_forward(rng, size, dtype, integers):
    written = [np.empty((size, 3, 2, 4), dtype), np.empty((size, 3, 2, 4), np.uint8)]
    shapes = (size, 5, 6, 3), (3, 2, 3, 4), (4,)
    return written, [floats(rng, s, dtype, integers) for s in shapes], JOINED


@case
def conv2d_relu_max_pool2d_backward(rng, size, dtype, integers):
    dy, y = (floats(rng, (size, 3, 2, 4), dtype, integers) for _ in range(2))
    winners = rng.integers(2, 4, (size, 3, 2, 4)).astype(np.uint8)  # in the image also at its edges
    x, weight = (floats(rng, s, dtype, integers) for s in ((size, 5, 6, 3), (3, 2, 3, 4)))
    written = [np.empty_like(x), np.empty_like(weight), np.empty(4, dtype)]
    return written, [dy, np.maximum(y, 0), winners, x, weight], JOINED


@case
def max_pool2d_forward(rng, size, dtype, integers):
    written = [np.empty((size, 5, 4, 3), dtype), np.empty((size, 5, 4, 3), np.uint8)]
    return written, [floats(rng, (size, 5, 6, 3), dtype, integers)], [(2, 3), (1, 2), (1, 1)]


@case
def max_pool2d_backward(rng, size, dtype, integers):
    winners = rng.integers(0, 6, (size, 5, 4, 3)).astype(np.uint8)
    dy = floats(rng, (size, 5, 4, 3), dtype, integers)
    return [np.empty((size, 5, 6, 3), dtype)], [dy, winners], [(2, 3), (1, 2), (1, 1)]


@case
def relu_max_pool2d_forward(rng, size, dtype, integers):
    return max_pool2d_forward(rng, size, dtype, integers)


@case
def relu_max_pool2d_backward(rng, size, dtype, integers):
    written, (dy, winners), windows = max_pool2d_backward(rng, size, dtype, integers)
    y = np.maximum(floats(rng, dy.shape, dtype, integers) + 1, 0)
    return written, [dy, y, winners], windows


@case
def avg_pool2d_forward(rng, size, dtype, integers):
    written = [np.empty((size, 5, 4, 3), dtype)]
    return written, [floats(rng, (size, 5, 6, 3), dtype, integers)], [(2, 3), (1, 2), (1, 1)]


@case
def avg_pool2d_backward(rng, size, dtype, integers):
    written = [np.empty((size, 5, 6, 3), dtype)]
    return written, [floats(rng, (size, 5, 4, 3), dtype, integers)], [(2, 3), (1, 2), (1, 1)]


@case
def global_avg_pool2d_forward(rng, size, dtype, integers):
    return [np.empty((size, 7), dtype)], [floats(rng, (size, 5, 6, 7), dtype, integers)], []


@case
def global_avg_pool2d_backward(rng, size, dtype, integers):
    return [np.empty((size, 5, 6, 7), dtype)], [floats(rng, (size, 7), dtype, integers)], []

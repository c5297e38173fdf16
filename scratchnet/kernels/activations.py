"""Activations, one pass each; equations in reference/activations.py.

Comparisons are written so that NaN falls through to NaN: `zero if v < zero else v`, never `v if v > zero else zero`.
Constants are made in the array's dtype: a bare 1 or 1.0 would turn a float32 loop into float64.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from scratchnet.kernels.exponential import exp, log1p, tanh
from scratchnet.kernels.jit import elementwise, precise


@elementwise
def relu_forward(y: np.ndarray, x: np.ndarray) -> None:
    """y = max(x, 0); see reference.relu_forward."""
    zero = x.dtype.type(0)
    for i in prange(x.size):
        y[i] = zero if x[i] < zero else x[i]


@elementwise
def relu_backward(dx: np.ndarray, dy: np.ndarray, y: np.ndarray) -> None:
    """dx = dy where y > 0, else 0; see reference.relu_backward."""
    zero = y.dtype.type(0)
    for i in prange(y.size):
        # y * 0 is 0 for an inactive unit and NaN where the output was NaN
        dx[i] = dy[i] if y[i] > zero else y[i] * zero


@elementwise
def leaky_relu_forward(y: np.ndarray, x: np.ndarray, slope: float) -> None:
    """y = x where x > 0, else slope x; see reference.leaky_relu_forward."""
    zero, slope = x.dtype.type(0), x.dtype.type(slope)
    for i in prange(x.size):
        y[i] = x[i] if x[i] > zero else slope * x[i]


@elementwise
def leaky_relu_backward(dx: np.ndarray, dy: np.ndarray, x: np.ndarray, slope: float) -> None:
    """dx = dy where x > 0, else slope dy; see reference.leaky_relu_backward."""
    zero, slope = x.dtype.type(0), x.dtype.type(slope)
    for i in prange(x.size):
        dx[i] = dy[i] if x[i] > zero else (slope * dy[i] if x[i] <= zero else x[i])


@precise
def _sigmoid(v: float) -> float:
    """1 / (1 + exp(-v)) of one number, in its own dtype, without overflow."""
    one = type(v)(1)
    e = exp(-abs(v))
    return (e if v < 0 else one) / (one + e)


@elementwise
def sigmoid_forward(y: np.ndarray, x: np.ndarray) -> None:
    """y = 1 / (1 + exp(-x)); see reference.sigmoid_forward."""
    for i in prange(x.size):
        y[i] = _sigmoid(x[i])


@elementwise
def sigmoid_backward(dx: np.ndarray, dy: np.ndarray, y: np.ndarray) -> None:
    """dx = dy y (1 - y); see reference.sigmoid_backward."""
    one = y.dtype.type(1)
    for i in prange(y.size):
        dx[i] = dy[i] * y[i] * (one - y[i])


@elementwise
def tanh_forward(y: np.ndarray, x: np.ndarray) -> None:
    """y = tanh(x); see reference.tanh_forward."""
    for i in prange(x.size):
        y[i] = tanh(x[i])


@elementwise
def tanh_backward(dx: np.ndarray, dy: np.ndarray, y: np.ndarray) -> None:
    """dx = dy (1 - y^2); see reference.tanh_backward."""
    one = y.dtype.type(1)
    for i in prange(y.size):
        dx[i] = dy[i] * (one - y[i] * y[i])


@elementwise
def softplus_forward(y: np.ndarray, x: np.ndarray) -> None:
    """y = log(1 + exp(x)); see reference.softplus_forward."""
    zero = x.dtype.type(0)
    for i in prange(x.size):
        y[i] = (zero if x[i] < zero else x[i]) + log1p(exp(-abs(x[i])))


@elementwise
def softplus_backward(dx: np.ndarray, dy: np.ndarray, x: np.ndarray) -> None:
    """dx = dy / (1 + exp(-x)); see reference.softplus_backward."""
    for i in prange(x.size):
        dx[i] = dy[i] * _sigmoid(x[i])

"""Activations: functions of one number, applied to every element. All arrays of a call have one shape, of any rank.

Each backward reads x or y, as its arguments say: sigmoid, tanh and ReLU need only the output.
"""

from __future__ import annotations

import numpy as np


def relu_forward(y: np.ndarray, x: np.ndarray) -> None:
    """Rectify.

        y = max(x, 0)          NaN stays NaN

    Args:
        y: float, any shape. Written.
        x: the same shape and dtype. Read.
    """
    np.maximum(x, 0, out=y)


def relu_backward(dx: np.ndarray, dy: np.ndarray, y: np.ndarray) -> None:
    """Differentiate ReLU; at the kink x = 0 the derivative is taken as 0, as PyTorch does.

        dx = dy  where y > 0, else 0

    Args:
        dx: float, any shape. Overwritten.
        dy, y: the same shape and dtype; y is the output. Read. Where y is NaN, dx is NaN.
    """
    dx[...] = np.where(y > 0, dy, 0)
    dx[np.isnan(y)] = np.nan


def leaky_relu_forward(y: np.ndarray, x: np.ndarray, slope: float) -> None:
    """Rectify, keeping a fraction of the negative side (Maas et al. 2013).

        y = x  where x > 0, else slope x

    Args:
        y: float, any shape. Written.
        x: the same shape and dtype. Read. NaN stays NaN.
        slope: >= 0.
    """
    y[...] = np.where(x > 0, x, x * x.dtype.type(slope))


def leaky_relu_backward(dx: np.ndarray, dy: np.ndarray, x: np.ndarray, slope: float) -> None:
    """Differentiate leaky ReLU; at the kink x = 0 the derivative is taken as slope, as PyTorch does.

        dx = dy  where x > 0, else slope dy

    Args:
        dx: float, any shape. Overwritten.
        dy, x: the same shape and dtype; x is the input. Read. Where x is NaN, dx is NaN.
        slope: >= 0.
    """
    dx[...] = np.where(x > 0, dy, np.where(x <= 0, dy * dy.dtype.type(slope), x))


def sigmoid_forward(y: np.ndarray, x: np.ndarray) -> None:
    """Squash into (0, 1).

        y = 1 / (1 + exp(-x)) = e / (1 + e)  with e = exp(x) where x < 0: no exponential overflows

    Args:
        y: float, any shape. Written.
        x: the same shape and dtype. Read. NaN stays NaN; -inf gives 0, +inf gives 1.
    """
    e = np.exp(-np.abs(x))
    y[...] = np.where(x < 0, e, 1) / (1 + e)


def sigmoid_backward(dx: np.ndarray, dy: np.ndarray, y: np.ndarray) -> None:
    """Differentiate the sigmoid through its output.

        dx = dy y (1 - y)

    Args:
        dx: float, any shape. Overwritten.
        dy, y: the same shape and dtype; y is the output. Read.
    """
    dx[...] = dy * y * (1 - y)


def tanh_forward(y: np.ndarray, x: np.ndarray) -> None:
    """Squash into (-1, 1).

        y = tanh(x)

    Args:
        y: float, any shape. Written.
        x: the same shape and dtype. Read. NaN stays NaN.
    """
    np.tanh(x, out=y)


def tanh_backward(dx: np.ndarray, dy: np.ndarray, y: np.ndarray) -> None:
    """Differentiate tanh through its output.

        dx = dy (1 - y^2)

    Args:
        dx: float, any shape. Overwritten.
        dy, y: the same shape and dtype; y is the output. Read.
    """
    dx[...] = dy * (1 - y * y)


def softplus_forward(y: np.ndarray, x: np.ndarray) -> None:
    """Rectify smoothly.

        y = log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|)): exact for any size of x

    Args:
        y: float, any shape. Written.
        x: the same shape and dtype. Read. NaN stays NaN.
    """
    y[...] = np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def softplus_backward(dx: np.ndarray, dy: np.ndarray, x: np.ndarray) -> None:
    """Differentiate softplus: its derivative is the sigmoid.

        dx = dy / (1 + exp(-x))

    Args:
        dx: float, any shape. Overwritten.
        dy, x: the same shape and dtype; x is the input. Read.
    """
    sigmoid_forward(dx, x)
    dx *= dy

"""Pooling, and ReLU before it; equations in reference/pool.py.

Forward writes one line of windows (n, oh) per step of the parallel loop. Backward turns the question round and writes
one row of the image (n, h) per step, adding up what the windows over it hand back: no two threads ever write one row,
also where windows overlap. The innermost loop runs over the channels, which lie side by side; that of max pooling is
written by hand (max_pool.py).
"""

from __future__ import annotations

import numpy as np
from numba import prange

from scratchnet.kernels import max_pool
from scratchnet.kernels.jit import kernel, worth_threads
from scratchnet.kernels.memory import addresses_of, clear
from scratchnet.kernels.windows import Pair, inside


def max_pool2d_forward(
    y: np.ndarray, index: np.ndarray, x: np.ndarray, kernel_size: Pair, stride: Pair, padding: Pair
) -> None:
    """y = max over the window, index = which cell; see reference.max_pool2d_forward."""
    _forward(y, index, x, max_pool.plan(x.shape[1:3], y, kernel_size, stride, padding))


def relu_max_pool2d_forward(
    y: np.ndarray, index: np.ndarray, x: np.ndarray, kernel_size: Pair, stride: Pair, padding: Pair
) -> None:
    """y, index = max_pool2d(max(x, 0)); see reference.relu_max_pool2d_forward."""
    _forward(y, index, x, max_pool.plan(x.shape[1:3], y, kernel_size, stride, padding, rectify=True))


def _forward(y: np.ndarray, index: np.ndarray, x: np.ndarray, pool: max_pool.Pool) -> None:
    """Forward of either."""
    x = np.ascontiguousarray(x)
    functions, addresses = max_pool.functions(y.dtype), addresses_of(y, index, x)
    _max_pool.launch(worth_threads(x.size), y.shape[0], pool, functions, addresses)


@kernel
def _max_pool(images, pool, functions, addresses):
    y, index, x = addresses
    line, image = pool.columns * pool.channels, pool.height * pool.width * pool.channels
    for task in prange(images * pool.rows):
        n, oh = task // pool.rows, task % pool.rows
        at = n * pool.rows * line
        max_pool.pool_line(functions.pick, pool, y + pool.itemsize * at, index + at, x + pool.itemsize * n * image, oh)


def max_pool2d_backward(
    dx: np.ndarray, dy: np.ndarray, index: np.ndarray, kernel_size: Pair, stride: Pair, padding: Pair
) -> None:
    """dx = dy of the windows it won; see reference.max_pool2d_backward."""
    _backward(dx, dy, dy, index, max_pool.plan(dx.shape[1:3], dy, kernel_size, stride, padding))


def relu_max_pool2d_backward(
    dx: np.ndarray,
    dy: np.ndarray,
    y: np.ndarray,
    index: np.ndarray,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
) -> None:
    """dx = dy of the windows it won where y > 0; see reference.relu_max_pool2d_backward."""
    _backward(dx, dy, y, index, max_pool.plan(dx.shape[1:3], dy, kernel_size, stride, padding, rectify=True))


def _backward(dx: np.ndarray, dy: np.ndarray, y: np.ndarray, index: np.ndarray, pool: max_pool.Pool) -> None:
    """Backward of either."""
    dy, y, index = (np.ascontiguousarray(array) for array in (dy, y, index))
    functions, addresses = max_pool.functions(dx.dtype), addresses_of(dx, dy, y, index)
    _max_pool_gradient.launch(worth_threads(dx.size), dx.reshape(-1), dx.shape[0], pool, functions, addresses)


@kernel
def _max_pool_gradient(dx, images, pool, functions, addresses):
    to, dy, y, index = addresses
    row, line = pool.width * pool.channels, pool.columns * pool.channels
    for task in prange(images * pool.height):
        clear(dx, task * row, row)
        n, h = task // pool.height, task % pool.height
        image, at = to + pool.itemsize * n * pool.height * row, n * pool.rows * line
        max_pool.spread_row(
            functions.spread, pool, image, dy + pool.itemsize * at, y + pool.itemsize * at, index + at, h
        )


@kernel
def avg_pool2d_forward(y: np.ndarray, x: np.ndarray, kernel_size: Pair, stride: Pair, padding: Pair) -> None:
    """y = mean of the window; see reference.avg_pool2d_forward."""
    height, width, channels = y.shape[1:]
    zero, share = y.dtype.type(0), y.dtype.type(1 / (kernel_size[0] * kernel_size[1]))
    for line in prange(y.shape[0] * height):
        n, oh = line // height, line % height
        top, i_first, i_last = inside(oh, stride[0], padding[0], kernel_size[0], x.shape[1])
        for ow in range(width):
            left, j_first, j_last = inside(ow, stride[1], padding[1], kernel_size[1], x.shape[2])
            y[n, oh, ow] = zero
            for i in range(i_first, i_last):
                for j in range(j_first, j_last):
                    for c in range(channels):
                        y[n, oh, ow, c] += x[n, top + i, left + j, c]
            for c in range(channels):
                y[n, oh, ow, c] *= share


@kernel
def avg_pool2d_backward(dx: np.ndarray, dy: np.ndarray, kernel_size: Pair, stride: Pair, padding: Pair) -> None:
    """dx = an equal share of dy of each window over it; see reference.avg_pool2d_backward."""
    height, width, channels = dy.shape[1:]
    zero, share = dx.dtype.type(0), dx.dtype.type(1 / (kernel_size[0] * kernel_size[1]))
    for row in prange(dx.shape[0] * dx.shape[1]):
        n, h = row // dx.shape[1], row % dx.shape[1]
        dx[n, h] = zero
        for i in range(kernel_size[0]):
            oh = (h + padding[0] - i) // stride[0]
            if oh * stride[0] == h + padding[0] - i and 0 <= oh < height:
                for ow in range(width):
                    left, j_first, j_last = inside(ow, stride[1], padding[1], kernel_size[1], dx.shape[2])
                    for j in range(j_first, j_last):
                        for c in range(channels):
                            dx[n, h, left + j, c] += dy[n, oh, ow, c]
        for w in range(dx.shape[2]):
            for c in range(channels):
                dx[n, h, w, c] *= share


@kernel
def global_avg_pool2d_forward(y: np.ndarray, x: np.ndarray) -> None:
    """y = mean over the image; see reference.global_avg_pool2d_forward."""
    zero, share = y.dtype.type(0), y.dtype.type(1 / (x.shape[1] * x.shape[2]))
    for n in prange(y.shape[0]):
        y[n] = zero
        for h in range(x.shape[1]):
            for w in range(x.shape[2]):
                for c in range(y.shape[1]):
                    y[n, c] += x[n, h, w, c]
        for c in range(y.shape[1]):
            y[n, c] *= share


@kernel
def global_avg_pool2d_backward(dx: np.ndarray, dy: np.ndarray) -> None:
    """dx = an equal share of dy; see reference.global_avg_pool2d_backward."""
    share = dx.dtype.type(1 / (dx.shape[1] * dx.shape[2]))
    for n in prange(dx.shape[0]):
        for h in range(dx.shape[1]):
            for w in range(dx.shape[2]):
                for c in range(dx.shape[3]):
                    dx[n, h, w, c] = dy[n, c] * share

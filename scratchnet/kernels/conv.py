"""Convolution as a dense layer on patches; equations in reference/conv.py.

What one window sees, KH KW C numbers, is copied into one row of a matrix; then a convolution is y = patches W + b, and
its gradients are those of a dense layer. The matrix is many times larger than the image, so it is made and used in
chunks. A chunk is a run of lines, one line being all OW windows of one (n, oh): line n OH + oh.

In NHWC, row i of a window is one run of KW C numbers in the image: copying is a few long runs per patch, and where a
window hangs over the edge its run is cut, so no padded image is ever made.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numba import prange

from scratchnet.kernels.dense import _sum_rows
from scratchnet.kernels.jit import helper, kernel, workspace
from scratchnet.kernels.matmul import matmul
from scratchnet.kernels.windows import Pair, _inside

WORKSPACE = 4 << 20  # bytes of patches at a time: few products, yet small enough to be in cache when they read it


def conv2d_forward(
    y: np.ndarray, x: np.ndarray, weight: np.ndarray, bias: np.ndarray, stride: Pair, padding: Pair
) -> None:
    """y = patches(x) W + b; see reference.conv2d_forward."""
    matrix = weight.reshape(-1, weight.shape[3])  # (KH KW C, U)
    for first, patches, part in _chunks(y, weight):
        _gather(patches, x, first, y.shape[1], stride, padding)
        matmul(part, patches.reshape(-1, matrix.shape[0]), matrix, bias)


def conv2d_backward_weight(
    dweight: np.ndarray, dbias: np.ndarray, x: np.ndarray, dy: np.ndarray, stride: Pair, padding: Pair
) -> None:
    """dW = patches(x)^T dy, db = sum dy, added up chunk by chunk in order; see reference.conv2d_backward_weight."""
    dweight.fill(0)
    matrix = dweight.reshape(-1, dweight.shape[3])  # (KH KW C, U)
    for first, patches, part in _chunks(dy, dweight):
        _gather(patches, x, first, dy.shape[1], stride, padding)
        matmul(matrix, patches.reshape(-1, matrix.shape[0]).T, part, accumulate=True)
    _sum_rows(dbias, dy.reshape(-1, dy.shape[3]))


def conv2d_backward_input(dx: np.ndarray, dy: np.ndarray, weight: np.ndarray, stride: Pair, padding: Pair) -> None:
    """dx = the cells of dy W^T, added where they came from; see reference.conv2d_backward_input."""
    dx.fill(0)
    matrix = weight.reshape(-1, weight.shape[3])  # (KH KW C, U)
    for first, patches, part in _chunks(dy, weight):
        matmul(patches.reshape(-1, matrix.shape[0]), part, matrix.T)
        _scatter(dx, patches, first, dy.shape[1], stride, padding)


def _chunks(y: np.ndarray, weight: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Split the lines of y or dy, (N, OH, OW, U), so that the patches of a part fit the workspace.

    Yields:
        first: number of the part's first line.
        patches: (lines, OW, KH, KW, C), the workspace; whatever the last user left in it.
        part: (lines OW, U), the part's view into y.
    """
    images, height, width, units = y.shape
    patch = weight.shape[:3]
    lines = images * height
    line = width * math.prod(patch)  # numbers in the patches of one line
    most = max(1, min(lines, WORKSPACE // (line * y.itemsize)))
    space = workspace("conv", most * line, y.dtype)[: most * line].reshape(most, width, *patch)
    rows = y.reshape(lines * width, units)
    for first in range(0, lines, most):
        patches = space[: lines - first]
        yield first, patches, rows[first * width : (first + len(patches)) * width]


# Runs of flat arrays. Indices are unsigned: signed ones are tested for wrap-around at every step, ten times slower.


@helper
def _fill(to: np.ndarray, at: int, count: int, value: float) -> None:
    """to[at : at + count] = value."""
    at_first = np.uint64(at)
    for k in range(np.uint64(count)):
        to[at_first + k] = value


@helper
def _copy(to: np.ndarray, at: int, source: np.ndarray, start: int, count: int) -> None:
    """to[at : at + count] = source[start : start + count]."""
    at_first, start_first = np.uint64(at), np.uint64(start)
    for k in range(np.uint64(count)):
        to[at_first + k] = source[start_first + k]


@helper
def _add(to: np.ndarray, at: int, source: np.ndarray, start: int, count: int) -> None:
    """to[at : at + count] += source[start : start + count]."""
    at_first, start_first = np.uint64(at), np.uint64(start)
    for k in range(np.uint64(count)):
        to[at_first + k] += source[start_first + k]


@kernel
def _gather(patches: np.ndarray, x: np.ndarray, first: int, height: int, stride: Pair, padding: Pair) -> None:
    """patches[line, ow, i, j, c] = x[n, oh sh - top + i, ow sw - left + j, c], 0 outside; first + line = n OH + oh."""
    lines, windows, kernel_rows, kernel_columns, channels = patches.shape
    rows, columns = x.shape[1], x.shape[2]
    to, image = patches.reshape(patches.size), x.reshape(x.size)
    zero, run = x.dtype.type(0), kernel_columns * channels
    for line in prange(lines):
        n, oh = (first + line) // height, (first + line) % height
        for ow in range(windows):
            left, j_first, j_last = _inside(ow, stride[1], padding[1], kernel_columns, columns)
            for i in range(kernel_rows):
                h = oh * stride[0] - padding[0] + i
                at = ((line * windows + ow) * kernel_rows + i) * run
                if 0 <= h < rows:
                    a, b = j_first * channels, j_last * channels
                    _fill(to, at, a, zero)
                    _copy(to, at + a, image, ((n * rows + h) * columns + left) * channels + a, b - a)
                    _fill(to, at + b, run - b, zero)
                else:
                    _fill(to, at, run, zero)


@kernel
def _scatter(dx: np.ndarray, patches: np.ndarray, first: int, height: int, stride: Pair, padding: Pair) -> None:
    """Add each cell of `patches` to the cell of dx that _gather would read. Each row (n, h) of dx has one owner."""
    lines, windows, kernel_rows, kernel_columns, channels = patches.shape
    rows, columns = dx.shape[1], dx.shape[2]
    image, source = dx.reshape(dx.size), patches.reshape(patches.size)
    before = first // height  # images in front of this chunk
    for row in prange(((first + lines - 1) // height + 1 - before) * rows):
        n, h = before + row // rows, row % rows
        for i in range(kernel_rows):
            oh = (h + padding[0] - i) // stride[0]
            line = n * height + oh - first
            if oh * stride[0] == h + padding[0] - i and 0 <= oh < height and 0 <= line < lines:
                for ow in range(windows):
                    left, j_first, j_last = _inside(ow, stride[1], padding[1], kernel_columns, columns)
                    cell = (((line * windows + ow) * kernel_rows + i) * kernel_columns + j_first) * channels
                    at = ((n * rows + h) * columns + left + j_first) * channels
                    _add(image, at, source, cell, (j_last - j_first) * channels)

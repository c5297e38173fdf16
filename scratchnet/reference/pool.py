"""Pooling: the maximum or the mean of a window, channel by channel.

Written as a loop over the cells ("taps") of the window, as in conv.py; tap (i, j) has the number i KW + j.
`padding` = (top, left) rows and columns before the image, and behind it as many as the last window needs.
"""

from __future__ import annotations

import numpy as np

from scratchnet.reference.activations import relu_backward, relu_forward
from scratchnet.reference.windows import Pair, crop, pad, tap


def max_pool2d_forward(
    y: np.ndarray, index: np.ndarray, x: np.ndarray, kernel_size: Pair, stride: Pair, padding: Pair
) -> None:
    """Take the largest cell of each window, and note which one it was.

        y[n, oh, ow, c] = max_{i, j} x[n, oh sh - top + i, ow sw - left + j, c]          over cells inside the image
        index           = i KW + j of that cell; of equal cells the first

    Args:
        y: (N, OH, OW, C) float, index: (N, OH, OW, C) uint8. Written.
        x: (N, H, W, C), dtype of y. Read. A NaN beats every number (the first NaN wins), as in PyTorch.
        kernel_size: (KH, KW), KH KW <= 256: what an index byte can tell apart.
        stride: (sh, sw), each >= 1.
        padding: (top, left). Every window must reach into the image; padding never wins.
    """
    size = y.shape[1:3]
    padded = pad(x, kernel_size, size, stride, padding)
    image = pad(np.ones(x.shape, bool), kernel_size, size, stride, padding)  # False in the padding
    y.fill(-np.inf)
    found = np.zeros(y.shape, bool)  # has the window met the image yet?
    for i, j in np.ndindex(kernel_size):
        cell, inside = tap(padded, i, j, size, stride), tap(image, i, j, size, stride)
        wins = inside & (~found | (cell > y) | (np.isnan(cell) & ~np.isnan(y)))
        y[wins] = cell[wins]
        index[wins] = i * kernel_size[1] + j
        found |= inside


def max_pool2d_backward(
    dx: np.ndarray, dy: np.ndarray, index: np.ndarray, kernel_size: Pair, stride: Pair, padding: Pair
) -> None:
    """Differentiate max-pooling: each window hands its dy to its winner.

        dx[n, h, w, c] = sum of dy[n, oh, ow, c] over the windows that (h, w) won

    Args:
        dx: (N, H, W, C). Overwritten; 0 where no window reaches.
        dy: (N, OH, OW, C), dtype of dx, index: of the same shape, uint8, from the forward pass. Read.
        kernel_size, stride, padding: as in max_pool2d_forward.
    """
    size = dy.shape[1:3]
    padded = pad(np.zeros_like(dx), kernel_size, size, stride, padding)
    for i, j in np.ndindex(kernel_size):
        tap(padded, i, j, size, stride)[...] += np.where(index == i * kernel_size[1] + j, dy, 0)
    crop(dx, padded, padding)


def relu_max_pool2d_forward(
    y: np.ndarray, index: np.ndarray, x: np.ndarray, kernel_size: Pair, stride: Pair, padding: Pair
) -> None:
    """Rectify, and take the largest cell of each window: ReLU and max pooling as one operation.

        y = max_pool2d(max(x, 0))

    Arguments as max_pool2d_forward.
    """
    rectified = np.empty_like(x)
    relu_forward(rectified, x)
    max_pool2d_forward(y, index, rectified, kernel_size, stride, padding)


def relu_max_pool2d_backward(
    dx: np.ndarray,
    dy: np.ndarray,
    y: np.ndarray,
    index: np.ndarray,
    kernel_size: Pair,
    stride: Pair,
    padding: Pair,
) -> None:
    """Differentiate both: y is positive where the cell that won was, so there, and only there, it gets its dy.

        dx = max_pool2d_backward(dy where y > 0, else 0)

    Args:
        dx: (N, H, W, C). Overwritten; where y is NaN, the cell that won gets a NaN.
        dy: (N, OH, OW, C), dtype of dx. y, index: of the same shape, from the forward pass. Read.
        kernel_size, stride, padding: as in max_pool2d_forward.
    """
    active = np.empty_like(dy)
    relu_backward(active, dy, y)
    max_pool2d_backward(dx, active, index, kernel_size, stride, padding)


def avg_pool2d_forward(y: np.ndarray, x: np.ndarray, kernel_size: Pair, stride: Pair, padding: Pair) -> None:
    """Take the mean of each window; padding counts as zeros, as in PyTorch (count_include_pad=True).

        y[n, oh, ow, c] = (sum_{i, j} x[n, oh sh - top + i, ow sw - left + j, c]) / (KH KW)

    Args:
        y: (N, OH, OW, C) float. Written.
        x: (N, H, W, C), same dtype. Read. NaN and infinity travel into every y whose window holds them.
        kernel_size: (KH, KW). stride: (sh, sw), each >= 1. padding: (top, left).
    """
    size = y.shape[1:3]
    padded = pad(x, kernel_size, size, stride, padding)
    y[...] = 0
    for i, j in np.ndindex(kernel_size):
        y += tap(padded, i, j, size, stride)
    y *= y.dtype.type(1 / (kernel_size[0] * kernel_size[1]))


def avg_pool2d_backward(dx: np.ndarray, dy: np.ndarray, kernel_size: Pair, stride: Pair, padding: Pair) -> None:
    """Differentiate average pooling: each window hands an equal share of its dy to all its cells.

        dx[n, h, w, c] = (sum of dy[n, oh, ow, c] over the windows that hold (h, w)) / (KH KW)

    Args:
        dx: (N, H, W, C). Overwritten; 0 where no window reaches.
        dy: (N, OH, OW, C), same dtype. Read.
        kernel_size, stride, padding: as in avg_pool2d_forward.
    """
    size = dy.shape[1:3]
    padded = pad(np.zeros_like(dx), kernel_size, size, stride, padding)
    for i, j in np.ndindex(kernel_size):
        tap(padded, i, j, size, stride)[...] += dy
    crop(dx, padded, padding)
    dx *= dx.dtype.type(1 / (kernel_size[0] * kernel_size[1]))


def global_avg_pool2d_forward(y: np.ndarray, x: np.ndarray) -> None:
    """Take the mean of each channel over the whole image.

        y[n, c] = (sum_{h, w} x[n, h, w, c]) / (H W)

    Args:
        y: (N, C) float. Written.
        x: (N, H, W, C), same dtype. Read. NaN and infinity travel into y.
    """
    np.sum(x, axis=(1, 2), out=y)
    y *= y.dtype.type(1 / (x.shape[1] * x.shape[2]))


def global_avg_pool2d_backward(dx: np.ndarray, dy: np.ndarray) -> None:
    """Differentiate the mean over the image: every pixel gets an equal share.

        dx[n, h, w, c] = dy[n, c] / (H W)

    Args:
        dx: (N, H, W, C). Overwritten.
        dy: (N, C), same dtype. Read.
    """
    dx[...] = dy[:, None, None, :] * dx.dtype.type(1 / (dx.shape[1] * dx.shape[2]))

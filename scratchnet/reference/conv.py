"""Convolution: one small dense layer applied at every place of an image.

Written as a loop over the KH KW cells ("taps") of the kernel. Tap (i, j) of all windows together is a strided slice of
the padded image, (N, OH, OW, C): cell (i, j) of window (oh, ow) lies at (oh sh + i, ow sw + j). Forward reads that
slice, the weight gradient multiplies it with dy, the input gradient adds to it.

The image is padded with zeros: `padding` = (top, left) rows and columns before it, and behind it as many as the last
window needs.
"""

from __future__ import annotations

import numpy as np

from scratchnet.reference.windows import Pair, crop, pad, tap


def conv2d_forward(
    y: np.ndarray, x: np.ndarray, weight: np.ndarray, bias: np.ndarray, stride: Pair, padding: Pair
) -> None:
    """Compute a convolution (a cross-correlation: the kernel is not flipped), as every framework does.

        y[n, oh, ow, u] = bias[u] + sum_{i, j, c} x[n, oh sh - top + i, ow sw - left + j, c] weight[i, j, c, u]

    Args:
        y: (N, OH, OW, U) float. Written.
        x: (N, H, W, C), weight: (KH, KW, C, U), bias: (U,), same dtype. Read. x counts as 0 outside the image.
            NaN and infinity travel into every y whose window holds them.
        stride: (sh, sw), each >= 1.
        padding: (top, left), each >= 0.
    """
    kernel_size, size = weight.shape[:2], y.shape[1:3]
    padded = pad(x, kernel_size, size, stride, padding)
    y[...] = bias
    for i, j in np.ndindex(kernel_size):
        y += np.tensordot(tap(padded, i, j, size, stride), weight[i, j], axes=1)


def conv2d_backward_weight(
    dweight: np.ndarray, dbias: np.ndarray, x: np.ndarray, dy: np.ndarray, stride: Pair, padding: Pair
) -> None:
    """Differentiate a convolution by its parameters.

        dweight[i, j, c, u] = sum_{n, oh, ow} x[n, oh sh - top + i, ow sw - left + j, c] dy[n, oh, ow, u]
        dbias[u]            = sum_{n, oh, ow} dy[n, oh, ow, u]

    Args:
        dweight: (KH, KW, C, U), dbias: (U,). Overwritten.
        x: (N, H, W, C), dy: (N, OH, OW, U), same dtype. Read.
        stride, padding: as in conv2d_forward.
    """
    kernel_size, size = dweight.shape[:2], dy.shape[1:3]
    padded = pad(x, kernel_size, size, stride, padding)
    for i, j in np.ndindex(kernel_size):
        dweight[i, j] = np.tensordot(tap(padded, i, j, size, stride), dy, axes=([0, 1, 2], [0, 1, 2]))
    np.sum(dy, axis=(0, 1, 2), out=dbias)


def conv2d_backward_input(dx: np.ndarray, dy: np.ndarray, weight: np.ndarray, stride: Pair, padding: Pair) -> None:
    """Differentiate a convolution by its input: every window hands its dy back to the cells it read.

        dx[n, h, w, c] = sum dy[n, oh, ow, u] weight[i, j, c, u]
                         over all u, i, j, oh, ow with oh sh - top + i = h and ow sw - left + j = w

    Args:
        dx: (N, H, W, C). Overwritten; 0 where no window reaches.
        dy: (N, OH, OW, U), weight: (KH, KW, C, U), same dtype. Read.
        stride, padding: as in conv2d_forward.
    """
    kernel_size, size = weight.shape[:2], dy.shape[1:3]
    padded = pad(np.zeros_like(dx), kernel_size, size, stride, padding)
    for i, j in np.ndindex(kernel_size):
        tap(padded, i, j, size, stride)[...] += np.tensordot(dy, weight[i, j].T, axes=1)
    crop(dx, padded, padding)

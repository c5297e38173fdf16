"""Operations written a third time, as plain Python loops over one number at a time: slow, and hard to get wrong.

They share no code and no idea with the package. Images are NHWC; `padding` is (top, left), and cells outside the image
count as zeros (for the maximum: not at all).
"""

from __future__ import annotations

import itertools
import math

import numpy as np

# --- convolution and pooling ---------------------------------------------------------------------------------------


def window_cells(image_shape, oh, ow, kernel_size, stride, padding):
    """Yield (i, j, h, w) for each cell of window (oh, ow) that lies inside the image."""
    for i, j in itertools.product(range(kernel_size[0]), range(kernel_size[1])):
        h, w = oh * stride[0] - padding[0] + i, ow * stride[1] - padding[1] + j
        if 0 <= h < image_shape[1] and 0 <= w < image_shape[2]:
            yield i, j, h, w


def conv2d(x, weight, bias, size, stride, padding):
    """y of a convolution with `size` = (OH, OW) windows."""
    y = np.zeros((x.shape[0], *size, weight.shape[3]))
    for n, oh, ow, u in np.ndindex(y.shape):
        y[n, oh, ow, u] = bias[u]
        for i, j, h, w in window_cells(x.shape, oh, ow, weight.shape[:2], stride, padding):
            for c in range(x.shape[3]):
                y[n, oh, ow, u] += x[n, h, w, c] * weight[i, j, c, u]
    return y


def conv2d_gradients(x, weight, dy, stride, padding):
    """(dx, dweight, dbias): every product of the forward pass hands dy back to its two factors."""
    dx, dweight, dbias = np.zeros(x.shape), np.zeros(weight.shape), np.zeros(weight.shape[3])
    for n, oh, ow, u in np.ndindex(dy.shape):
        dbias[u] += dy[n, oh, ow, u]
        for i, j, h, w in window_cells(x.shape, oh, ow, weight.shape[:2], stride, padding):
            for c in range(x.shape[3]):
                dx[n, h, w, c] += dy[n, oh, ow, u] * weight[i, j, c, u]
                dweight[i, j, c, u] += dy[n, oh, ow, u] * x[n, h, w, c]
    return dx, dweight, dbias


def max_pool2d(x, size, kernel_size, stride, padding):
    """(y, index): the largest cell of each window, the first of equal ones, or the first NaN."""
    y = np.zeros((x.shape[0], *size, x.shape[3]))
    index = np.zeros(y.shape, np.uint8)
    for n, oh, ow, c in np.ndindex(y.shape):
        best = None
        for i, j, h, w in window_cells(x.shape, oh, ow, kernel_size, stride, padding):
            value = float(x[n, h, w, c])
            if best is None or (not math.isnan(best) and (math.isnan(value) or value > best)):
                best, index[n, oh, ow, c] = value, i * kernel_size[1] + j
        y[n, oh, ow, c] = best
    return y, index


def max_pool2d_gradient(dy, index, image_shape, kernel_size, stride, padding):
    """dx: each window hands its dy to its winner."""
    dx = np.zeros(image_shape)
    for n, oh, ow, c in np.ndindex(dy.shape):
        for i, j, h, w in window_cells(image_shape, oh, ow, kernel_size, stride, padding):
            if index[n, oh, ow, c] == i * kernel_size[1] + j:
                dx[n, h, w, c] += dy[n, oh, ow, c]
    return dx


def avg_pool2d(x, size, kernel_size, stride, padding):
    """y: the sum of each window over all its cells, those in the padding included in the count."""
    y = np.zeros((x.shape[0], *size, x.shape[3]))
    for n, oh, ow, c in np.ndindex(y.shape):
        for _, _, h, w in window_cells(x.shape, oh, ow, kernel_size, stride, padding):
            y[n, oh, ow, c] += x[n, h, w, c]
    return y / math.prod(kernel_size)


def avg_pool2d_gradient(dy, image_shape, kernel_size, stride, padding):
    """dx: each window hands an equal share of its dy to each cell."""
    dx = np.zeros(image_shape)
    for n, oh, ow, c in np.ndindex(dy.shape):
        for _, _, h, w in window_cells(image_shape, oh, ow, kernel_size, stride, padding):
            dx[n, h, w, c] += dy[n, oh, ow, c]
    return dx / math.prod(kernel_size)


def softmax_cross_entropy(logits, labels, weight):
    """(losses, dlogits) for logits of moderate size."""
    losses, dlogits = np.zeros(len(logits)), np.zeros(logits.shape)
    for n in range(len(logits)):
        total = sum(math.exp(logits[n, k]) for k in range(logits.shape[1]))
        for k in range(logits.shape[1]):
            p = math.exp(logits[n, k]) / total
            if k == labels[n]:
                losses[n] = -weight[n] * math.log(p)
                dlogits[n, k] = weight[n] * (p - 1)
            else:
                dlogits[n, k] = weight[n] * p
    return losses, dlogits

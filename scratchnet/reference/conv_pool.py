"""A convolution, ReLU and max pooling as one operation: the three of conv.py, activations.py and pool.py in a row.

What lies between them is needed by nobody else. The pooled output is positive where the cell that won was, so ReLU can
be differentiated after the pool as well as before it; a fast floor never has to store the images in between.
"""

from __future__ import annotations

import numpy as np

from scratchnet.reference.conv import conv2d_backward_input, conv2d_backward_weight, conv2d_forward
from scratchnet.reference.pool import relu_max_pool2d_backward, relu_max_pool2d_forward
from scratchnet.reference.windows import Pair


def conv2d_relu_max_pool2d_forward(
    y: np.ndarray,
    index: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    size: Pair,
    stride: Pair,
    padding: Pair,
    pool_size: Pair,
    pool_stride: Pair,
    pool_padding: Pair,
) -> None:
    """Convolve, rectify, and take the largest cell of each window.

        y = max_pool2d(max(conv2d(x, weight, bias), 0))          index = which cell of its window won

    Args:
        y: (N, PH, PW, U) float, index: (N, PH, PW, U) uint8. Written.
        x: (N, H, W, C), weight: (KH, KW, C, U), bias: (U,), same dtype. Read. NaN travels into every y it reaches.
        size: (OH, OW) of the convolution's output, the image that is pooled.
        stride, padding: as in conv2d_forward.
        pool_size, pool_stride, pool_padding: kernel_size, stride and padding as in max_pool2d_forward.
    """
    image = np.empty((x.shape[0], *size, weight.shape[3]), y.dtype)  # (N, OH, OW, U)
    conv2d_forward(image, x, weight, bias, stride, padding)
    relu_max_pool2d_forward(y, index, image, pool_size, pool_stride, pool_padding)


def conv2d_relu_max_pool2d_backward(
    dx: np.ndarray,
    dweight: np.ndarray,
    dbias: np.ndarray,
    dy: np.ndarray,
    y: np.ndarray,
    index: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    size: Pair,
    stride: Pair,
    padding: Pair,
    pool_size: Pair,
    pool_stride: Pair,
    pool_padding: Pair,
) -> None:
    """Differentiate that by everything it reads.

        dimage                = relu_max_pool2d_backward(dy)
        dx, (dweight, dbias)  = conv2d_backward_input(dimage), conv2d_backward_weight(dimage)

    Args:
        dx: (N, H, W, C), or empty where it is not wanted. dweight: (KH, KW, C, U), dbias: (U,). Overwritten.
        dy: (N, PH, PW, U), same dtype. Read. y, index: of the same shape, from the forward pass. Read. Where y is NaN,
            the cell that won gets a NaN.
        x: (N, H, W, C), weight: (KH, KW, C, U). Read.
        size and the rest: as in conv2d_relu_max_pool2d_forward.
    """
    dimage = np.empty((dy.shape[0], *size, dy.shape[3]), dy.dtype)  # (N, OH, OW, U)
    relu_max_pool2d_backward(dimage, dy, y, index, pool_size, pool_stride, pool_padding)
    conv2d_backward_weight(dweight, dbias, x, dimage, stride, padding)
    if dx.size:
        conv2d_backward_input(dx, dimage, weight, stride, padding)

"""Convolution on the register tile, with no copies of patches; equations in reference/conv.py.

In NHWC the cells of one row of a window, KW C numbers, lie side by side, and the window of the next pixel starts sw C
numbers later. So a row of windows is a matrix already, whose rows overlap in memory, and the tile can read it:

                     the rows of A are                    their step   the groups are      k runs over
    forward          pixels ow of a row of y              sw C         kernel rows i       cells (j, c) of a window's row
    weight gradient  cells (j, c) of a kernel row         1            rows oh of dy       pixels ow of dy's row
    input gradient   pixels ow of a row of dy             U            kernel rows i       units u

Forward and weight gradient read a padded image: one image at a time is copied into the middle of a buffer of zeros,
small enough to stay in the L2 cache (without padding the image is used where it is). The input gradient needs none: it
visits only the windows that reach a cell.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import prange

from scratchnet.kernels import tile
from scratchnet.kernels.jit import helper, kernel, threads_for_product, workspace
from scratchnet.kernels.tile import call
from scratchnet.kernels.windows import Pair

BLOCK = 128  # rows of a panel of B that stay in the L1 cache while tiles pass over them
PARTS = 16  # sums of a weight gradient that are made apart, whatever the number of threads
PARTS_BYTES = 64 << 20  # fewer, where they would take more memory than this


# --- forward -----------------------------------------------------------------------------------------------------


def conv2d_forward(
    y: np.ndarray, x: np.ndarray, weight: np.ndarray, bias: np.ndarray, stride: Pair, padding: Pair
) -> None:
    """y = windows(x) W + b; see reference.conv2d_forward. All arrays are contiguous."""
    shape, functions = _tile(y.dtype, y.shape[3])
    slots = threads_for_product(y.size * math.prod(weight.shape[:3]))
    padded, buffer = _padded(x.shape, weight.shape, y.shape, stride, padding)
    buffer += shape[2] * (buffer > 0)
    width = shape[1] * shape[2]
    space = workspace("conv", slots * buffer - (-y.shape[3] // width) * width * math.prod(weight.shape[:3]), y.dtype)
    _forward.launch(
        slots > 1,
        space,
        tuple(a.ctypes.data for a in (y, x, weight, bias)),
        (y.shape, x.shape, weight.shape),
        (padded, stride, padding),
        (slots, buffer),
        functions,
        shape,
    )


@kernel
def _forward(space, addresses, sizes, geometry, slots_buffer, functions, shape):
    """y[n, oh, ow, u] = bias[u] + sum_i sum_(j, c) A[ow, i, (j, c)] W[i, (j, c), u].

    The weights are packed into panels once. Each slot has a run of the lines of y, a line being a row of an image; per
    image it keeps a block of a panel in the L1 cache and passes it over all its lines.
    """
    y, x, weight, bias = addresses
    (images, height, columns, units), image, (kernel_rows, kernel_columns, channels, _) = sizes
    padded, stride, padding = geometry
    slots, buffer = slots_buffer
    multiply, pack = functions
    _, vectors, vector = shape
    size, width, run = space.itemsize, vectors * vector, kernel_columns * channels
    panels = space.ctypes.data + size * slots * buffer
    panel, lines = kernel_rows * run * width, images * height
    call(pack, panels, panel, weight, 1, units, units, kernel_rows * run, width, vector)
    group, depth = max(1, BLOCK // max(1, run)), BLOCK if run > BLOCK else max(1, run)
    for slot in prange(slots):
        space[slot * buffer : (slot + 1) * buffer] = 0
        line, last = slot * lines // slots, (slot + 1) * lines // slots
        while line < last:
            n = line // height
            top, bottom = line - n * height, min(height, last - n * height)
            line = n * height + bottom
            source = _pad(space.ctypes.data + size * slot * buffer, x, n, image, padded, padding, buffer, size, pack, vector)
            for j in range(0, units, width):
                for i in range(0, kernel_rows, group):
                    for k in range(0, max(run, 1), depth):
                        b = panels + size * (j // width * panel + (i * run + k) * width)
                        for oh in range(top, bottom):
                            c = y + size * ((n * height + oh) * columns * units + j)
                            d, d_row = (c, units) if i + k else (bias + size * j, 0)
                            a = source + size * ((oh * stride[0] + i) * padded[1] * channels + k)
                            _multiply(
                                multiply, shape, size, columns, c, units, d, d_row,
                                a, stride[1] * channels, padded[1] * channels, 1,
                                b, width, min(width, units - j), min(group, kernel_rows - i), min(depth, run - k),
                            )  # fmt: skip


# --- weight gradient ---------------------------------------------------------------------------------------------


def conv2d_backward_weight(
    dweight: np.ndarray, dbias: np.ndarray, x: np.ndarray, dy: np.ndarray, stride: Pair, padding: Pair
) -> None:
    """dW = windows(x)^T dy, db = sum dy; see reference.conv2d_backward_weight."""
    shape, functions = _tile(dy.dtype, dy.shape[3])
    slots = threads_for_product(dy.size * math.prod(dweight.shape[:3]))
    padded, buffer = _padded(x.shape, dweight.shape, dy.shape, stride, padding)
    buffer += shape[2] * (buffer > 0)
    width = shape[1] * shape[2]
    columns = math.prod(dy.shape[1:3])
    packed = -(-dy.shape[3] // width) * width * columns if dy.shape[3] % width else 0
    size = dweight.size + dbias.size
    parts = min(PARTS, len(x), max(1, PARTS_BYTES // (size * dy.itemsize)))
    space = workspace("conv", slots * (buffer + packed) + parts * size, dy.dtype)
    one = np.ones(1, dy.dtype)
    _weight_gradient.launch(
        slots > 1,
        space,
        dweight.reshape(-1), dbias,
        tuple(a.ctypes.data for a in (x, dy, one)),
        (dy.shape, x.shape, dweight.shape),
        (padded, stride, padding),
        (slots, buffer, packed, parts),
        functions,
        shape,
    )


@kernel
def _weight_gradient(space, dweight, dbias, addresses, sizes, geometry, slots_buffer, functions, shape):
    x, dy, one = addresses
    (images, height, columns, units), image, (kernel_rows, kernel_columns, channels, _) = sizes
    padded, stride, padding = geometry
    slots, buffer, packed, parts = slots_buffer
    multiply, pack = functions
    _, vectors, vector = shape
    size, width, run = space.itemsize, vectors * vector, kernel_columns * channels
    weights, pixels = kernel_rows * run * units, height * columns
    part_size, block = weights + units, max(1, BLOCK // columns)
    first_part = slots * (buffer + packed)
    b_panel, b_row = (pixels * width, width) if packed else (width, units)
    for slot in prange(slots):
        own = slot * (buffer + packed)
        space[own : own + buffer] = 0
        to = space.ctypes.data + size * own
        for part in range(slot * parts // slots, (slot + 1) * parts // slots):
            at = first_part + part * part_size
            space[at : at + part_size] = 0
            at = space.ctypes.data + size * at
            for n in range(part * images // parts, (part + 1) * images // parts):
                source = _pad(to, x, n, image, padded, padding, buffer, size, pack, vector)
                b_image = dy + size * n * pixels * units
                if packed:
                    call(pack, to + size * buffer, b_panel, b_image, 1, units, units, pixels, width, vector)
                    b_image = to + size * buffer
                for j in range(0, units, width):
                    lanes = min(width, units - j)
                    for oh in range(0, height, block):
                        rows = min(block, height - oh)
                        b = b_image + size * (j // width * b_panel + oh * columns * b_row)
                        for i in range(kernel_rows):
                            c = at + size * (i * run * units + j)
                            a = source + size * (oh * stride[0] + i) * padded[1] * channels
                            _multiply(
                                multiply, shape, size, run, c, units, c, units,
                                a, 1, stride[0] * padded[1] * channels, stride[1] * channels,
                                b, b_row, lanes, rows, columns,
                            )  # fmt: skip
                        c = at + size * (weights + j)
                        call(multiply, 1, vectors, c, 0, c, 0, one, 0, 0, 0, b, b_row, lanes, 1, rows * columns)
    chunk = 4096
    for block in prange((part_size + chunk - 1) // chunk):
        first, last = block * chunk, min(part_size, (block + 1) * chunk)
        for part in range(1, parts):
            at = first_part + part * part_size
            for j in range(first, last):
                space[first_part + j] += space[at + j]
    if parts:
        dweight[:] = space[first_part : first_part + weights]
        dbias[:] = space[first_part + weights : first_part + part_size]
    else:
        dweight[:] = 0
        dbias[:] = 0


# --- input gradient ----------------------------------------------------------------------------------------------


def conv2d_backward_input(dx: np.ndarray, dy: np.ndarray, weight: np.ndarray, stride: Pair, padding: Pair) -> None:
    """dx = the cells of dy W^T, added where they came from; see reference.conv2d_backward_input."""
    shape, functions = _tile(dx.dtype, dx.shape[3])
    slots = threads_for_product(dy.size * math.prod(weight.shape[:3]))
    width = shape[1] * shape[2]
    kernel_rows, kernel_columns, channels, units = weight.shape
    taps = -(-kernel_rows // stride[0]) * stride[0] * kernel_columns
    space = workspace("conv", -(-channels // width) * width * (taps * units + shape[2]), dx.dtype)
    _input_gradient.launch(
        slots > 1,
        space,
        dx.reshape(-1),
        tuple(a.ctypes.data for a in (dy, weight)),
        (dx.shape, dy.shape, weight.shape),
        (stride, padding),
        functions,
        shape,
    )


@kernel
def _input_gradient(space, dx, addresses, sizes, geometry, functions, shape):
    dy, weight = addresses
    (images, height, columns, channels), (_, dy_height, dy_columns, units), (kernel_rows, kernel_columns, _, _) = sizes
    (step, step_w), (before, before_w) = geometry
    multiply, pack = functions
    _, vectors, vector = shape
    size, width = space.itemsize, vectors * vector
    phase = (kernel_rows + step - 1) // step
    panel = (kernel_columns * step * phase * units + vector) * width
    panels = space.ctypes.data
    for j in range(kernel_columns):
        for i0 in range(step):
            for i in range(i0, kernel_rows, step):
                tap = (j * step + i0) * phase + i // step
                source = weight + size * (i * kernel_columns + j) * channels * units
                call(pack, panels + size * tap * units * width, panel, source, units, 1, channels, units, width, vector)
    for line in prange(images * height):
        n, h = line // height, line % height
        dx[line * columns * channels : (line + 1) * columns * channels] = 0
        last, i0 = (h + before) // step, (h + before) % step  # last oh, which reads h in its kernel row i0
        first = max(0, last - dy_height + 1)  # kernel rows i0 + i step, first <= i < end, oh = last - i
        end = min(last + 1, (kernel_rows - i0 + step - 1) // step)
        for c0 in range(0, channels, width):
            for j in range(kernel_columns):
                ow = max(0, (before_w - j + step_w - 1) // step_w)
                stop = min(dy_columns, (columns + before_w - j + step_w - 1) // step_w)
                tap = (j * step + i0) * phase + first
                c = dx.ctypes.data + size * ((line * columns + ow * step_w + j - before_w) * channels + c0)
                a = dy + size * ((n * dy_height + last - first) * dy_columns + ow) * units
                b = panels + size * (c0 // width * panel + tap * units * width)
                _multiply(
                    multiply, shape, size, stop - ow, c, step_w * channels, c, step_w * channels,
                    a, units, -dy_columns * units, 1, b, width, min(width, channels - c0), end - first, units,
                )  # fmt: skip

# --- what they share ---------------------------------------------------------------------------------------------


def _tile(dtype, lanes):
    shapes = tile.shapes(dtype)
    fitting = [s for s in shapes if s.vectors * s.lanes >= lanes] or shapes[-1:]
    return tuple(fitting[0]), tuple(tile.functions(dtype))


def _padded(image, kernel, windows, stride, padding) -> tuple[Pair, int]:
    """Returns the rows and columns ... and numbers of the buffer, 0 if the image can be used in place."""
    reach = [(w - 1) * s + k for w, s, k in zip(windows[1:3], stride, kernel[:2])]
    if padding == (0, 0) and reach[0] <= image[1] and reach[1] <= image[2]:
        return (image[1], image[2]), 0
    return (reach[0], reach[1]), reach[0] * reach[1] * image[3]


@helper
def _pad(to, x, n, image, padded, padding, buffer, size, pack, vector):
    _, height, width, channels = image
    source = x + size * n * height * width * channels
    if buffer == 0:
        return source
    rows, columns = max(0, min(height, padded[0] - padding[0])), min(width, padded[1] - padding[1])
    at = to + size * (padding[0] * padded[1] + padding[1]) * channels
    call(pack, at, 0, source, 1, width * channels, columns * channels, rows, padded[1] * channels, vector)
    return to


@helper
def _multiply(multiply, shape, size, rows, c, c_row, d, d_row, a, a_row, a_group, a_k, b, b_row, lanes, groups, k):
    """The tile's equation for any number of rows: as few tiles as can be, of one height but for the last."""
    tiles = (rows + shape[0] - 1) // shape[0]
    height = (rows + tiles - 1) // tiles if tiles else 1
    for p in range(0, rows, height):
        call(
            multiply, min(height, rows - p), shape[1], c + size * p * c_row, c_row, d + size * p * d_row, d_row,
            a + size * p * a_row, a_row, a_group, a_k, b, b_row, lanes, groups, k,
        )  # fmt: skip

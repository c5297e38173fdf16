"""Convolution on the register tile, without a matrix of patches; equations in reference/conv.py.

In NHWC the cells of one row of a window, KW C numbers, lie side by side, and the next pixel's window starts sw C
numbers later. So the windows of a row of pixels are a matrix already, whose rows overlap in memory; the tile reads it
in place. What is the row p, the group g and the k of A[p, g, k] in tile.py:

                      row                           group             k
    forward           pixel ow of a row of y        kernel row i      cell (j, c) of the window's row i
    weight gradient   cell (j, c) of a kernel row   row oh of dy      pixel ow of that row
    input gradient    pixel ow of a row of dy       kernel row i      unit u

Forward and weight gradient read a padded image: each is copied into a buffer of zeros before its turn, small enough to
stay in the L2 cache; without padding it is read where it is. The input gradient visits only windows that reach a cell.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import prange

from scratchnet.kernels import tile
from scratchnet.kernels.jit import helper, kernel, threads_for_product, workspace
from scratchnet.kernels.tile import call
from scratchnet.kernels.windows import Pair

PARTS = 16  # sums that a weight gradient is made of, whatever the number of threads ...
PARTS_BYTES = 64 << 20  # ... unless they would take more memory than this
PIXELS = 128  # of dy that all cells of the kernel pass over before the next: so many stay in the L1 cache
COMBINE = 4096  # numbers of a gradient that one task adds up


class _Plan(NamedTuple):
    """The sizes of a convolution, and how it is done."""

    images: int  # N
    height: int  # H
    width: int  # W
    channels: int  # C
    kernel_rows: int  # KH
    kernel_columns: int  # KW
    rows: int  # OH
    columns: int  # OW
    units: int  # U
    step_h: int
    step_w: int
    top: int
    left: int
    padded_height: int  # of what the windows reach into, or of the image if that needs no padding
    padded_width: int
    buffer: int  # numbers in a padded image; 0 if there is no padding
    tile_rows: int
    vectors: int
    vector: int
    panel: int  # lanes in a panel: all vectors
    size: int  # bytes of a number
    slots: int  # threads to run on


def _plan(y: np.ndarray, x: np.ndarray, weight: np.ndarray, stride: Pair, padding: Pair, lanes: int) -> _Plan:
    """Plan any of the three passes; y stands for dy, too, and the tile writes `lanes` numbers per row."""
    shapes = tile.shapes(y.dtype)
    shape = next((s for s in shapes if s.vectors * s.lanes >= lanes), shapes[-1])
    reach = [(count - 1) * step + cells for count, step, cells in zip(y.shape[1:3], stride, weight.shape[:2])]
    pad = padding != (0, 0) or reach[0] > x.shape[1] or reach[1] > x.shape[2]
    padded = (reach[0], reach[1]) if pad else (x.shape[1], x.shape[2])
    buffer = math.prod(padded) * x.shape[3] + shape.lanes if pad else 0  # `pack` may write a vector too much
    slots = threads_for_product(y.size * math.prod(weight.shape[:3]))
    sizes = *x.shape, *weight.shape[:2], *y.shape[1:], *stride, *padding, *padded
    return _Plan._make((*sizes, buffer, *shape, shape.vectors * shape.lanes, y.itemsize, slots))


def _addresses(*arrays: np.ndarray) -> tuple[int, ...]:
    return tuple(array.ctypes.data for array in arrays)


@helper
def _clear(array, at, count):
    """array[at : at + count] = 0. Indices are unsigned: signed ones are tested for wrap-around at every step."""
    first, zero = np.uint64(at), array.dtype.type(0)
    for k in range(np.uint64(count)):
        array[first + k] = zero


@helper
def _pad(to, x, n, pack, plan):
    """Copy image n to the middle of the zeros at `to`; returns the address of the padded image."""
    line = plan.width * plan.channels
    image = x + plan.size * n * plan.height * line
    if plan.buffer == 0:
        return image
    rows, columns = min(plan.height, plan.padded_height - plan.top), min(plan.width, plan.padded_width - plan.left)
    at = to + plan.size * (plan.top * plan.padded_width + plan.left) * plan.channels
    row_step = plan.padded_width * plan.channels
    call(pack, at, 0, image, 1, line, columns * plan.channels, max(0, rows), row_step, plan.vector)
    return to


@helper
def _multiply(multiply, plan, rows, c, c_row, d, d_row, a, a_row, a_group, a_k, b, b_row, lanes, groups, k):
    """The equation of the tile for any number of rows: in as few tiles as can be, of about the same height."""
    tiles = max(1, (rows + plan.tile_rows - 1) // plan.tile_rows)
    height = max(1, (rows + tiles - 1) // tiles)
    for p in range(0, rows, height):
        call(
            multiply, min(height, rows - p), plan.vectors,
            c + plan.size * p * c_row, c_row, d + plan.size * p * d_row, d_row,
            a + plan.size * p * a_row, a_row, a_group, a_k, b, b_row, lanes, groups, k,
        )  # fmt: skip


# --- forward -----------------------------------------------------------------------------------------------------


def conv2d_forward(
    y: np.ndarray, x: np.ndarray, weight: np.ndarray, bias: np.ndarray, stride: Pair, padding: Pair
) -> None:
    """y = windows(x) W + b; see reference.conv2d_forward."""
    x, weight, bias = (np.ascontiguousarray(array) for array in (x, weight, bias))
    plan = _plan(y, x, weight, stride, padding, lanes=weight.shape[3])
    panels = -(-plan.units // plan.panel) * plan.panel * math.prod(weight.shape[:3])
    space = workspace("conv", plan.slots * plan.buffer + panels, y.dtype)
    _forward.launch(plan.slots > 1, space, plan, tile.functions(y.dtype), _addresses(y, x, weight, bias))


@kernel
def _forward(space, plan, functions, addresses):
    """y[n, oh, ow, u] = bias[u] + sum_i sum_(j, c) A[ow, i, (j, c)] weight[i, (j, c), u].

    The weights are packed into panels once. A slot takes its share of the rows of y, image by image, and passes each
    panel over those of one image. Which slot computes a row changes nothing in it.
    """
    multiply, pack = functions
    y, x, weight, bias = addresses
    size, units, lines = plan.size, plan.units, plan.images * plan.rows
    run, line = plan.kernel_columns * plan.channels, plan.padded_width * plan.channels
    panels, panel = space.ctypes.data + size * plan.slots * plan.buffer, plan.kernel_rows * run * plan.panel
    call(pack, panels, panel, weight, 1, units, units, plan.kernel_rows * run, plan.panel, plan.vector)
    for slot in prange(plan.slots):
        _clear(space, slot * plan.buffer, plan.buffer)
        start, stop = slot * lines // plan.slots, (slot + 1) * lines // plan.slots
        for n in range(start // plan.rows, (stop + plan.rows - 1) // plan.rows):
            image = _pad(space.ctypes.data + size * slot * plan.buffer, x, n, pack, plan)
            for u in range(0, units, plan.panel):
                for oh in range(max(0, start - n * plan.rows), min(plan.rows, stop - n * plan.rows)):
                    _multiply(
                        multiply, plan, plan.columns,
                        y + size * ((n * plan.rows + oh) * plan.columns * units + u), units, bias + size * u, 0,
                        image + size * oh * plan.step_h * line, plan.step_w * plan.channels, line, 1,
                        panels + size * (u // plan.panel * panel), plan.panel,
                        min(plan.panel, units - u), plan.kernel_rows, run,
                    )  # fmt: skip


# --- weight gradient ---------------------------------------------------------------------------------------------


def conv2d_backward_weight(
    dweight: np.ndarray, dbias: np.ndarray, x: np.ndarray, dy: np.ndarray, stride: Pair, padding: Pair
) -> None:
    """dW = windows(x)^T dy, db = sum dy; see reference.conv2d_backward_weight."""
    x, dy, one = np.ascontiguousarray(x), np.ascontiguousarray(dy), np.ones(1, dy.dtype)
    plan = _plan(dy, x, dweight, stride, padding, lanes=dy.shape[3])
    part = dweight.size + dbias.size
    parts = max(1, min(PARTS, plan.images, PARTS_BYTES // (part * plan.size)))
    panels = -(-plan.units // plan.panel) if plan.units % plan.panel else 0  # else dy is read where it is
    packed = panels * plan.panel * plan.rows * plan.columns
    space = workspace("conv", parts * part + plan.slots * (plan.buffer + packed), dy.dtype)
    _weight_gradient.launch(
        plan.slots > 1, space, plan, (parts, part, packed), tile.functions(dy.dtype), _addresses(x, dy, one)
    )
    dweight[...] = space[: dweight.size].reshape(dweight.shape)
    dbias[...] = space[dweight.size : part]


@kernel
def _weight_gradient(space, plan, sizes, functions, addresses):
    """dweight[i, (j, c), u] = sum_(n, oh, ow) A[(j, c), oh, ow] dy[n, oh, ow, u], and dbias as for a cell that is 1.

    The images are cut into parts, which have their own sums and are added up in order. In a part, an image is padded
    and its gradient added to the sums; these, the image and PIXELS of dy stay in the cache meanwhile. The sums stand at
    the start of the space, dbias behind dweight.
    """
    parts, part, packed = sizes
    for slot in prange(plan.slots):
        buffer = parts * part + slot * (plan.buffer + packed)
        _clear(space, buffer, plan.buffer)
        for q in range(slot * parts // plan.slots, (slot + 1) * parts // plan.slots):
            _clear(space, q * part, part)
            sums = space.ctypes.data + plan.size * q * part
            for n in range(q * plan.images // parts, (q + 1) * plan.images // parts):
                _add_image(sums, space.ctypes.data + plan.size * buffer, n, plan, packed, functions, addresses)
    for block in prange((part + COMBINE - 1) // COMBINE):
        first, last = np.uint64(block * COMBINE), np.uint64(min(part, (block + 1) * COMBINE))
        for q in range(1, parts):
            step = np.uint64(q * part)
            for j in range(first, last):
                space[j] += space[step + j]


@helper
def _add_image(sums, buffer, n, plan, packed, functions, addresses):
    """Add the gradient of image n: weights first, then bias."""
    multiply, pack = functions
    x, dy, one = addresses
    size, units, pixels = plan.size, plan.units, plan.rows * plan.columns
    run, line = plan.kernel_columns * plan.channels, plan.padded_width * plan.channels
    image, grad = _pad(buffer, x, n, pack, plan), dy + size * n * pixels * units
    panel, row = plan.panel, units
    if packed:  # the tile reads whole vectors of dy, and not those behind its end
        panel, row, source, grad = pixels * plan.panel, plan.panel, grad, buffer + size * plan.buffer
        call(pack, grad, panel, source, 1, units, units, pixels, plan.panel, plan.vector)
    block = max(1, PIXELS // max(1, plan.columns))
    for u in range(0, units, plan.panel):
        lanes = min(plan.panel, units - u)
        for oh in range(0, plan.rows, block):
            count, b = min(block, plan.rows - oh), grad + size * (u // plan.panel * panel + oh * plan.columns * row)
            for i in range(plan.kernel_rows):
                c, a = sums + size * (i * run * units + u), image + size * (oh * plan.step_h + i) * line
                _multiply(
                    multiply, plan, run, c, units, c, units, a, 1, plan.step_h * line, plan.step_w * plan.channels,
                    b, row, lanes, count, plan.columns,
                )  # fmt: skip
            c = sums + size * (plan.kernel_rows * run * units + u)
            _multiply(multiply, plan, 1, c, 0, c, 0, one, 0, 0, 0, b, row, lanes, count, plan.columns)


# --- input gradient ----------------------------------------------------------------------------------------------


def conv2d_backward_input(dx: np.ndarray, dy: np.ndarray, weight: np.ndarray, stride: Pair, padding: Pair) -> None:
    """dx = the cells of dy W^T, added where they came from; see reference.conv2d_backward_input."""
    dy, weight = np.ascontiguousarray(dy), np.ascontiguousarray(weight)
    plan = _plan(dy, dx, weight, stride, padding, lanes=dx.shape[3])
    kernel_rows = -(-plan.kernel_rows // plan.step_h) * plan.step_h
    panel = (kernel_rows * plan.kernel_columns * plan.units + plan.vector) * plan.panel  # `pack` may turn a square more
    space = workspace("conv", -(-plan.channels // plan.panel) * panel, dx.dtype)
    _input_gradient.launch(
        plan.slots > 1, space, dx.reshape(-1), plan, panel, tile.functions(dx.dtype), _addresses(dy, weight)
    )


@kernel
def _input_gradient(space, dx, plan, panel, functions, addresses):
    """dx[n, h, w, c] = sum_j sum_i sum_u A[ow, i, u] weight[i, j, c, u] with oh sh + i = h + top, ow sw + j = w + left.

    Kernel rows that reach the same h are sh apart and read rows of dy that follow each other. So the weights are packed
    as [column j][i % sh][i // sh], and those rows are the groups of one product. A row of dx, which stays in the L1
    cache, collects the products of all columns j.
    """
    multiply, pack = functions
    dy, weight = addresses
    size, units, row = plan.size, plan.units, plan.width * plan.channels
    steps = (plan.kernel_rows + plan.step_h - 1) // plan.step_h
    for j in range(plan.kernel_columns):
        for phase in range(plan.step_h):
            for i in range(phase, plan.kernel_rows, plan.step_h):
                to = ((j * plan.step_h + phase) * steps + i // plan.step_h) * units * plan.panel
                cell = (i * plan.kernel_columns + j) * plan.channels * units
                call(
                    pack, space.ctypes.data + size * to, panel, weight + size * cell, units, 1,
                    plan.channels, units, plan.panel, plan.vector,
                )  # fmt: skip
    for line in prange(plan.images * plan.height):
        _clear(dx, line * row, row)
        n, h = line // plan.height, line % plan.height
        last, phase = (h + plan.top) // plan.step_h, (h + plan.top) % plan.step_h
        first = max(0, last - plan.rows + 1)  # i = phase + sh s reads row oh = last - s, for first <= s < stop
        stop = min(last + 1, (plan.kernel_rows - phase + plan.step_h - 1) // plan.step_h)
        for c in range(0, plan.channels, plan.panel):
            for j in range(plan.kernel_columns):
                ow = max(0, (plan.left - j + plan.step_w - 1) // plan.step_w)  # the first whose cell j is in the image
                end = min(plan.columns, (plan.width + plan.left - j + plan.step_w - 1) // plan.step_w)
                to = dx.ctypes.data + size * (line * row + (ow * plan.step_w + j - plan.left) * plan.channels + c)
                a = dy + size * ((n * plan.rows + last - first) * plan.columns + ow) * units
                b = ((j * plan.step_h + phase) * steps + first) * units * plan.panel + c // plan.panel * panel
                _multiply(
                    multiply, plan, end - ow, to, plan.step_w * plan.channels, to, plan.step_w * plan.channels,
                    a, units, -plan.columns * units, 1, space.ctypes.data + size * b, plan.panel,
                    min(plan.panel, plan.channels - c), stop - first, units,
                )  # fmt: skip

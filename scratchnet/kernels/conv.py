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

Where fewer multiplications pay, winograd.py does all this another way.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import prange

from scratchnet.kernels import tile, winograd
from scratchnet.kernels.jit import helper, kernel, threads_for_product, workspace
from scratchnet.kernels.memory import addresses_of, call, clear
from scratchnet.kernels.windows import Pair

PARTS = 16  # sums that a weight gradient is made of, whatever the number of threads ...
PARTS_BYTES = 64 << 20  # ... unless they would take more memory than this
PIXELS = 128  # of dy that all cells of the kernel pass over before the next: so many stay in the L1 cache
COMBINE = 4096  # numbers of a gradient that one task adds up


class ConvPlan(NamedTuple):
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
    itemsize: int  # bytes of a number
    slots: int  # threads to run on


def plan_conv(cells: Pair, x: np.ndarray, weight: np.ndarray, stride: Pair, padding: Pair, lanes: int) -> ConvPlan:
    """Plan any of the three passes. cells: (OH, OW); x stands for dx, too; the tile writes `lanes` numbers per row."""
    shape = tile.shape_for(lanes, x.dtype)
    reach = [(count - 1) * step + taps for count, step, taps in zip(cells, stride, weight.shape[:2])]
    pad = padding != (0, 0) or reach[0] > x.shape[1] or reach[1] > x.shape[2]
    padded = (reach[0], reach[1]) if pad else (x.shape[1], x.shape[2])
    buffer = math.prod(padded) * x.shape[3] + shape.lanes if pad else 0  # `pack` may write a vector too much
    slots = threads_for_product(x.shape[0] * math.prod(cells) * weight.size)
    sizes = *x.shape, *weight.shape[:2], *cells, weight.shape[3], *stride, *padding, *padded
    return ConvPlan._make((*sizes, buffer, *shape, shape.vectors * shape.lanes, x.itemsize, slots))


@helper
def pad_image(to, x, n, pack, plan):
    """Copy image n to the middle of the zeros at `to`; returns the address of the padded image."""
    line = plan.width * plan.channels
    image = x + plan.itemsize * n * plan.height * line
    if plan.buffer == 0:
        return image
    rows, columns = min(plan.height, plan.padded_height - plan.top), min(plan.width, plan.padded_width - plan.left)
    at = to + plan.itemsize * (plan.top * plan.padded_width + plan.left) * plan.channels
    row_step = plan.padded_width * plan.channels
    call(pack, at, 0, image, 1, line, columns * plan.channels, max(0, rows), row_step, plan.vector)
    return to


# --- forward -----------------------------------------------------------------------------------------------------


def conv2d_forward(
    y: np.ndarray, x: np.ndarray, weight: np.ndarray, bias: np.ndarray, stride: Pair, padding: Pair
) -> None:
    """y = windows(x) W + b; see reference.conv2d_forward."""
    if winograd.is_faster(y.shape[1:3], x, weight, stride):
        return winograd.forward(y, x, weight, bias, padding)
    x, weight, bias = (np.ascontiguousarray(array) for array in (x, weight, bias))
    plan = plan_conv(y.shape[1:3], x, weight, stride, padding, lanes=weight.shape[3])
    space = workspace("conv", plan.slots * plan.buffer + forward_panels(plan), y.dtype)
    _forward.launch(plan.slots > 1, space, plan, tile.functions(y.dtype), addresses_of(y, x, weight, bias))


def forward_panels(plan: ConvPlan) -> int:
    """Numbers in the packed weights of a forward pass."""
    return -(-plan.units // plan.panel) * plan.panel * plan.kernel_rows * plan.kernel_columns * plan.channels


@kernel
def _forward(space, plan, functions, addresses):
    """y[n, oh, ow, u] = bias[u] + sum_i sum_(j, c) A[ow, i, (j, c)] weight[i, (j, c), u].

    The weights are packed into panels once. A slot takes its share of the rows of y, image by image, and passes each
    panel over those of one image. Which slot computes a row changes nothing in it.
    """
    y, x, weight, bias = addresses
    size, lines = plan.itemsize, plan.images * plan.rows
    panels = space.ctypes.data + size * plan.slots * plan.buffer
    pack_forward(panels, weight, functions, plan)
    for slot in prange(plan.slots):
        clear(space, slot * plan.buffer, plan.buffer)
        start, stop = slot * lines // plan.slots, (slot + 1) * lines // plan.slots
        for n in range(start // plan.rows, (stop + plan.rows - 1) // plan.rows):
            image = pad_image(space.ctypes.data + size * slot * plan.buffer, x, n, functions.pack, plan)
            first, last = max(0, start - n * plan.rows), min(plan.rows, stop - n * plan.rows)
            to = y + size * n * plan.rows * plan.columns * plan.units
            convolve(to, image, panels, bias, first, last, functions, plan)


@helper
def pack_forward(panels, weight, functions, plan):
    """Turn the weights into panels of units."""
    k = plan.kernel_rows * plan.kernel_columns * plan.channels
    call(functions.pack, panels, k * plan.panel, weight, 1, plan.units, plan.units, k, plan.panel, plan.vector)


@helper
def convolve(y, image, panels, bias, first, last, functions, plan):
    """Compute the rows first <= oh < last of one image's y from the padded image."""
    size, units = plan.itemsize, plan.units
    run, line = plan.kernel_columns * plan.channels, plan.padded_width * plan.channels
    for u in range(0, units, plan.panel):
        for oh in range(first, last):
            tile.multiply_rows(
                functions.multiply, plan, plan.columns,
                y + size * (oh * plan.columns * units + u), units, bias + size * u, 0,
                image + size * oh * plan.step_h * line, plan.step_w * plan.channels, line, 1,
                panels + size * (u // plan.panel * plan.kernel_rows * run * plan.panel), plan.panel,
                min(plan.panel, units - u), plan.kernel_rows, run,
            )  # fmt: skip


# --- weight gradient ---------------------------------------------------------------------------------------------


def conv2d_backward_weight(
    dweight: np.ndarray, dbias: np.ndarray, x: np.ndarray, dy: np.ndarray, stride: Pair, padding: Pair
) -> None:
    """dW = windows(x)^T dy, db = sum dy; see reference.conv2d_backward_weight."""
    if winograd.is_faster(dy.shape[1:3], x, dweight, stride):
        return winograd.backward_weight(dweight, dbias, x, dy, padding)
    x, dy, one = np.ascontiguousarray(x), np.ascontiguousarray(dy), tile.one_and_zeros(dy.dtype)
    plan = plan_conv(dy.shape[1:3], x, dweight, stride, padding, lanes=dy.shape[3])
    sums = plan_sums(plan)
    space = workspace("conv", sums.parts * sums.part + plan.slots * (plan.buffer + sums.packed), dy.dtype)
    _weight_gradient.launch(plan.slots > 1, space, plan, sums, tile.functions(dy.dtype), addresses_of(x, dy, one))
    dweight[...] = space[: dweight.size].reshape(dweight.shape)
    dbias[...] = space[dweight.size : sums.part]


class Sums(NamedTuple):
    """What a weight gradient is made of: a sum of each part of the images."""

    parts: int  # how many
    part: int  # numbers in one of them
    packed: int  # numbers in the packed dy of an image; 0: it is read where it is


def plan_sums(plan: ConvPlan) -> Sums:
    """Cut the images into parts."""
    part = (plan.kernel_rows * plan.kernel_columns * plan.channels + 1) * plan.units
    parts = max(1, min(PARTS, plan.images, PARTS_BYTES // (part * plan.itemsize)))
    panels = -(-plan.units // plan.panel) if plan.units % plan.panel else 0
    return Sums(parts, part, panels * plan.panel * plan.rows * plan.columns)


@kernel
def _weight_gradient(space, plan, sizes, functions, addresses):
    """dweight[i, (j, c), u] = sum_(n, oh, ow) A[(j, c), oh, ow] dy[n, oh, ow, u], and dbias as for a cell that is 1.

    The images are cut into parts, which have their own sums and are added up in order. In a part, an image is padded
    and its gradient added to the sums; these, the image and PIXELS of dy stay in the cache meanwhile. The sums stand at
    the start of the space, dbias behind dweight.
    """
    parts, part, packed = sizes
    x, dy, one = addresses
    for slot in prange(plan.slots):
        buffer = parts * part + slot * (plan.buffer + packed)
        padded = space.ctypes.data + plan.itemsize * buffer
        clear(space, buffer, plan.buffer)
        for q in range(slot * parts // plan.slots, (slot + 1) * parts // plan.slots):
            clear(space, q * part, part)
            sums = space.ctypes.data + plan.itemsize * q * part
            for n in range(q * plan.images // parts, (q + 1) * plan.images // parts):
                grad = dy + plan.itemsize * n * plan.rows * plan.columns * plan.units
                image = pad_image(padded, x, n, functions.pack, plan)
                add_image(sums, image, grad, padded + plan.itemsize * plan.buffer, one, sizes, functions, plan)
    for block in prange((part + COMBINE - 1) // COMBINE):
        add_parts(space, block, parts, part)


@helper
def add_parts(space, block, parts, part):
    """Add to the sums of the first part those of all others, in order: one block of COMBINE numbers."""
    first, last = np.uint64(block * COMBINE), np.uint64(min(part, (block + 1) * COMBINE))
    for q in range(1, parts):
        step = np.uint64(q * part)
        for j in range(first, last):
            space[j] += space[step + j]


@helper
def add_image(sums, image, grad, buffer, one, sizes, functions, plan):
    """Add the gradient of one (padded) image to sums, where dbias lies behind dweight. `buffer` takes packed dy."""
    (multiply, pack), (_, _, packed) = functions, sizes
    size, units, pixels = plan.itemsize, plan.units, plan.rows * plan.columns
    run, line = plan.kernel_columns * plan.channels, plan.padded_width * plan.channels
    panel, row = plan.panel, units
    if packed > 0:  # at the last pixel, whole vectors would reach past the end of dy
        panel, row, source, grad = pixels * plan.panel, plan.panel, grad, buffer
        call(pack, grad, panel, source, 1, units, units, pixels, plan.panel, plan.vector)
    block = max(1, PIXELS // max(1, plan.columns))
    for u in range(0, units, plan.panel):
        lanes = min(plan.panel, units - u)
        for oh in range(0, plan.rows, block):
            count, b = min(block, plan.rows - oh), grad + size * (u // plan.panel * panel + oh * plan.columns * row)
            for i in range(plan.kernel_rows):
                c, a = sums + size * (i * run * units + u), image + size * (oh * plan.step_h + i) * line
                tile.multiply_rows(
                    multiply, plan, run, c, units, c, units, a, 1, plan.step_h * line, plan.step_w * plan.channels,
                    b, row, lanes, count, plan.columns,
                )  # fmt: skip
            c = sums + size * (plan.kernel_rows * run * units + u)
            tile.multiply_rows(multiply, plan, 1, c, 0, c, 0, one, 0, 0, 0, b, row, lanes, count, plan.columns)


# --- input gradient ----------------------------------------------------------------------------------------------


def conv2d_backward_input(dx: np.ndarray, dy: np.ndarray, weight: np.ndarray, stride: Pair, padding: Pair) -> None:
    """dx = the cells of dy W^T, added where they came from; see reference.conv2d_backward_input."""
    if winograd.is_faster(dy.shape[1:3], dx, weight, stride):
        return winograd.backward_input(dx, dy, weight, padding)
    dy, weight = np.ascontiguousarray(dy), np.ascontiguousarray(weight)
    plan = plan_conv(dy.shape[1:3], dx, weight, stride, padding, lanes=dx.shape[3])
    panel, panels = input_panels(plan)
    space = workspace("conv", panels, dx.dtype)
    _input_gradient.launch(
        plan.slots > 1, space, dx.reshape(-1), plan, panel, tile.functions(dx.dtype), addresses_of(dy, weight)
    )


def input_panels(plan: ConvPlan) -> tuple[int, int]:
    """Numbers in one panel, and in all, of the packed weights of an input gradient."""
    kernel_rows = -(-plan.kernel_rows // plan.step_h) * plan.step_h
    panel = (kernel_rows * plan.kernel_columns * plan.units + plan.vector) * plan.panel  # `pack` may turn a square more
    return panel, -(-plan.channels // plan.panel) * panel


@kernel
def _input_gradient(space, dx, plan, panel, functions, addresses):
    """dx[n, h, w, c] = sum_j sum_i sum_u A[ow, i, u] weight[i, j, c, u] with oh sh + i = h + top, ow sw + j = w + left.

    Kernel rows that reach the same h are sh apart and read rows of dy that follow each other. So the weights are packed
    as [column j][i % sh][i // sh], and those rows are the groups of one product. A row of dx, which stays in the L1
    cache, collects the products of all columns j.
    """
    dy, weight = addresses
    panels = space.ctypes.data
    pack_input(panels, weight, panel, functions.pack, plan)
    for line in prange(plan.images * plan.height):
        n, h = line // plan.height, line % plan.height
        grad = dy + plan.itemsize * n * plan.rows * plan.columns * plan.units
        collect_row(dx, n, h, grad, panels, panel, functions.multiply, plan)


@helper
def pack_input(panels, weight, panel, pack, plan):
    """Turn the weights into panels of channels, ordered as above, and by address: `pack` writes junk behind a panel."""
    steps = (plan.kernel_rows + plan.step_h - 1) // plan.step_h
    for j in range(plan.kernel_columns):
        for phase in range(plan.step_h):
            for i in range(phase, plan.kernel_rows, plan.step_h):
                to = ((j * plan.step_h + phase) * steps + i // plan.step_h) * plan.units * plan.panel
                cell = (i * plan.kernel_columns + j) * plan.channels * plan.units
                call(
                    pack, panels + plan.itemsize * to, panel, weight + plan.itemsize * cell, plan.units, 1,
                    plan.channels, plan.units, plan.panel, plan.vector,
                )  # fmt: skip


@helper
def collect_row(dx, n, h, grad, panels, panel, multiply, plan):
    """Write row h of image n of dx, from the image's dy at `grad`."""
    size, units, row = plan.itemsize, plan.units, plan.width * plan.channels
    steps = (plan.kernel_rows + plan.step_h - 1) // plan.step_h
    line = n * plan.height + h
    clear(dx, line * row, row)
    last, phase = (h + plan.top) // plan.step_h, (h + plan.top) % plan.step_h
    first = max(0, last - plan.rows + 1)  # i = phase + sh s reads row oh = last - s, for first <= s < stop
    stop = min(last + 1, (plan.kernel_rows - phase + plan.step_h - 1) // plan.step_h)
    for c in range(0, plan.channels, plan.panel):
        for j in range(plan.kernel_columns):
            ow = max(0, (plan.left - j + plan.step_w - 1) // plan.step_w)  # the first whose cell j is in the image
            end = min(plan.columns, (plan.width + plan.left - j + plan.step_w - 1) // plan.step_w)
            to = dx.ctypes.data + size * (line * row + (ow * plan.step_w + j - plan.left) * plan.channels + c)
            a = grad + size * ((last - first) * plan.columns + ow) * units
            b = ((j * plan.step_h + phase) * steps + first) * units * plan.panel + c // plan.panel * panel
            tile.multiply_rows(
                multiply, plan, end - ow, to, plan.step_w * plan.channels, to, plan.step_w * plan.channels,
                a, units, -plan.columns * units, 1, panels + size * b, plan.panel,
                min(plan.panel, plan.channels - c), stop - first, units,
            )  # fmt: skip

"""Convolution by Winograd's transforms, 3x3 and 5x5 at stride 1: 4 and 6.25 times fewer multiplications.

    Y = A^T [(G w G^T) * (B^T x B)] A + b         x: an S x S tile of the image, Y: m x m cells of y, w: R x R taps

For every one of the S S points, `*` is a product over the channels, of all tiles at once. With V = B^T x B, U = G w G^T
and M = A dy A^T the gradients are the same picture, turned:

    pass               product, at every point      result
    forward            M = V U                      y = A^T M A + b
    weight gradient    dU = V^T M                   dw = G^T dU G;    db = M at the point (1, 1), where A is 1
    input gradient     V = M U^T                    dx = the tiles B V B^T, which overlap, added up

    V    what a tile of x is at the points           (S S, tiles, C)       R = 3: S = 6, 36 points
    U    what the weights are there                  (S S, C, U)           R = 5: S = 8, 64 points
    M    what a tile of y or dy is there             (S S, tiles, U)       m = 4

The matrices and the transforms stand in winograd_transform.py, the products are made of the tiles of tile.py. V and M
hold the tiles of as many images as CACHE bytes have room for, or of a part of one. Every sum has one order, whoever
computes it.

The price is rounding: the error of a result in float32, relative to the largest, stays below 1e-4 for unit-normal data
(about 1e-5; directly 1e-6), and a NaN or infinity spreads to the whole of its tiles, infinity as NaN. Whoever minds
says `use(False)`, or starts the program with SCRATCHNET_WINOGRAD=off.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np
from numba import prange

from scratchnet.kernels import tile
from scratchnet.kernels.jit import helper, kernel, threads_for_product, workspace
from scratchnet.kernels.memory import addresses_of, call, clear
from scratchnet.kernels.windows import Pair
from scratchnet.kernels.winograd_transform import OUTPUTS, ZEROS, function, side, spare

CACHE = 2_000_000  # bytes of V and M: so much stays in the caches of a core, and U is read so much less often
LEAST, MOST = 4, 32  # images in a chunk, whose weight gradients are one sum; the chunks' sums are added in order
CHUNKS, SUMS_BYTES = 4, 2_500_000  # chunks aimed at: so many, or, where a sum is small, as many as fill these bytes
AWAY = 1  # empty rows of channels between points, for at steps of 2^n bytes all would fall on the same lines of a cache

_on = os.environ.get("SCRATCHNET_WINOGRAD", "").lower() != "off"


def use(on: bool) -> None:
    """Let convolutions be computed in this way where it is faster (the default), or never.

    Args:
        on: True or False, for the whole process. SCRATCHNET_WINOGRAD=off makes False the default.
    """
    global _on
    _on = bool(on)


def is_on() -> bool:
    """Whether convolutions may be computed in this way."""
    return _on


def is_faster(cells: Pair, x: np.ndarray, weight: np.ndarray, stride: Pair) -> bool:
    """Whether this beats the direct form, as measured on 2 cores with AVX-512, for batches of 1 to 128 images.

    cells: (OH, OW). x and weight stand for their gradients, too.
    """
    known = stride == (1, 1) and weight.shape[:2] in ((3, 3), (5, 5)) and x.size > 0
    return _on and known and min(weight.shape[2:]) >= 16 and min(cells) >= 3


class Images(NamedTuple):
    """One side of a convolution, x or y: its images, and the tiles of them at the points, V or M."""

    height: int
    width: int
    channels: int
    top: int  # rows of padding: the first tile starts so far outside
    left: int
    at: int  # where the points start in the memory of a slot
    row: int  # numbers of a tile at one point: the channels, and what fills their last vector
    step: int  # numbers from point to point


class WinogradPlan(NamedTuple):
    """The sizes of a convolution, and how it is done."""

    images: int  # N
    taps: int  # R: the kernel is R x R
    side: int  # S
    points: int  # S S
    down: int  # tiles in a column of an image
    across: int  # tiles in a row of it: a line
    lines: int  # of tiles that V and M hold: those of whole images, or a part of one
    slot: int  # numbers in the memory of a slot: what the transforms want, V, M
    tile_rows: int
    vectors: int
    vector: int
    panel: int  # lanes in a panel: all vectors
    itemsize: int  # bytes of a number
    slots: int  # threads to run on


def plan_winograd(
    cells: Pair, x: np.ndarray, weight: np.ndarray, padding: Pair, lanes: int
) -> tuple[WinogradPlan, Images, Images]:
    """Plan any of the three passes. cells: (OH, OW); x stands for dx, too; the tile writes `lanes` numbers per row."""
    (taps, _, _, units), size, shape = weight.shape, x.itemsize, tile.shape_for(lanes, x.dtype)
    points, panel = side(taps) ** 2, shape.vectors * shape.lanes
    down, across = (-(-count // OUTPUTS) for count in cells)
    x_row, y_row = (-(-count // shape.lanes) * shape.lanes for count in (x.shape[3], units))
    fit = max(1, CACHE // (size * points * (x_row + y_row) * across))
    lines = min(fit // down, x.shape[0]) * down if fit >= down else fit
    x_step, y_step = ((lines * across + AWAY) * row for row in (x_row, y_row))
    v = spare(taps, shape.lanes)
    m = v + points * x_step
    slot = -(-(m + points * y_step + ZEROS) // 16) * 16  # the tile reads whole panels
    slots = threads_for_product(x.shape[0] * cells[0] * cells[1] * weight.size // OUTPUTS)
    of_x = Images._make((*x.shape[1:], *padding, v, x_row, x_step))
    of_y = Images._make((*cells, units, 0, 0, m, y_row, y_step))
    sizes = x.shape[0], taps, side(taps), points, down, across, lines, slot
    return WinogradPlan(*sizes, *shape, panel, size, slots), of_x, of_y


def filter_size(plan: WinogradPlan, of: Images, to: Images) -> int:
    """Numbers in U, which takes the points of one side to those of the other, in panels."""
    return plan.points * of.channels * (-(-to.channels // plan.panel) * plan.panel)


def pass_functions(dtype: np.dtype[Any], taps: int, *names: str) -> tuple[Any, ...]:
    """What `call` takes: the two of tile.py, and the transforms of these names."""
    return *tile.functions(dtype), *(function(name, taps, dtype) for name in names)


# --- steps of a pass ---------------------------------------------------------------------------------------------


@helper
def to_points(transform, memory, images, array, held, first, last, plan):
    """V or M of the lines of tiles first .. last of the images at `array`, each of which has `down` lines.

    `held` is the line that V or M starts with.
    """
    for line in range(first, last):
        top = line % plan.down * OUTPUTS - images.top
        row = (line // plan.down * images.height + top) * images.width
        for j in range(plan.across):
            left = j * OUTPUTS - images.left
            points = memory + plan.itemsize * (images.at + ((line - held) * plan.across + j) * images.row)
            call(
                transform, points, images.step, array + plan.itemsize * (row + left) * images.channels,
                images.width * images.channels, images.channels, images.channels,
                -top, images.height - top, -left, images.width - left, memory,
            )  # fmt: skip


@helper
def from_points(transform, memory, images, array, bias, held, first, last, plan):
    """The other way: the images are overwritten with bias + tile, or, where the address `bias` is 0, added to."""
    row_step = images.width * images.channels
    for line in range(first, last):
        top = line % plan.down * OUTPUTS - images.top
        row = (line // plan.down * images.height + top) * images.width
        for j in range(plan.across):
            left = j * OUTPUTS - images.left
            points = memory + plan.itemsize * (images.at + ((line - held) * plan.across + j) * images.row)
            cell = array + plan.itemsize * (row + left) * images.channels
            start, start_row, start_column = (bias, 0, 0) if bias else (cell, row_step, images.channels)
            call(
                transform, cell, row_step, images.channels, start, start_row, start_column, points, images.step,
                images.channels, -top, images.height - top, -left, images.width - left, memory,
            )  # fmt: skip


@helper
def turn_tap(pack, turned, weight, tap, t, xs, ys, plan):
    """Tap number t of the weights, (C, U), turned to (U, C); in `turned` taps are `tap` numbers apart."""
    to, source = turned + plan.itemsize * t * tap, weight + plan.itemsize * t * xs.channels * ys.channels
    call(pack, to, 0, source, ys.channels, 1, xs.channels, ys.channels, xs.row, plan.vector)


@helper
def filters_to_points(transform, panels, weight, tap, row, slot, of, to, memory, plan):
    """A slot's share of U, or of its transpose, in panels: at every point a matrix, channels of `of` by those of `to`.

    The taps of the weights are `tap` numbers apart, and each is such a matrix with row step `row`.
    """
    count, lanes = of.channels, to.channels
    step = count * ((lanes + plan.panel - 1) // plan.panel * plan.panel)
    for k in range(slot * count // plan.slots, (slot + 1) * count // plan.slots):
        for j in range(0, lanes, plan.panel):
            call(
                transform, panels + plan.itemsize * (j * count + k * plan.panel), step,
                weight + plan.itemsize * (k * row + j), plan.taps * tap, tap, min(plan.panel, lanes - j),
                0, plan.taps, 0, plan.taps, memory,
            )  # fmt: skip


@helper
def multiply_points(multiply, memory, of, to, panels, tiles, plan):
    """M = V U or V = M U^T, for so many tiles."""
    panel = of.channels * plan.panel
    step = panel * ((to.channels + plan.panel - 1) // plan.panel)
    _products(
        multiply, plan, tiles, to.channels, of.channels,
        memory + plan.itemsize * to.at, to.row, to.step, memory,
        memory + plan.itemsize * of.at, of.row, 1, of.step, panels, plan.panel, panel, step,
    )  # fmt: skip


@helper
def _products(multiply, plan, rows, lanes, k, c, c_row, c_step, d, a, a_row, a_k, a_step, b, b_row, b_panel, b_step):
    """C = D + A B at every point, the steps being those from point to point; D is C, or what has steps 0."""
    for i in range(plan.points):
        for j in range(0, lanes, plan.panel):
            to = c + plan.itemsize * (i * c_step + j)
            start, start_row = (d, 0) if d else (to, c_row)
            tile.multiply_rows(
                multiply, plan, rows, to, c_row, start, start_row, a + plan.itemsize * i * a_step, a_row, 0, a_k,
                b + plan.itemsize * (i * b_step + j // plan.panel * b_panel), b_row, min(plan.panel, lanes - j), 1, k,
            )  # fmt: skip


# --- forward -----------------------------------------------------------------------------------------------------


def forward(y: np.ndarray, x: np.ndarray, weight: np.ndarray, bias: np.ndarray, padding: Pair) -> None:
    """y = windows(x) W + b; see reference.conv2d_forward, here at stride 1."""
    x, weight, bias = (np.ascontiguousarray(array) for array in (x, weight, bias))
    plan, xs, ys = plan_winograd(y.shape[1:3], x, weight, padding, lanes=y.shape[3])
    space = workspace("winograd", plan.slots * plan.slot + filter_size(plan, xs, ys), y.dtype)
    functions = pass_functions(y.dtype, plan.taps, "filter", "image", "output")
    _forward.launch(plan.slots > 1, space, plan, xs, ys, functions, addresses_of(y, x, weight, bias))


@kernel
def _forward(space, plan, xs, ys, functions, addresses):
    """The weights to points; then every slot its lines of tiles: V, M = V U, y."""
    multiply, _, filter_, image, output = functions
    y, x, weight, bias = addresses
    size = plan.itemsize
    panels = space.ctypes.data + size * plan.slots * plan.slot
    for slot in prange(plan.slots):
        clear(space, slot * plan.slot, ZEROS)
        memory = space.ctypes.data + size * slot * plan.slot
        filters_to_points(filter_, panels, weight, xs.channels * ys.channels, ys.channels, slot, xs, ys, memory, plan)
    lines = plan.images * plan.down
    for slot in prange(plan.slots):
        memory = space.ctypes.data + size * slot * plan.slot
        end = (slot + 1) * lines // plan.slots
        for first in range(slot * lines // plan.slots, end, plan.lines):
            last = min(end, first + plan.lines)
            to_points(image, memory, xs, x, first, first, last, plan)
            multiply_points(multiply, memory, xs, ys, panels, (last - first) * plan.across, plan)
            from_points(output, memory, ys, y, bias, first, first, last, plan)


# --- weight gradient ---------------------------------------------------------------------------------------------


def backward_weight(dweight: np.ndarray, dbias: np.ndarray, x: np.ndarray, dy: np.ndarray, padding: Pair) -> None:
    """dW = windows(x)^T dy, db = sum dy; see reference.conv2d_backward_weight, here at stride 1."""
    x, dy, one = np.ascontiguousarray(x), np.ascontiguousarray(dy), tile.one_and_zeros(dy.dtype)
    plan, xs, ys = plan_winograd(dy.shape[1:3], x, dweight, padding, lanes=dy.shape[3])
    _, chunks, part = sizes = plan_chunks(plan, xs, ys)
    space = workspace("winograd", plan.slots * plan.slot + chunks * part, dy.dtype)
    sums = space[plan.slots * plan.slot :]
    functions = pass_functions(dy.dtype, plan.taps, "gradient", "image", "filter_back")
    _weight_gradient.launch(
        plan.slots > 1, space, sums, plan, xs, ys, sizes, functions, addresses_of(dweight, x, dy, one)
    )
    dbias[...] = sums[part - ys.row :][: ys.channels]


def plan_chunks(plan: WinogradPlan, xs: Images, ys: Images) -> tuple[int, int, int]:
    """(images in a chunk, how many sums, numbers in one of them: dU, point by point, and dbias as one row more).

    Threads share the chunks. How many there are depends on the shapes alone: CHUNKS, or more where a sum is small, for
    each costs a sum more.
    """
    part = (plan.points * xs.channels + 1) * ys.row
    images = -(-plan.images // max(CHUNKS, SUMS_BYTES // (plan.itemsize * part)))
    images = min(MOST, max(LEAST, images))
    return images, -(-plan.images // images), part


@kernel
def _weight_gradient(space, sums, plan, xs, ys, sizes, functions, addresses):
    """dU = V^T M of each chunk of images, and dbias behind it; the sum of the chunks; dweight."""
    images, chunks, part = sizes
    multiply, _, gradient, image, filter_back = functions
    dweight, x, dy, one = addresses
    size = plan.itemsize
    for slot in prange(plan.slots):
        clear(space, slot * plan.slot, ZEROS)
        memory = space.ctypes.data + size * slot * plan.slot
        for q in range(slot * chunks // plan.slots, (slot + 1) * chunks // plan.slots):
            begin, end = q * images * plan.down, min(plan.images, (q + 1) * images) * plan.down
            for first in range(begin, end, plan.lines):
                last = min(end, first + plan.lines)
                to_points(gradient, memory, ys, dy, first, first, last, plan)
                to_points(image, memory, xs, x, first, first, last, plan)
                to, tiles = sums.ctypes.data + size * q * part, (last - first) * plan.across
                add_tiles(multiply, to, first == begin, memory, one, tiles, xs, ys, plan)
    for slot in prange(plan.slots):
        memory = space.ctypes.data + size * slot * plan.slot
        add_chunks(filter_back, dweight, sums, memory, slot, sizes, xs, ys, plan)


@helper
def add_tiles(multiply, sums, fresh, memory, one, tiles, xs, ys, plan):
    """dU += V^T M of so many tiles, and dbias += the sum of M where A is 1; `fresh` sums start at 0."""
    channels, units, row = xs.channels, ys.channels, ys.row
    v, m, zeros = memory + plan.itemsize * xs.at, memory + plan.itemsize * ys.at, memory if fresh else 0
    _products(
        multiply, plan, channels, units, tiles, sums, row, channels * row, zeros,
        v, 1, xs.row, xs.step, m, row, plan.panel, ys.step,
    )  # fmt: skip
    for u in range(0, units, plan.panel):
        to = sums + plan.itemsize * (plan.points * channels * row + u)
        point = m + plan.itemsize * ((plan.side + 1) * ys.step + u)
        start, lanes = zeros if fresh else to, min(plan.panel, units - u)
        call(multiply, 1, plan.vectors, to, 0, start, 0, one, 0, 0, 0, point, row, lanes, 1, tiles)


@helper
def add_chunks(filter_back, dweight, sums, memory, slot, sizes, xs, ys, plan):
    """A slot's share of the sum of all chunks, which the first becomes, and of dweight.

    As in dU, channels are rows of the sums, which are added, and turned into weights, row by row. dbias is a row more.
    """
    _, chunks, part = sizes
    channels, units, row = xs.channels, ys.channels, ys.row
    for c in range(slot * (channels + 1) // plan.slots, (slot + 1) * (channels + 1) // plan.slots):
        for i in range(plan.points if c < channels else 1):
            at = (i * channels + c) * row if c < channels else part - row
            for q in range(1, chunks):
                to, more = np.uint64(at), np.uint64(at + q * part)
                for u in range(np.uint64(units)):
                    sums[to + u] += sums[more + u]
        if c < channels:
            call(
                filter_back, dweight + plan.itemsize * c * units, plan.taps * channels * units, channels * units,
                0, 0, 0, sums.ctypes.data + plan.itemsize * c * row, channels * row,
                units, 0, plan.taps, 0, plan.taps, memory,
            )  # fmt: skip


# --- input gradient ----------------------------------------------------------------------------------------------


def backward_input(dx: np.ndarray, dy: np.ndarray, weight: np.ndarray, padding: Pair) -> None:
    """dx = the cells of dy W^T, added where they came from; see reference.conv2d_backward_input, here at stride 1."""
    dy, weight = np.ascontiguousarray(dy), np.ascontiguousarray(weight)
    plan, xs, ys = plan_winograd(dy.shape[1:3], dx, weight, padding, lanes=dx.shape[3])
    panels, tap = sizes = filter_size(plan, ys, xs), turned_tap(plan, xs, ys)
    space = workspace("winograd", plan.slots * plan.slot + panels + plan.taps**2 * tap, dy.dtype)
    functions = pass_functions(dy.dtype, plan.taps, "filter", "gradient", "image_back")
    _input_gradient.launch(
        plan.slots > 1, space, dx.reshape(-1), plan, xs, ys, sizes, functions, addresses_of(dy, weight)
    )


def turned_tap(plan: WinogradPlan, xs: Images, ys: Images) -> int:
    """Numbers in a tap of the weights that is turned; `pack` may turn a square more."""
    return (ys.channels + plan.vector) * xs.row


@kernel
def _input_gradient(space, dx, plan, xs, ys, sizes, functions, addresses):
    """The weights turned, tap by tap, and to points; then every slot its images: M, V = M U^T, dx."""
    panels_size, tap = sizes
    multiply, pack, filter_, gradient, image_back = functions
    dy, weight = addresses
    size = plan.itemsize
    panels = space.ctypes.data + size * plan.slots * plan.slot
    turned = panels + size * panels_size
    for t in prange(plan.taps * plan.taps):
        turn_tap(pack, turned, weight, tap, t, xs, ys, plan)
    for slot in prange(plan.slots):
        clear(space, slot * plan.slot, ZEROS)
        memory = space.ctypes.data + size * slot * plan.slot
        filters_to_points(filter_, panels, turned, tap, xs.row, slot, ys, xs, memory, plan)
    image = xs.height * xs.width * xs.channels
    for slot in prange(plan.slots):
        memory = space.ctypes.data + size * slot * plan.slot
        n, end = slot * plan.images // plan.slots, (slot + 1) * plan.images // plan.slots
        clear(dx, n * image, (end - n) * image)
        for first in range(n * plan.down, end * plan.down, plan.lines):
            last = min(end * plan.down, first + plan.lines)
            to_points(gradient, memory, ys, dy, first, first, last, plan)
            multiply_points(multiply, memory, ys, xs, panels, (last - first) * plan.across, plan)
            from_points(image_back, memory, xs, dx.ctypes.data, 0, first, first, last, plan)

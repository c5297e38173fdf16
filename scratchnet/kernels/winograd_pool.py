"""A convolution, ReLU and max pooling, image by image, in Winograd's way: what conv_pool.py is, made of winograd.py.

V and M hold the tiles of a few images, and are multiplied for all of them at once. The image between convolution and
pool exists one at a time, in the cache: forward pools it as soon as its last tile came back from the points, backward
spreads dy over the cells that won, and takes it to the points. From there M serves both gradients, that of the
weights, V^T M, and that of x, M U^T, which takes the place of V.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import prange

from scratchnet.kernels import max_pool, tile
from scratchnet.kernels.jit import helper, kernel, workspace
from scratchnet.kernels.memory import addresses_of, clear
from scratchnet.kernels.windows import Pair
from scratchnet.kernels.winograd import (
    Images,
    WinogradPlan,
    add_chunks,
    add_tiles,
    filter_size,
    filters_to_points,
    from_points,
    multiply_points,
    pass_functions,
    plan_chunks,
    plan_winograd,
    to_points,
    turn_tap,
    turned_tap,
)
from scratchnet.kernels.winograd_transform import ZEROS


def _room(plan: WinogradPlan, ys: Images) -> int:
    """Numbers in the memory of a slot: V, M, and behind them one image."""
    return plan.slot + -(-ys.height * ys.width * ys.channels // 16) * 16


# --- forward -----------------------------------------------------------------------------------------------------


def forward(
    y: np.ndarray, index: np.ndarray, x: np.ndarray, weight: np.ndarray, bias: np.ndarray, padding: Pair,
    pool: max_pool.Pool,
) -> None:  # fmt: skip
    """y, index = max_pool2d(max(conv2d(x, weight, bias), 0)), at stride 1, of contiguous arrays."""
    plan, xs, ys = plan_winograd((pool.height, pool.width), x, weight, padding, lanes=weight.shape[3])
    room = _room(plan, ys)
    space = workspace("winograd", plan.slots * room + filter_size(plan, xs, ys), y.dtype)
    functions = *pass_functions(y.dtype, plan.taps, "filter", "image", "output"), max_pool.functions(y.dtype).pick
    _forward.launch(plan.slots > 1, space, plan, xs, ys, pool, room, functions, addresses_of(y, index, x, weight, bias))


@kernel
def _forward(space, plan, xs, ys, pool, room, functions, addresses):
    """The weights to points; then every slot its images: V, M = V U, and image by image what is pooled, y and index."""
    multiply, _, filter_, image, output, pick = functions
    y, index, x, weight, bias = addresses
    size = plan.itemsize
    panels = space.ctypes.data + size * plan.slots * room
    for slot in prange(plan.slots):
        clear(space, slot * room, ZEROS)
        memory = space.ctypes.data + size * slot * room
        filters_to_points(filter_, panels, weight, xs.channels * ys.channels, ys.channels, slot, xs, ys, memory, plan)
    for slot in prange(plan.slots):
        memory = space.ctypes.data + size * slot * room
        end = (slot + 1) * plan.images // plan.slots * plan.down
        for first in range(slot * plan.images // plan.slots * plan.down, end, plan.lines):
            last = min(end, first + plan.lines)
            to_points(image, memory, xs, x, first, first, last, plan)
            multiply_points(multiply, memory, xs, ys, panels, (last - first) * plan.across, plan)
            _pool_lines(output, pick, y, index, memory, bias, first, last, pool, ys, plan)


@helper
def _pool_lines(output, pick, y, index, memory, bias, first, last, pool, ys, plan):
    """Fill the slot's image with these lines of M, and pool it whenever it is complete."""
    filled, pooled = plan.itemsize * ys.height * ys.width * ys.channels, pool.rows * pool.columns * pool.channels
    image = memory + plan.itemsize * plan.slot
    for n in range(first // plan.down, (last + plan.down - 1) // plan.down):
        start, stop = max(first, n * plan.down), min(last, (n + 1) * plan.down)
        from_points(output, memory, ys, image - n * filled, bias, first, start, stop, plan)
        if stop == (n + 1) * plan.down:
            for oh in range(pool.rows):
                max_pool.pool_line(pick, pool, y + plan.itemsize * n * pooled, index + n * pooled, image, oh)


# --- backward ----------------------------------------------------------------------------------------------------


class Code(NamedTuple):
    """What a backward calls: the tile and its packing, the transforms, and what spreads dy over the cells that won."""

    multiply: Any
    pack: Any
    filter: Any
    gradient: Any
    image: Any
    image_back: Any
    filter_back: Any
    spread: Any


class Addresses(NamedTuple):
    """Where the arrays of a backward lie: `winners` is its index, `one` a 1."""

    dweight: int
    dy: int
    y: int
    winners: int
    x: int
    weight: int
    one: int


def backward(
    dx: np.ndarray, dweight: np.ndarray, dbias: np.ndarray, dy: np.ndarray, y: np.ndarray, index: np.ndarray,
    x: np.ndarray, weight: np.ndarray, padding: Pair, pool: max_pool.Pool,
) -> None:  # fmt: skip
    """dx, dweight, dbias from dy where y > 0, at stride 1, of contiguous arrays; dx may be empty."""
    cells = (pool.height, pool.width)
    plan, xs, ys = plan_winograd(cells, x, weight, padding, lanes=weight.shape[3])
    back, _, _ = plan_winograd(cells, x, weight, padding, lanes=x.shape[3])
    _, chunks, part = sums_sizes = plan_chunks(plan, xs, ys)
    room, panels, tap = sizes = _room(plan, ys), filter_size(back, ys, xs), turned_tap(plan, xs, ys)
    start = plan.slots * room
    space = workspace("winograd", start + chunks * part + panels + plan.taps**2 * tap, y.dtype)
    sums = space[start : start + chunks * part]
    transforms = "filter", "gradient", "image", "image_back", "filter_back"
    code = Code._make((*pass_functions(y.dtype, plan.taps, *transforms), max_pool.functions(y.dtype).spread))
    at = Addresses._make(addresses_of(dweight, dy, y, index, x, weight, tile.one_and_zeros(y.dtype)))
    _backward.launch(plan.slots > 1, space, sums, dx.reshape(-1), plan, back, xs, ys, pool, sums_sizes, sizes, code, at)
    dbias[...] = sums[part - ys.row :][: ys.channels]


@kernel
def _backward(space, sums, dx, plan, back, xs, ys, pool, sums_sizes, sizes, code, at):
    """The weights turned, and to points, if dx is wanted; the sums of each chunk of images, and their dx; dweight."""
    room, panels_size, tap = sizes
    images, chunks, part = sums_sizes
    size, base = plan.itemsize, space.ctypes.data
    panels = sums.ctypes.data + size * chunks * part
    turned = panels + size * panels_size
    for slot in prange(plan.slots):
        clear(space, slot * room, ZEROS)
    if dx.size > 0:
        for t in prange(plan.taps * plan.taps):
            turn_tap(code.pack, turned, at.weight, tap, t, xs, ys, plan)
        for slot in prange(plan.slots):
            filters_to_points(code.filter, panels, turned, tap, xs.row, slot, ys, xs, base + size * slot * room, back)
    for slot in prange(plan.slots):
        for q in range(slot * chunks // plan.slots, (slot + 1) * chunks // plan.slots):
            begin, end = q * images * plan.down, min(plan.images, (q + 1) * images) * plan.down
            to = sums.ctypes.data + size * q * part
            for first in range(begin, end, plan.lines):
                last, fresh = min(end, first + plan.lines), first == begin
                plans = plan, back, xs, ys, pool
                _gradients(dx, to, fresh, space, slot * room, panels, first, last, plans, code, at)
    for slot in prange(plan.slots):
        memory = base + size * slot * room
        add_chunks(code.filter_back, at.dweight, sums, memory, slot, sums_sizes, xs, ys, plan)


@helper
def _gradients(dx, sums, fresh, space, start, panels, first, last, plans, code, at):
    """What these lines of tiles add to the sums, and to dx. The slot's memory starts at space[start]."""
    plan, back, xs, ys, pool = plans
    tiles, memory = (last - first) * plan.across, space.ctypes.data + plan.itemsize * start
    _spread_lines(code.gradient, code.spread, space, start, at.dy, at.y, at.winners, first, last, pool, ys, plan)
    to_points(code.image, memory, xs, at.x, first, first, last, plan)
    add_tiles(code.multiply, sums, fresh, memory, at.one, tiles, xs, ys, plan)
    if dx.size > 0:
        filled = xs.height * xs.width * xs.channels
        begin, end = (first + plan.down - 1) // plan.down, (last + plan.down - 1) // plan.down  # images that begin here
        clear(dx, begin * filled, (end - begin) * filled)
        multiply_points(code.multiply, memory, ys, xs, panels, tiles, back)
        from_points(code.image_back, memory, xs, dx.ctypes.data, 0, first, first, last, plan)


@helper
def _spread_lines(gradient, spread, space, at, dy, y, index, first, last, pool, ys, plan):
    """M of these lines, from the slot's image, over which dy is spread whenever one begins."""
    filled, pooled = ys.height * ys.width * ys.channels, pool.rows * pool.columns * pool.channels
    memory = space.ctypes.data + plan.itemsize * at
    image = memory + plan.itemsize * plan.slot
    for n in range(first // plan.down, (last + plan.down - 1) // plan.down):
        start, stop = max(first, n * plan.down), min(last, (n + 1) * plan.down)
        if start == n * plan.down:
            clear(space, at + plan.slot, filled)
            cells, bytes_ = n * pooled, plan.itemsize * n * pooled
            for h in range(pool.height):
                max_pool.spread_row(spread, pool, image, dy + bytes_, y + bytes_, index + cells, h)
        to_points(gradient, memory, ys, image - plan.itemsize * n * filled, first, start, stop, plan)

"""Max pooling, a vector of channels at a time: the block of machine code under pool.py, conv_pool.py, winograd_pool.py.

    forward     y = the largest cell of a window, index = its number i KW + j; the first of equals, NaN before all
    backward    dx += dy, in the cell that won

The largest cell so far and its number stay in registers while the cells of a window pass. A compiled loop over the
channels would read and write both at every cell, and test at every cell whether its arrays overlap; so this is written
in LLVM's own instructions, as the tile is (tile.py).

With `rectify`, what is pooled is max(x, 0), and backward is that of both: the pool of a rectified image starts at the
rectified first cell, and no other cell needs rectifying, for a negative one does not win. The output is positive where
the winner was, so y tells where dy flows.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core.cgutils import unpack_tuple
from numba.extending import intrinsic

from scratchnet.kernels.jit import helper
from scratchnet.kernels.memory import call, machine_code, view
from scratchnet.kernels.vectors import I64, Vectors, loop, vector_unit
from scratchnet.kernels.windows import Pair, inside


class Pool(NamedTuple):
    """Where the windows of a pooling lie."""

    height: int  # H of the image that is pooled
    width: int  # W
    channels: int  # C
    rows: int  # OH
    columns: int  # OW
    kernel_rows: int  # KH
    kernel_columns: int  # KW
    step_h: int
    step_w: int
    top: int
    left: int
    vector: int  # lanes
    itemsize: int  # bytes of a number
    rectify: int  # 1: pool max(x, 0)


def plan(image: Pair, y: np.ndarray, kernel_size: Pair, stride: Pair, padding: Pair, rectify: bool = False) -> Pool:
    """Lay the windows of y, (N, OH, OW, C), over images of (H, W)."""
    sizes = *image, y.shape[3], *y.shape[1:3], *kernel_size, *stride, *padding
    return Pool._make((*sizes, vector_unit().bytes // y.itemsize, y.itemsize, int(rectify)))


# --- one window --------------------------------------------------------------------------------------------------


@intrinsic
def _pick(typing_context: Any, like: Any, y: Any, index: Any, at: Any, x: Any, x_at: Any, *args: Any) -> Any:
    """A vector of a window: write y[at] and index[at], its largest cell and the number of that.

    The window's cells in the image are rows x columns, from x[x_at] on; the first has the number `tap`.
    """

    def codegen(context: Any, b: ir.IRBuilder, signature: Any, values: list[ir.Value]) -> Any:
        v = Vectors(b, context.get_value_type(like.dtype))
        _, y, index, at, x, x_at, more = values
        rectify, tap, tap_row, rows, row_step, columns, column_step, lanes = unpack_tuple(b, more)
        zero, first = ir.Constant(v.type, None), v.at(x, x_at)

        def scan(mask: ir.Value) -> None:
            def one_cell(tap: ir.Value, cell: ir.Value, best: ir.Value, which: ir.Value) -> list[ir.Value]:
                value = v.load_masked(cell, mask)
                # "unordered or greater" lets a NaN win, "ordered" keeps the first one
                wins = b.and_(b.fcmp_unordered(">", value, best), b.fcmp_ordered("ord", best, best))
                best, which = b.select(wins, value, best), b.select(wins, v.number(tap), which)
                return [b.add(tap, I64(1)), v.at(cell, column_step), best, which]

            def one_row(tap: ir.Value, row: ir.Value, best: ir.Value, which: ir.Value) -> list[ir.Value]:
                _, _, *state = loop(b, columns, [tap, row, best, which], one_cell)
                return [b.add(tap, tap_row), v.at(row, row_step), *state]

            value = v.load_masked(first, mask)
            negative = b.and_(b.fcmp_ordered("<", value, zero), v.flag(rectify))
            start = [tap, first, b.select(negative, zero, value), v.number(tap)]
            _, _, best, which = loop(b, rows, start, one_row)
            v.store_masked(best, v.at(y, at), mask)
            v.store_bytes(which, b.add(index, at), mask)

        v.whole_or_part(lanes, scan)
        return context.get_dummy_value()

    return types.void(like, y, index, at, x, x_at, types.StarArgUniTuple(types.int64, len(args))), codegen


@intrinsic
def _spread(
    typing_context: Any, like: Any, dx: Any, dx_at: Any, dy: Any, y: Any, index: Any, at: Any, *args: Any
) -> Any:
    """A vector of a window hands dy[at] to one row of its cells, which starts at dx[dx_at] with the number `tap`."""

    def codegen(context: Any, b: ir.IRBuilder, signature: Any, values: list[ir.Value]) -> Any:
        v = Vectors(b, context.get_value_type(like.dtype))
        _, dx, dx_at, dy, y, index, at, more = values
        rectify, tap, columns, column_step, lanes = unpack_tuple(b, more)
        zero = ir.Constant(v.type, None)

        def add(mask: ir.Value) -> None:
            def one_cell(tap: ir.Value, cell: ir.Value) -> list[ir.Value]:
                won = b.icmp_signed("==", which, v.number(tap))
                v.store_masked(b.fadd(v.load_masked(cell, mask), b.select(won, value, zero)), cell, mask)
                return [b.add(tap, I64(1)), v.at(cell, column_step)]

            value, output = v.load_masked(v.at(dy, at), mask), v.load_masked(v.at(y, at), mask)
            flows = b.or_(b.fcmp_ordered(">", output, zero), b.not_(v.flag(rectify)))
            # y * 0 is 0 for an inactive unit and NaN where the output was NaN
            value, which = b.select(flows, value, b.fmul(output, zero)), v.load_bytes(b.add(index, at), mask)
            loop(b, columns, [tap, v.at(dx, dx_at)], one_cell)

        v.whole_or_part(lanes, add)
        return context.get_dummy_value()

    return types.void(like, dx, dx_at, dy, y, index, at, types.StarArgUniTuple(types.int64, len(args))), codegen


def _pick_plain(
    size, y, index, at, x, x_at, rectify, tap, tap_row, rows, row_step, columns, column_step, lanes
):  # fmt: skip
    shape = 1, min(lanes, vector_unit().bytes // size)
    best, which = view(y + size * at, size, shape, (0, 1)), view(index + at, 1, shape, (0, 1))
    best[...], which[...] = view(x + size * x_at, size, shape, (0, 1)), tap
    best[(best < 0) & bool(rectify)] = 0
    for i in range(rows):
        for j in range(columns):
            cell = view(x + size * (x_at + i * row_step + j * column_step), size, shape, (0, 1))
            wins = ~(cell <= best) & (best == best)
            best[wins], which[wins] = cell[wins], tap + i * tap_row + j


def _spread_plain(
    size, dx, dx_at, dy, y, index, at, rectify, tap, columns, column_step, lanes
):  # fmt: skip
    lanes = min(lanes, vector_unit().bytes // size)
    value, output = (view(a + size * at, size, (1, lanes), (0, 1)) for a in (dy, y))
    with np.errstate(invalid="ignore"):
        value = np.where((output > 0) | (not rectify), value, output * 0)
    numbers = tap + np.arange(columns)[:, None]
    cells = view(dx + size * dx_at, size, (columns, lanes), (column_step, 1))
    cells += np.where(view(index + at, 1, (1, lanes), (0, 1)) == numbers, value, 0)


if numba.config.DISABLE_JIT:
    _pick, _spread = _pick_plain, _spread_plain


# --- a line of windows -------------------------------------------------------------------------------------------


def _pick_line(
    like, y, index, x, rectify, tap, rows, width, columns, channels, kernel_columns, step_w, left, vector
):  # fmt: skip
    """Write a line of y and index. x: the first row of these windows in the image; so many `rows` lie in it."""
    for ow in range(columns):
        start, first, last = inside(ow, step_w, left, kernel_columns, width)
        for c in range(0, channels, vector):
            _pick(
                like, y, index, ow * channels + c, x, (start + first) * channels + c,
                rectify, tap + first, kernel_columns, rows, width * channels, last - first, channels, channels - c,
            )  # fmt: skip


def _spread_line(
    like, dx, dy, y, index, rectify, tap, width, columns, channels, kernel_columns, step_w, left, vector
):  # fmt: skip
    """Add to one row of dx what a line of windows hands to it; `tap` is the number of their first cell in that row."""
    for ow in range(columns):
        start, first, last = inside(ow, step_w, left, kernel_columns, width)
        for c in range(0, channels, vector):
            _spread(
                like, dx, (start + first) * channels + c, dy, y, index, ow * channels + c,
                rectify, tap + first, last - first, channels, channels - c,
            )  # fmt: skip


class PoolFunctions(NamedTuple):
    """What the two helpers below `call`."""

    pick: Any
    spread: Any


@functools.cache
def functions(dtype: np.dtype[Any]) -> PoolFunctions:
    """Compile, or load from the cache, both passes for this dtype."""
    return PoolFunctions(machine_code(_pick_line, dtype), machine_code(_spread_line, dtype))


@helper
def pool_line(pick, pool, y, index, x, oh):
    """Pool line `oh` of an image. y, index, x: addresses of the image's own; line oh of y and index is written."""
    top, first, last = inside(oh, pool.step_h, pool.top, pool.kernel_rows, pool.height)
    at = oh * pool.columns * pool.channels
    call(
        pick, y + pool.itemsize * at, index + at, x + pool.itemsize * (top + first) * pool.width * pool.channels,
        pool.rectify, first * pool.kernel_columns, last - first, pool.width, pool.columns, pool.channels,
        pool.kernel_columns, pool.step_w, pool.left, pool.vector,
    )  # fmt: skip


@helper
def spread_row(spread, pool, dx, dy, y, index, h):
    """Add to row `h` of an image the dy of all windows over it. dx, dy, y, index: addresses of the image's own.

    y counts with `pool.rectify` only, but is read in any case; without, any address of as many numbers will do.
    """
    for i in range(pool.kernel_rows):
        oh = (h + pool.top - i) // pool.step_h
        if oh * pool.step_h == h + pool.top - i and 0 <= oh < pool.rows:
            at = oh * pool.columns * pool.channels
            call(
                spread, dx + pool.itemsize * h * pool.width * pool.channels,
                dy + pool.itemsize * at, y + pool.itemsize * at, index + at, pool.rectify, i * pool.kernel_columns,
                pool.width, pool.columns, pool.channels, pool.kernel_columns, pool.step_w, pool.left, pool.vector,
            )  # fmt: skip

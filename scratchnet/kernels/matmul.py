"""The product of two matrices on the register tile: blocked for the caches, packed, parallel.

    c = a b    or    c = a b + bias

The columns of c are cut into strips of STRIP bytes, and these into panels as wide as a tile. A task is a strip. Where
there are few strips, the rows of tiles of all are counted through, strip by strip, and a task is an even share of them.
Each thread takes another task until none is left: not all are equally fast.

    for each block of K
        for each strip of which this task has rows of tiles
            pack this block of the strip: whole lines of memory at a time
            for each of its panels, which stays in the L2 cache
                run its tiles down the rows: each adds to c what the block gives
            after the last block: do what is left to do at the product's edge, while the strip is in the cache

Packing takes a twelfth of the time of a product with 128 rows, and with one row it would be most of it. So where c has
few rows, or some and b is so small that a cache may still hold it, b's whole panels are read where they lie. From
memory, which is slower, b comes faster by packing, which asks for many rows ahead.

Each element is summed by one thread, in an order that depends on nothing but K. So the bits are the same however many
threads there are, whichever tasks they get.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from numba import prange

from scratchnet.kernels import tile
from scratchnet.kernels.jit import helper, kernel, threads_for_product, workspace
from scratchnet.kernels.memory import call, clear, next_task

STRIP = 256  # bytes of a row of b that are packed at once
BLOCK, PANEL = 1024, 1 << 16  # the numbers of K in a block, and the bytes of it in a panel, at most
PACK_FROM = 6  # panels: where more than so many read a turned a, packing it pays
IN_PLACE = 2  # rows of tiles, at most, for which b is read where it lies: 0.4 to 0.9 of the time that packing takes
IN_PLACE_SMALL = 12  # the same where b has at most SMALL bytes, and its panels are wider than a line of memory
SMALL, LINE = 1 << 21, 64
FEW = 4  # rows: one takes as long, because all of b is read for it
PAGE = 4096  # bytes: numbers so far apart compete for 8 places in the first cache
TILES_TOGETHER = 8  # tiles of a turned a that are packed side by side: a page of it is opened once for all of them
TASKS = 4  # for each thread, where there are as many strips
COUNTER = 128  # bytes of the workspace for the number of tasks taken, which shares no line with the rest

# What is done beside the product, at its edge: nothing; c + bias; max(c + bias, 0); 0 for c where outputs are not
# positive; sums[j] = sum_k b[k, j].
NOTHING, ADD, RECTIFY, MASK, COLLECT = range(5)


class Plan(NamedTuple):
    """What `product` must know beside the shapes. Kept as an array, so that a chain can hold one for each product."""

    constants: int  # address of tile.one_and_zeros
    use: int  # one of NOTHING ... COLLECT
    turn_a: int  # 1: a is (K, M)
    turn_b: int  # 1: b is (N, K)
    block: int  # of K
    panel: int  # numbers in a packed panel of b
    panels: int  # panels in a strip
    tile_step: int  # numbers in a packed tile of a; 0: a is read where it lies
    rows: int  # of a tile
    vectors: int  # of a tile
    vector: int  # lanes of one
    slots: int  # threads
    tasks: int
    in_place: int  # 1: whole panels of b are read where they lie


def matmul(
    c: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    bias: np.ndarray | None = None,
    sums: np.ndarray | None = None,
    turn_a: bool = False,
    turn_b: bool = False,
    rectify: bool = False,
    outputs: np.ndarray | None = None,
) -> None:
    """c = a b + bias, and in passing one of: a ReLU forward, a ReLU backward, sums[j] = sum_k b[k, j].

    Args:
        c: (M, N) float32 or float64, contiguous. Written.
        a: (M, K), or with `turn_a` (K, M), of which the transpose is meant. Same dtype. Read.
        b: (K, N), or with `turn_b` (N, K). Same dtype. Read.
        bias: (N,), added to every row. Read.
        sums: (N,), contiguous, in place of a bias. Written.
        rectify: c = max(a b + bias, 0), as relu_forward would; there must be a bias.
        outputs: (M, N), contiguous, y of a ReLU, in place of a bias: c becomes what relu_backward makes of it. Read.

    NaN and infinity travel as through any sum of products: 0 times infinity is NaN.
    """
    (m, n), k = c.shape, a.shape[0 if turn_a else 1]
    slots = threads_for_product(work(m, n, k, c.dtype))
    use, edge = _edge(c, bias, sums, rectify, outputs)
    sizes, numbers = plan(m, n, k, turn_a, turn_b, use, c.dtype, slots)
    space, (multiply, pack) = workspace("matmul", numbers, c.dtype), tile.functions(c.dtype)
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
    product.launch(slots > 1, c, a, b, edge, space, multiply, pack, sizes)


def work(m: int, n: int, k: int, dtype: np.dtype[Any]) -> int:
    """The multiply-adds that the time of a product is that of: of whole vectors, and of FEW rows at least."""
    return max(m, FEW) * tile.whole_vectors(n, dtype) * k


def _edge(
    c: np.ndarray, bias: np.ndarray | None, sums: np.ndarray | None, rectify: bool, outputs: np.ndarray | None
) -> tuple[int, np.ndarray]:
    """What `plan` takes as `use` and `product` as `edge`."""
    if bias is not None:
        return RECTIFY if rectify else ADD, np.ascontiguousarray(bias)
    if sums is not None:
        return COLLECT, sums
    return (NOTHING, c.reshape(-1)) if outputs is None else (MASK, outputs.reshape(-1))


@functools.lru_cache(4096)  # computed every time, it would take a third of a small product's time
def plan(
    m: int, n: int, k: int, turn_a: bool, turn_b: bool, use: int, dtype: np.dtype[Any], slots: int
) -> tuple[np.ndarray, int]:
    """The integers that `product` takes as `sizes`, and how many numbers its workspace needs.

    `use` is one of NOTHING ... COLLECT. It is here because numba compiles a function anew for each constant.
    """
    # a high tile reads b half as often as a wide one; but 12 rows of a or c that compete for 8 places would not stay
    compete = n * dtype.itemsize % PAGE == 0 or (not turn_a and k * dtype.itemsize % PAGE == 0)
    rows, vectors, vector = tile.shape_for(n, dtype, most=4 if compete else 2)
    width = vectors * vector
    block = min(BLOCK, PANEL // (width * dtype.itemsize))
    block = -(-k // max(1, -(-k // block)))  # of equal size
    panel = (block + vector) * width  # numbers; so many more because a turned square may stick out
    panels = min(-(-STRIP // (width * dtype.itemsize)), max(1, -(-n // width)))
    tile_step = rows * k + vector if turn_a and n > PACK_FROM * width else 0
    strips = -(-n // (panels * width))
    tasks = strips if strips >= TASKS * slots else slots
    tiles = -(-m // rows)
    small = k * n * dtype.itemsize <= SMALL and width * dtype.itemsize > LINE
    in_place = not turn_b and tiles <= (IN_PLACE_SMALL if small else IN_PLACE)
    sizes = np.array(
        Plan(
            tile.one_and_zeros(dtype).ctypes.data, use, turn_a, turn_b, block, panel, panels, tile_step,
            rows, vectors, vector, slots, tasks, in_place,
        )
    )  # fmt: skip
    return sizes, COUNTER // dtype.itemsize + slots * panels * panel + tiles * tile_step


@kernel
def product(
    c: np.ndarray, a: np.ndarray, b: np.ndarray, edge: np.ndarray, space: np.ndarray,
    multiply: int, pack: int, sizes: np.ndarray,
) -> None:  # fmt: skip
    """The body of matmul, which other kernels may call: `sizes` is the plan's, edge bias, sums, outputs or anything."""
    s, size = sizes, c.itemsize
    # numba finds the class of a named tuple only where it is called by its own name in the kernel itself
    plan = Plan(s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7], s[8], s[9], s[10], s[11], s[12], s[13])
    buffers, buffer_size = space.ctypes.data + COUNTER, size * plan.panels * plan.panel
    tiles_of_a = buffers + plan.slots * buffer_size
    if plan.tile_step:
        for group in prange((c.shape[0] + TILES_TOGETHER * plan.rows - 1) // (TILES_TOGETHER * plan.rows)):
            _pack_tiles(pack, tiles_of_a, a, group * TILES_TOGETHER, plan)
    clear(space, 0, COUNTER // size)
    for slot in prange(plan.slots):
        turn = next_task(space.ctypes.data)
        while turn < plan.tasks:
            task = _task_of(turn, plan)
            _do_task(c, a, b, edge, tiles_of_a, buffers + slot * buffer_size, multiply, pack, task, plan)
            turn = next_task(space.ctypes.data)


@helper
def _task_of(turn, plan):
    """Give out, in turn, the first tasks of equal shares, then their second ones, ...: of 8 tasks to 3 threads
    0, 3, 6, 1, 4, 7, 2, 5.

    Threads then work in strips that lie apart. Neighbours end and begin in the same lines of c, which would go from one
    thread's cache to the other's and back with each row: on two threads a weight gradient would take 13 % longer.
    """
    share, nth = turn % plan.slots, turn // plan.slots
    return share * (plan.tasks // plan.slots) + min(share, plan.tasks % plan.slots) + nth


@helper
def _pack_tiles(pack, to, a, first, plan):
    """Pack TILES_TOGETHER tiles of a turned a, side by side: where a lies, a tile's k are pages apart."""
    k, m = a.shape
    row = first * plan.rows
    call(
        pack, to + a.itemsize * first * plan.tile_step, plan.tile_step, a.ctypes.data + a.itemsize * row, 1, m,
        min(TILES_TOGETHER * plan.rows, m - row), k, plan.rows, plan.vector,
    )  # fmt: skip


@helper
def _do_task(c, a, b, edge, tiles_of_a, buffer, multiply, pack, task, plan):
    """A task's share of all (strip, row of tiles), strip by strip within a block of K."""
    (m, n), k = c.shape, a.shape[0] if plan.turn_a else a.shape[1]
    strip, tiles = plan.panels * plan.vectors * plan.vector, max(1, (m + plan.rows - 1) // plan.rows)
    pairs = (n + strip - 1) // strip * tiles
    begin, end = task * pairs // plan.tasks, (task + 1) * pairs // plan.tasks
    for k0 in range(0, max(k, 1), max(plan.block, 1)):
        count = min(plan.block, k - k0)
        for s in range(begin // tiles, (end + tiles - 1) // tiles):
            left, right = s * strip, min((s + 1) * strip, n)
            first, last = max(0, begin - s * tiles), min(tiles, end - s * tiles)
            _add_block(c, a, b, edge, tiles_of_a, buffer, multiply, pack, left, right, first, last, k0, count, plan)
            if k0 + count >= k:
                _finish(c, edge, first * plan.rows, min(m, last * plan.rows), left, right, plan)


@helper
def _add_block(c, a, b, edge, tiles_of_a, buffer, multiply, pack, left, right, first, last, k0, count, plan):
    """Columns left .. right and tiles first .. last of c: add what the block k0 .. k0 + count of K gives."""
    n, size, width = c.shape[1], c.itemsize, plan.vectors * plan.vector
    lane_step, k_step = (b.shape[1], 1) if plan.turn_b else (1, n)
    b_block = b.ctypes.data + size * (left * lane_step + k0 * k_step)
    start = right - (right - left) % width if plan.in_place else left  # of what is packed
    source = b_block + size * (start - left) * lane_step
    call(pack, buffer, plan.panel, source, lane_step, k_step, right - start, count, width, plan.vector)
    for j in range(left, right, width):
        panel, panel_row = buffer + size * ((j - start) // width * plan.panel), width
        if j < start:
            panel, panel_row = b_block + size * (j - left), n
        _run_down(
            multiply, c, a, tiles_of_a, panel, panel_row, edge.ctypes.data + size * j,
            j, min(width, right - j), first, last, k0, count, plan,
        )  # fmt: skip


@helper
def _run_down(multiply, c, a, tiles_of_a, b, b_row, edge, j, lanes, first, last, k0, count, plan):
    """Run the tiles first .. last down the panel of c at column j: the first block of K starts at bias or 0."""
    (m, n), size = c.shape, c.itemsize
    a_at, tile_step, a_row, a_k = tiles_of_a, plan.tile_step, 1, plan.rows
    if not plan.tile_step:  # a is read where it lies
        a_row, a_k = (1, m) if plan.turn_a else (a.shape[1], 1)
        a_at, tile_step = a.ctypes.data, plan.rows * a_row
    one, zeros, vectors = plan.constants, plan.constants + size, plan.vectors
    while vectors > 1 and 2 * lanes <= vectors * plan.vector:  # a last panel of few columns takes a narrower tile
        vectors //= 2
    start = edge if plan.use in (ADD, RECTIFY) else zeros
    for t in range(first, last):
        to = c.ctypes.data + size * (t * plan.rows * n + j)
        d, d_row = (start, 0) if k0 == 0 else (to, n)
        call(
            multiply, min(plan.rows, m - t * plan.rows), vectors, to, n, d, d_row,
            a_at + size * (t * tile_step + k0 * a_k), a_row, 0, a_k, b, b_row, lanes, 1, count,
        )  # fmt: skip
    if plan.use == COLLECT and first == 0:  # a row of ones times b
        d = zeros if k0 == 0 else edge
        call(multiply, 1, vectors, edge, 0, d, 0, one, 0, 0, 0, b, b_row, lanes, 1, count)


@helper
def _finish(c, edge, top, bottom, left, right, plan):
    """ReLU forward or backward over a part of c that is summed up; the comparisons are those of activations.py.

    A ReLU does not store what it read as it was: LLVM would leave that out, and store the zeros alone by masked stores,
    which take AVX2 processors of AMD's ten times as long. So it stores that less a 0 of which LLVM does not know.
    """
    zero, n = c.dtype.type(0), c.shape[1]
    nothing = c.dtype.type(min(plan.tasks, 0))
    if plan.use == RECTIFY:
        for i in range(top, bottom):
            row = c[i, left:right]
            for j in range(row.size):
                row[j] = zero if row[j] < zero else row[j] - nothing
    elif plan.use == MASK:
        for i in range(top, bottom):
            row, y = c[i, left:right], edge[i * n + left : i * n + right]
            for j in range(row.size):
                row[j] = row[j] if y[j] > zero else y[j] * zero

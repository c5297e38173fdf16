"""The product of two matrices on the register tile: blocked for the caches, packed, parallel.

    c = a b    or    c = a b + bias

The columns of c are cut into strips of STRIP bytes, and these into panels as wide as a tile. A task is a strip, or
where there are few strips an even share of the rows of tiles of all. Each thread takes the next task until none is
left: not all are equally fast.

    for each block of K
        for each strip of which this task has rows of tiles
            pack this block of the strip: whole lines of memory at a time
            for each of its panels, which stays in the L2 cache
                run its tiles down the rows: each adds to c what the block gives
            after the last block: do what is left to do at the product's edge, while the strip is in the cache

Packing 4 MB takes a twelfth of the time of a product with 128 rows, less than rows of b that lie pages apart would.
Of one row it would take most of the time: where c has a few rows, b's whole panels are read where they lie.

Each element is summed by one thread, in an order that depends on nothing but K. So the bits are the same however many
threads there are, whichever tasks they get.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import prange

from scratchnet.kernels import tile
from scratchnet.kernels.jit import helper, kernel, threads_for_product, workspace
from scratchnet.kernels.memory import clear, take
from scratchnet.kernels.tile import call

STRIP = 256  # bytes of a row of b that are packed at once
BLOCK, PANEL = 1024, 1 << 16  # the numbers of K in a block, and the bytes of it in a panel, at most
PACK_FROM = 3  # panels: so many must read a turned a before packing it has paid
IN_PLACE = (
    2  # rows of tiles, at most, for which a panel of b is not packed: 1 to 12 rows then take 0.4 to 0.9 of the time
)
ABREAST = 8  # tiles of a turned a that are packed side by side: a page of it is opened once for all of them
TASKS = 4  # for each thread, where there are as many strips
COUNTER = 128  # bytes of the workspace for the number of tasks taken, which shares no line with the rest

# At the product's edge: c + bias; max(c + bias, 0); 0 for c where a unit was inactive; sums = the columns of b summed.
NOTHING, ADD, RECTIFY, MASK, COLLECT = range(5)


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
        bias: (N,), contiguous, added to every row. Read.
        sums: (N,), contiguous, in place of a bias. Written.
        rectify: c = max(a b + bias, 0), as relu_forward would; there must be a bias.
        outputs: (M, N), contiguous, y of a ReLU, in place of a bias: c becomes what relu_backward makes of it. Read.

    NaN and infinity travel as through any sum of products: 0 times infinity is NaN.
    """
    (m, n), k = c.shape, a.shape[0 if turn_a else 1]
    slots = threads_for_product(m * n * k)
    use, edge = _edge(c, bias, sums, rectify, outputs)
    sizes, numbers = plan(m, n, k, turn_a, turn_b, use, c.dtype, slots)
    space, (multiply, pack) = workspace("matmul", numbers, c.dtype), tile.functions(c.dtype)
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
    product.launch(slots > 1, c, a, b, edge, space, multiply, pack, sizes)


def _edge(
    c: np.ndarray, bias: np.ndarray | None, sums: np.ndarray | None, rectify: bool, outputs: np.ndarray | None
) -> tuple[int, np.ndarray]:
    """What `plan` takes as `use` and `product` as `edge`."""
    if bias is not None:
        return RECTIFY if rectify else ADD, bias
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
    shapes = tile.shapes(dtype)
    rows, vectors, vector = next((s for s in shapes if s.vectors * s.lanes >= n), shapes[-1])
    width = vectors * vector
    block = min(BLOCK, PANEL // (width * dtype.itemsize))
    block = -(-k // max(1, -(-k // block)))  # of equal size
    panel = (block + vector) * width  # numbers; so many more because a turned square may stick out
    abreast = min(-(-STRIP // (width * dtype.itemsize)), max(1, -(-n // width)))
    tile_step = rows * k + vector if turn_a and n > PACK_FROM * width else 0
    strips = -(-n // (abreast * width))
    tasks = strips if strips >= TASKS * slots else slots
    tiling = tile_step, rows, vectors, vector, slots, tasks, not turn_b and m <= IN_PLACE * rows
    sizes = np.array([_constants(dtype).ctypes.data, use, turn_a, turn_b, block, panel, abreast, *tiling])
    return sizes, COUNTER // dtype.itemsize + slots * abreast * panel - (-m // rows) * tile_step


@functools.cache
def _constants(dtype: np.dtype[Any]) -> np.ndarray:
    """A 1, and behind it a panel's width of zeros."""
    constants = np.zeros(1 + max(s.vectors * s.lanes for s in tile.shapes(dtype)), dtype)
    constants[0] = 1
    return constants


@kernel
def product(
    c: np.ndarray, a: np.ndarray, b: np.ndarray, edge: np.ndarray, space: np.ndarray,
    multiply: int, pack: int, sizes: np.ndarray,
) -> None:  # fmt: skip
    """The body of matmul, which other kernels may call: `sizes` is the plan's, edge bias, sums, outputs or anything."""
    use, turn_a, turn_b, block, panel, abreast = sizes[1], sizes[2], sizes[3], sizes[4], sizes[5], sizes[6]
    tile_step, tile_rows, vectors, vector, slots, tasks = sizes[7], sizes[8], sizes[9], sizes[10], sizes[11], sizes[12]
    (m, n), size, width = c.shape, c.itemsize, vectors * vector
    k, a_row, a_k = (a.shape[0], 1, m) if turn_a else (a.shape[1], a.shape[1], 1)
    b_lane, b_k = (k, 1) if turn_b else (1, n)
    buffers, a_at, strip = space.ctypes.data + COUNTER, a.ctypes.data, abreast * width
    tiles, strips = max(1, (m + tile_rows - 1) // tile_rows), (n + strip - 1) // strip
    if tile_step:  # a turned: a tile's k would be pages apart
        a_at, a_row, a_k = buffers + size * slots * abreast * panel, 1, tile_rows
        for first in prange((tiles + ABREAST - 1) // ABREAST):
            at = first * ABREAST * tile_rows
            source = a.ctypes.data + size * at
            lanes = min(ABREAST * tile_rows, m - at)
            call(pack, a_at + size * first * ABREAST * tile_step, tile_step, source, 1, m, lanes, k, tile_rows, vector)
    else:
        tile_step = tile_rows * a_row
    clear(space, 0, COUNTER // size)
    for slot in prange(slots):
        buffer = buffers + size * slot * abreast * panel
        task = take(space.ctypes.data)
        while task < tasks:
            begin, end = task * strips * tiles // tasks, (task + 1) * strips * tiles // tasks
            for k0 in range(0, max(k, 1), max(block, 1)):
                count = min(block, k - k0)
                for s in range(begin // tiles, (end + tiles - 1) // tiles):
                    first, last, left = max(0, begin - s * tiles), min(tiles, end - s * tiles), s * strip
                    right = min(left + strip, n)
                    b_block = b.ctypes.data + size * (left * b_lane + k0 * b_k)
                    start = right - (right - left) % width if sizes[13] else left  # of what is packed
                    source = b_block + size * (start - left) * b_lane
                    call(pack, buffer, panel, source, b_lane, b_k, right - start, count, width, vector)
                    for j in range(left, right, width):
                        b_panel, b_row = buffer + size * ((j - start) // width * panel), width
                        if j < start:
                            b_panel, b_row = b_block + size * (j - left), n
                        _run_down(
                            multiply, sizes, size, c.ctypes.data + size * j, m, n, a_at + size * k0 * a_k, tile_step,
                            a_row, a_k, b_panel, b_row, edge.ctypes.data + size * j, min(width, right - j),
                            first, last, k0 == 0, count,
                        )  # fmt: skip
                    if k0 + count >= k:
                        _finish(c, edge, use, first * tile_rows, min(m, last * tile_rows), left, right)
            task = take(space.ctypes.data)


@helper
def _run_down(
    multiply, sizes, size, c, m, n, a, tile_step, a_row, a_k, b, b_row, edge, lanes, first, last, fresh, count
):  # fmt: skip
    """Run the tiles first .. last of a panel of c: each adds what a block of K gives, a `fresh` one to bias or 0.

    c, a, b, edge: addresses of the panel and of the block.
    """
    zeros, use, tile_rows, vectors = sizes[0] + size, sizes[1], sizes[8], sizes[9]
    start = edge if use in (ADD, RECTIFY) else zeros
    for t in range(first, last):
        to = c + size * t * tile_rows * n
        d, d_row = (start, 0) if fresh else (to, n)
        call(
            multiply, min(tile_rows, m - t * tile_rows), vectors, to, n, d, d_row,
            a + size * t * tile_step, a_row, 0, a_k, b, b_row, lanes, 1, count,
        )  # fmt: skip
    if use == COLLECT and first == 0:  # a row of ones times b
        d = zeros if fresh else edge
        call(multiply, 1, vectors, edge, 0, d, 0, sizes[0], 0, 0, 0, b, b_row, lanes, 1, count)


@helper
def _finish(c, edge, use, top, bottom, left, right):
    """ReLU forward or backward over a part of c that is summed up; the comparisons are those of activations.py."""
    zero, n = c.dtype.type(0), c.shape[1]
    if use == RECTIFY:
        for i in range(top, bottom):
            row = c[i, left:right]
            for j in range(row.size):
                row[j] = zero if row[j] < zero else row[j]
    elif use == MASK:
        for i in range(top, bottom):
            row, y = c[i, left:right], edge[i * n + left : i * n + right]
            for j in range(row.size):
                row[j] = row[j] if y[j] > zero else y[j] * zero

"""The product of two matrices on the register tile: blocked for the caches, packed, parallel.

    c = a b    or    c = a b + bias

The columns of c are cut into strips of STRIP bytes, and these into panels as wide as a tile. The rows of tiles of all
strips are shared out evenly to the threads:

    for each block of K
        for each strip of which this thread has rows of tiles
            pack this block of the strip: whole lines of memory at a time
            for each of its panels, which stays in the L2 cache
                run its tiles down the rows: each adds to c what the block gives

Packing 4 MB takes a twelfth of the time of a product with 128 rows, less than rows of b that lie pages apart would.

Each element is summed by one thread, in an order that depends on nothing but K. So the bits are the same however many
threads there are, whichever tiles they get.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import prange

from scratchnet.kernels import tile
from scratchnet.kernels.jit import helper, kernel, threads_for_product, workspace
from scratchnet.kernels.tile import call

STRIP = 256  # bytes of a row of b that are packed at once
BLOCK, PANEL = 1024, 1 << 16  # the numbers of K in a block, and the bytes of it in a panel, at most
PACK_FROM = 3  # panels: so many must read a turned a before packing it has paid
ABREAST = 8  # tiles of a turned a that are packed side by side: a page of it is opened once for all of them
NOTHING, ADD, COLLECT = 0, 1, 2  # what happens at the product's edge: c += bias, or sums = the columns of b summed


def matmul(
    c: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    bias: np.ndarray | None = None,
    sums: np.ndarray | None = None,
    turn_a: bool = False,
    turn_b: bool = False,
) -> None:
    """c = a b + bias, and sums[j] = sum_k b[k, j] in passing.

    Args:
        c: (M, N) float32 or float64, contiguous. Written.
        a: (M, K), or with `turn_a` (K, M), of which the transpose is meant. Same dtype. Read.
        b: (K, N), or with `turn_b` (N, K). Same dtype. Read.
        bias: (N,), contiguous, added to every row. Read.
        sums: (N,), contiguous, in place of a bias. Written.

    NaN and infinity travel as through any sum of products: 0 times infinity is NaN.
    """
    (m, n), k = c.shape, a.shape[0 if turn_a else 1]
    slots = threads_for_product(m * n * k)
    use, edge = (ADD, bias) if bias is not None else (COLLECT, sums) if sums is not None else (NOTHING, c.reshape(-1))
    sizes, numbers = plan(m, n, k, turn_a, turn_b, use, c.dtype, slots)
    space, (multiply, pack) = workspace("matmul", numbers, c.dtype), tile.functions(c.dtype)
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
    product.launch(slots > 1, c, a, b, edge, space, multiply, pack, sizes)


@functools.lru_cache(4096)  # computed every time, it would take a third of a small product's time
def plan(
    m: int, n: int, k: int, turn_a: bool, turn_b: bool, use: int, dtype: np.dtype[Any], slots: int
) -> tuple[np.ndarray, int]:
    """The integers that `product` takes as `sizes`, and how many numbers its workspace needs.

    `use` is one of NOTHING, ADD, COLLECT. It is here because numba compiles a function anew for each constant.
    """
    shapes = tile.shapes(dtype)
    rows, vectors, vector = next((s for s in shapes if s.vectors * s.lanes >= n), shapes[-1])
    width = vectors * vector
    block = min(BLOCK, PANEL // (width * dtype.itemsize))
    block = -(-k // max(1, -(-k // block)))  # of equal size
    panel = (block + vector) * width  # numbers; so many more because a turned square may stick out
    abreast = min(-(-STRIP // (width * dtype.itemsize)), max(1, -(-n // width)))
    tile_step = rows * k + vector if turn_a and n > PACK_FROM * width else 0
    tiling = tile_step, rows, vectors, vector, slots
    sizes = np.array([_constants(dtype).ctypes.data, use, turn_a, turn_b, block, panel, abreast, *tiling])
    return sizes, slots * abreast * panel - (-m // rows) * tile_step


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
    """The body of matmul, which other kernels may call: `sizes` is the plan's, edge a bias, sums, or anything."""
    turn_a, turn_b, block, panel, abreast = sizes[2], sizes[3], sizes[4], sizes[5], sizes[6]
    tile_step, tile_rows, vectors, vector, slots = sizes[7], sizes[8], sizes[9], sizes[10], sizes[11]
    (m, n), size, width = c.shape, c.itemsize, vectors * vector
    k, a_row, a_k = (a.shape[0], 1, m) if turn_a else (a.shape[1], a.shape[1], 1)
    b_lane, b_k = (k, 1) if turn_b else (1, n)
    buffers, a_at, strip = space.ctypes.data, a.ctypes.data, abreast * width
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
    for slot in prange(slots):
        buffer = buffers + size * slot * abreast * panel
        begin, end = slot * strips * tiles // slots, (slot + 1) * strips * tiles // slots
        for k0 in range(0, max(k, 1), max(block, 1)):
            count = min(block, k - k0)
            for s in range(begin // tiles, (end + tiles - 1) // tiles):
                first, last, left = max(0, begin - s * tiles), min(tiles, end - s * tiles), s * strip
                right = min(left + strip, n)
                b_block = b.ctypes.data + size * (left * b_lane + k0 * b_k)
                call(pack, buffer, panel, b_block, b_lane, b_k, right - left, count, width, vector)
                for j in range(left, right, width):
                    b_panel, lanes = buffer + size * ((j - left) // width * panel), min(width, right - j)
                    _run_down(
                        multiply, sizes, size, c.ctypes.data + size * j, m, n, a_at + size * k0 * a_k, tile_step,
                        a_row, a_k, b_panel, width, edge.ctypes.data + size * j, lanes, first, last, k0 == 0, count,
                    )  # fmt: skip


@helper
def _run_down(
    multiply, sizes, size, c, m, n, a, tile_step, a_row, a_k, b, b_row, edge, lanes, first, last, fresh, count
):  # fmt: skip
    """Run the tiles first .. last of a panel of c: each adds what a block of K gives, a `fresh` one to bias or 0.

    c, a, b, edge: addresses of the panel and of the block.
    """
    zeros, use, tile_rows, vectors = sizes[0] + size, sizes[1], sizes[8], sizes[9]
    start = edge if use == ADD else zeros
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

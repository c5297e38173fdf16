"""The product of two matrices on the register tile: blocked for the caches, packed, parallel.

    c = a b,    c = a b + bias    or    c += a b

The columns of c are cut into panels as wide as a tile. A task is one panel or, when there are few, some rows of one:

    for each block of K (BLOCK numbers: that much of a panel of b stays in the L1 cache)
        pack this block of the panel
        run tiles down the rows: each adds to c what the block gives

Each element is summed by one thread, in an order that depends on nothing but K. So the bits are the same however many
threads there are, though the tasks are not.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import prange

from scratchnet.kernels import tile
from scratchnet.kernels.jit import kernel, threads_for_product, workspace
from scratchnet.kernels.tile import call

BLOCK = 128
PACK_FROM = 3  # panels: so many must read a turned a before packing it has paid
ABREAST = 8  # tiles of a turned a that are packed side by side: a page of it is opened once for all of them


def matmul(
    c: np.ndarray, a: np.ndarray, b: np.ndarray, bias: np.ndarray | None = None, accumulate: bool = False
) -> None:
    """c = a b + bias, or c += a b.

    Args:
        c: (M, N) float32 or float64, contiguous. Written; with `accumulate` read, too.
        a: (M, K), b: (K, N), same dtype; fastest if contiguous, or the transpose of something contiguous. Read.
        bias: (N,), contiguous, added to every row; not together with `accumulate`. Read.

    NaN and infinity travel as through any sum of products: 0 times infinity is NaN.
    """
    (m, n), k = c.shape, a.shape[1]
    multiply, pack, shapes, zeros = _tile(c.dtype)
    for shape in shapes:
        rows, vectors, vector = shape
        if vectors * vector >= n:
            break
    a_turned, b_turned = not a.flags.c_contiguous, not b.flags.c_contiguous
    slots = threads_for_product(m * n * k)
    panel = (BLOCK + vector) * vectors * vector  # numbers; so many more because a turned square may stick out
    tile_step = rows * k + vector if a_turned and n > PACK_FROM * vectors * vector else 0
    _product.launch(
        slots > 1,
        c,
        np.ascontiguousarray(a.T if a_turned else a),
        np.ascontiguousarray(b.T if b_turned else b),
        zeros if bias is None else bias,
        (a_turned, b_turned, accumulate),
        workspace("matmul", slots * panel - (-m // rows) * tile_step, c.dtype),
        (slots, panel, tile_step),
        (multiply, pack),
        shape,
    )


@functools.cache
def _tile(dtype: np.dtype[Any]) -> tuple[Any, Any, list[tuple[int, ...]], np.ndarray]:
    """What a product of this dtype needs: two functions, the shapes of tiles, and a panel's width of zeros."""
    shapes = tile.shapes(dtype)
    return *tile.functions(dtype), [tuple(s) for s in shapes], np.zeros(shapes[-1].vectors * shapes[-1].lanes, dtype)


@kernel
def _product(c, a, b, bias, flags, space, sizes, functions, shape):
    a_turned, b_turned, accumulate = flags
    slots, panel_size, tile_step = sizes
    multiply, pack = functions
    tile_rows, vectors, vector = shape
    (m, n), size, width = c.shape, c.itemsize, vectors * vector
    k, a_row, a_k = (a.shape[0], 1, m) if a_turned else (a.shape[1], a.shape[1], 1)
    b_lane, b_k = (k, 1) if b_turned else (1, n)
    buffers, a_at = space.ctypes.data, a.ctypes.data
    tiles, panels = (m + tile_rows - 1) // tile_rows, (n + width - 1) // width
    if tile_step:  # a turned: a tile's k would be pages apart
        a_at, a_row, a_k = buffers + size * slots * panel_size, 1, tile_rows
        for first in prange((tiles + ABREAST - 1) // ABREAST):
            at = first * ABREAST * tile_rows
            source = a.ctypes.data + size * at
            lanes = min(ABREAST * tile_rows, m - at)
            call(pack, a_at + size * first * ABREAST * tile_step, tile_step, source, 1, m, lanes, k, tile_rows, vector)
    else:
        tile_step = tile_rows * a_row
    parts = max(1, min(tiles // 4, 2 * slots // max(1, panels))) if slots > 1 else 1  # of the rows, per panel
    for slot in prange(slots):
        buffer = buffers + size * slot * panel_size
        for task in range(slot * panels * parts // slots, (slot + 1) * panels * parts // slots):
            j, part = task // parts * width, task % parts
            first, last = part * tiles // parts, (part + 1) * tiles // parts
            lanes = min(width, n - j)
            start = bias.ctypes.data + (size * j if bias.size > j else 0)  # zeros of one panel serve all panels
            for k0 in range(0, max(k, 1), BLOCK):
                count = min(BLOCK, k - k0)
                b_block = b.ctypes.data + size * (j * b_lane + k0 * b_k)
                call(pack, buffer, 0, b_block, b_lane, b_k, lanes, count, width, vector)
                for t in range(first, last):
                    to = c.ctypes.data + size * (t * tile_rows * n + j)
                    d, d_row = (to, n) if k0 or accumulate else (start, 0)
                    rows, a_tile = min(tile_rows, m - t * tile_rows), a_at + size * (t * tile_step + k0 * a_k)
                    call(
                        multiply, rows, vectors, to, n, d, d_row, a_tile, a_row, 0, a_k, buffer, width, lanes, 1, count
                    )  # fmt: skip

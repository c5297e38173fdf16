"""The register tile: the one block of machine code under every product.

    C[p, l] = D[p, l] + sum_g sum_k A[p, g, k] B[g, k, l]                 p < rows, l < lanes

The sums live in registers while k runs: in the picture 6 rows of 4 vectors. `shapes` has the others: 12 rows of 2, and
smaller ones for narrow matrices and for processors with fewer registers. Here each k costs 4 loads of B and 6 of A for
24 multiply-adds, so a core spends nearly all its time multiplying:

                                   B[k]:  | vector | vector | vector | vector |      loaded once, used by all rows
                                          +--------+--------+--------+--------+
    A[0, k] in every lane of a vector     |  sum   |  sum   |  sum   |  sum   |  +=  A[0, k] * B[k]
    A[1, k]                               |  sum   |  sum   |  sum   |  sum   |  +=  A[1, k] * B[k]
      ...                                 |  the tile of C: its sums start at |
    A[5, k]                               |  D; lanes past `lanes` are neither|
                                          |  read nor written                 |
                                          +--------+--------+--------+--------+

Compilers do not keep such a block in registers when it is written as loops, so it is emitted in LLVM's own
instructions (vectors.py), through numba's @intrinsic. What lets one block serve dense layers and convolutions alike:

- A has three steps (row, group g, k): a matrix, its transpose, or the overlapping windows of an image.
- D is C itself (to accumulate), or a bias or a row of zeros with row step 0: three uses, no branch.
- g is an outer loop with its own step in A: the rows of a convolution's kernel, whose sums never leave the registers.
- B is a panel as wide as the tile, made by `pack` or part of a matrix: only C and D need a mask for the last lanes.

Addresses are integers, steps count elements. A kernel calls the tile as `call(multiply, arguments of _multiply)` and
packing as `call(pack, arguments of _pack)`, with the addresses that `functions(dtype)` gives. Both are compiled once
for each dtype; inlined, they would be compiled again in every kernel.
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

PACK_ROWS, PACK_AHEAD = 16, 48  # rows packed together, and how many rows ahead of them memory is asked for
BASES = 6  # rows of A whose addresses are held in registers; a tile has at most twice as many: p + BASES is below p


class Shape(NamedTuple):
    """The size of a tile: the most rows, its vectors, and the lanes of one vector."""

    rows: int
    vectors: int
    lanes: int


@functools.cache
def shapes(dtype: np.dtype[Any]) -> tuple[Shape, ...]:
    """The tiles of this processor: each twice as wide as the one before, and at most as tall. But for the first, their
    sums fill the registers that a row of B leaves.
    """
    unit = vector_unit()
    sizes = ((12, 1), (12, 2), (6, 4)) if unit.registers == 32 else ((12, 1), (6, 2))
    return tuple(Shape(*size, unit.bytes // dtype.itemsize) for size in sizes)


def shape_for(lanes: int, dtype: np.dtype[Any], most: int = 4) -> Shape:
    """The narrowest tile that is wide enough for rows of so many numbers, or else the widest, of `most` vectors."""
    fit = [shape for shape in shapes(dtype) if shape.vectors <= most]
    return next((s for s in fit if s.vectors * s.lanes >= lanes), fit[-1])


def whole_vectors(lanes: int, dtype: np.dtype[Any]) -> int:
    """The lanes that a tile computes for so many: all of those vectors."""
    lane_count = shapes(dtype)[0].lanes
    return -(-lanes // lane_count) * lane_count


@functools.cache
def one_and_zeros(dtype: np.dtype[Any]) -> np.ndarray:
    """A 1, which may be a matrix of ones (with steps 0), and behind it a row of zeros as wide as a panel."""
    constants = np.zeros(1 + max(s.vectors * s.lanes for s in shapes(dtype)), dtype)
    constants[0] = 1
    return constants


def describe_tile() -> str:
    """The wider float32 tiles in words, for `scratchnet doctor`."""
    unit, sizes = vector_unit(), shapes(np.dtype(np.float32))
    fused = "" if unit.fused else ", multiply and add apart"
    wide = " or ".join(f"{shape.rows} x {shape.vectors}" for shape in sizes if shape.vectors > 1)
    return f"{unit.name}, {sizes[0].lanes} float32 lanes, {wide} vectors{fused}"


# --- the tile ----------------------------------------------------------------------------------------------------


def _column(v: Vectors, base: ir.Value, row_step: ir.Value, rows: int, j: int) -> list[ir.Value]:
    """Where the rows of the j-th vector of a tile lie."""
    steps = [v.builder.mul(row_step, I64(p)) for p in range(rows)]
    return [v.at(base, v.builder.add(step, I64(j * v.lanes))) for step in steps]


def _emit_tile(v: Vectors, rows: int, vectors: int, args: list[ir.Value]) -> None:
    """One tile of this many rows and vectors: the picture at the top of the file.

    While k runs, A[p, g, k] stands at bases[p] + at (`opaque` says why), and `at` is all that moves; from row BASES on
    at bases[p - BASES] + at + below. The sum of row p and vector j is sums[p * vectors + j].
    """
    c, c_row, d, d_row, a, a_row, a_group, a_k, b, b_row, lanes, groups, k = args

    def one_group(a: ir.Value, b: ir.Value, *sums: ir.Value) -> list[ir.Value]:
        bases = [v.opaque(v.at(a, v.builder.mul(a_row, I64(p)))) for p in range(min(rows, BASES))]

        def one_k(at: ir.Value, b: ir.Value, *sums: ir.Value) -> list[ir.Value]:
            row = [v.load(v.at(b, I64(j * v.lanes))) for j in range(vectors)]
            offsets = [at] if rows <= BASES else [at, v.opaque(v.builder.add(at, below))]
            new = []
            for p in range(rows):
                factor = v.load_spread(v.builder.add(bases[p % BASES], offsets[p // BASES]))
                new += [v.multiply_add(factor, row[j], sums[p * vectors + j]) for j in range(vectors)]
            return [v.opaque(v.builder.add(at, next_k)), v.at(b, b_row), *new]

        _, b, *new = loop(v.builder, k, [I64(0), b, *sums], one_k)
        return [v.at(a, a_group), b, *new]

    def read(j: int) -> list[ir.Value]:
        cells = _column(v, d, d_row, rows, j)
        return v.whole_or_part(left[j], lambda mask: [v.load_masked(cell, mask) for cell in cells])

    def write(j: int, sums: list[ir.Value]) -> None:
        def emit(mask: ir.Value) -> None:
            for value, cell in zip(sums, cells):
                v.store_masked(value, cell, mask)

        cells = _column(v, c, c_row, rows, j)
        v.whole_or_part(left[j], emit)

    next_k, below = v.builder.mul(a_k, I64(v.size)), v.builder.mul(a_row, I64(BASES * v.size))  # bytes
    left = [v.builder.sub(lanes, I64(j * v.lanes)) for j in range(vectors)]
    columns = [read(j) for j in range(vectors)]
    start = [columns[j][p] for p in range(rows) for j in range(vectors)]
    for j in range(vectors):  # written hundreds of cycles from now: ask for the lines already
        for cell in _column(v, c, c_row, rows, j):
            v.prefetch(cell, write=True)
    _, _, *sums = loop(v.builder, groups, [a, b, *start], one_group)
    for j in range(vectors):
        write(j, sums[j::vectors])


@intrinsic
def _tile(typing_context: Any, like: Any, rows: Any, vectors: Any, *args: Any) -> Any:
    """Jump to the tile of this shape; its elements are what the pointer `like` points to."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, values: list[ir.Value]) -> Any:
        v = Vectors(builder, context.get_value_type(like.dtype))
        end = builder.append_basic_block("end")
        choice = builder.switch(builder.add(builder.mul(values[1], I64(16)), values[2]), end)
        for shape in shapes(np.dtype(str(like.dtype))):
            for rows in range(1, shape.rows + 1):
                block = builder.append_basic_block(f"tile_{rows}x{shape.vectors}")
                choice.add_case(I64(16 * rows + shape.vectors), block)
                builder.position_at_end(block)
                _emit_tile(v, rows, shape.vectors, unpack_tuple(builder, values[3]))
                builder.branch(end)
        builder.position_at_end(end)
        return context.get_dummy_value()

    return types.void(like, rows, vectors, types.StarArgUniTuple(types.int64, len(args))), codegen


def _multiply(
    like, rows, vectors, c, c_row, d, d_row, a, a_row, a_group, a_k, b, b_row, lanes, groups, k
):  # fmt: skip
    """Compute one tile; the equation stands at the top of the file.

    Args:
        like: null; its type says what the elements are. Kernels do not pass it.
        rows, vectors: of this tile: those of a Shape, or fewer rows; with 0 nothing is done.
        c: (rows, lanes) with row step c_row. Written.
        d: the same with d_row; may be c. Read.
        a: A[p, g, k] stands at p a_row + g a_group + k a_k. Read.
        b: (groups times k, vectors times their lanes) with row step b_row. Read.
        lanes: so many are read in D and written in C; what B holds in the others does not matter.
        groups, k: may be 0; C is then D.
    """
    _tile(
        like, rows, vectors, c, c_row, d, d_row, a, a_row, a_group, a_k, b, b_row, lanes, groups, k
    )  # fmt: skip


@helper
def multiply_rows(multiply, plan, rows, c, c_row, d, d_row, a, a_row, a_group, a_k, b, b_row, lanes, groups, k):
    """The same for any number of rows: in as few tiles as can be, of about the same height.

    `plan` says of a tile tile_rows, vectors and itemsize.
    """
    tiles = (rows + plan.tile_rows - 1) // plan.tile_rows
    for t in range(tiles):
        p, end = t * rows // tiles, (t + 1) * rows // tiles
        call(
            multiply, end - p, plan.vectors,
            c + plan.itemsize * p * c_row, c_row, d + plan.itemsize * p * d_row, d_row,
            a + plan.itemsize * p * a_row, a_row, a_group, a_k, b, b_row, lanes, groups, k,
        )  # fmt: skip


# --- packing -----------------------------------------------------------------------------------------------------


@intrinsic
def move(typing_context: Any, like: Any, to: Any, to_at: Any, to_row: Any, source: Any, *more: Any) -> Any:
    """A column of vectors: to[to_at + i to_row + l] = source[source_at + i row + l] for i < rows and l < lanes, then 0.

    A matrix is moved from right to left: each column then writes over the zeros that the one to its right put into the
    next row.
    """

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, values: list[ir.Value]) -> Any:
        v = Vectors(builder, context.get_value_type(like.dtype))
        _, to, to_at, to_row, source, more_ = values
        source_at, row, rows, lanes = unpack_tuple(builder, more_)

        def emit(mask: ir.Value) -> None:
            def one_row(to: ir.Value, source: ir.Value) -> list[ir.Value]:
                v.store(v.load_masked(source, mask), to)
                return [v.at(to, to_row), v.at(source, row)]

            loop(builder, rows, [v.at(to, to_at), v.at(source, source_at)], one_row)

        v.whole_or_part(lanes, emit)
        return context.get_dummy_value()

    return types.void(like, to, to_at, to_row, source, types.StarArgUniTuple(types.int64, len(more))), codegen


@intrinsic
def _turn(typing_context: Any, like: Any, to: Any, to_at: Any, to_row: Any, source: Any, *more: Any) -> Any:
    """A square transposed: to[to_at + j to_row + i] = source[source_at + i row + j] for i < rows, j < columns.

    The square has as many rows as a vector has lanes; what is outside of rows and columns is written too, as junk.
    Round by round, s = 1, 2, 4, ...: rows i and i + s swap the blocks of s x s that lie across the diagonal.
    """

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, values: list[ir.Value]) -> Any:
        v = Vectors(builder, context.get_value_type(like.dtype))
        _, to, to_at, to_row, source, more_ = values
        source_at, row, rows, columns = unpack_tuple(builder, more_)
        to, source = v.at(to, to_at), v.at(source, source_at)
        last, mask, lanes = builder.sub(rows, I64(1)), v.mask(columns), range(v.lanes)

        def source_row(i: int) -> ir.Value:  # past the last row: the last row again
            return builder.mul(row, builder.select(builder.icmp_signed("<", I64(i), last), I64(i), last))

        square = [v.load_masked(v.at(source, source_row(i)), mask) for i in lanes]
        for s in (s for s in (1, 2, 4, 8) if s < v.lanes):
            upper = ir.Constant(v.indices, [v.lanes + (j ^ s) if j & s else j for j in lanes])
            lower = ir.Constant(v.indices, [v.lanes + j if j & s else j | s for j in lanes])
            square = [builder.shuffle_vector(square[i & ~s], square[i | s], lower if i & s else upper) for i in lanes]
        for j in lanes:
            v.store(square[j], v.at(to, builder.mul(to_row, I64(j))))
        return context.get_dummy_value()

    return types.void(like, to, to_at, to_row, source, types.StarArgUniTuple(types.int64, len(more))), codegen


@intrinsic
def _ask(typing_context: Any, like: Any, source: Any, at: Any) -> Any:
    """Ask for the line of memory in which source[at] lies, to be read soon."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, values: list[ir.Value]) -> Any:
        v = Vectors(builder, context.get_value_type(like.dtype))
        v.prefetch(v.at(*values[1:]), cache=2)
        return context.get_dummy_value()

    return types.void(like, source, at), codegen


def _pack(like, to, panel_step, source, lane_step, k_step, lanes, k, width, vector):
    """Copy a matrix, as it is or transposed, into panels of `width` lanes, where each k is one run of numbers.

        to[q panel_step + i width + j] = source[l lane_step + i k_step]      panel q, l = q width + j < lanes, i < k

    Args:
        like: null, as above.
        to: Written; and behind each panel up to `vector` numbers, with zeros (which conv.pad_image counts on), or if
            k_step is 1 up to `vector` rows, with junk.
        source: Read. One of lane_step and k_step is 1.
        width: a multiple of `vector` unless lane_step is 1.
        vector: Shape.lanes.
    """
    if lane_step == 1:  # lanes lie side by side: move vectors, a few k of all panels at a time: each may lie in a page
        for i in range(0, k, PACK_ROWS):
            at, rows = i * width, min(PACK_ROWS, k - i)
            ahead = i + PACK_AHEAD
            for row in range(ahead, min(ahead + PACK_ROWS, k)):  # by itself a processor looks ahead only in a page
                for j in range(0, lanes, vector):
                    _ask(like, source, row * k_step + j)
            for first in range(0, lanes, width):
                end = min(width, lanes - first)
                for j in range((end - 1) // vector * vector, -1, -vector):
                    move(like, to, at + j, width, source, i * k_step + first + j, k_step, rows, end - j)
                at += panel_step
    else:  # k lies side by side: turn squares
        for j in range(0, lanes, vector):
            at = j // width * panel_step + j % width
            for i in range(0, k, vector):
                _turn(like, to, at + i * width, width, source, j * lane_step + i, lane_step, lanes - j, k - i)


# --- the same in plain Python, for NUMBA_DISABLE_JIT=1 -----------------------------------------------------------


def _tile_plain(
    size, rows, vectors, c, c_row, d, d_row, a, a_row, a_group, a_k, b, b_row, lanes, groups, k
):  # fmt: skip
    sums = view(d, size, (rows, lanes), (d_row, 1)).copy()
    with np.errstate(all="ignore"):
        for g in range(groups):
            left = view(a + size * g * a_group, size, (rows, k), (a_row, a_k))
            sums += left @ view(b + size * g * k * b_row, size, (k, lanes), (b_row, 1))
    view(c, size, (rows, lanes), (c_row, 1))[...] = sums


def _move_plain(size, to, to_at, to_row, source, source_at, row, rows, lanes):
    into = view(to + size * to_at, size, (rows, vector_unit().bytes // size), (to_row, 1))
    lanes = min(lanes, into.shape[1])
    for i in range(rows):
        into[i] = 0
        into[i, :lanes] = view(source + size * (source_at + i * row), size, (1, lanes), (row, 1))


def _turn_plain(size, to, to_at, to_row, source, source_at, row, rows, columns):
    lanes = vector_unit().bytes // size
    shape = (min(rows, lanes), min(columns, lanes))
    square = view(source + size * source_at, size, shape, (row, 1))
    view(to + size * to_at, size, shape, (1, to_row))[...] = square


def _ask_plain(size, source, at):
    """Nothing: it is only about time."""


# --- how kernels reach them --------------------------------------------------------------------------------------


class Functions(NamedTuple):
    """What `call` takes."""

    multiply: Any
    pack: Any


@functools.cache
def functions(dtype: np.dtype[Any]) -> Functions:
    """Compile, or load from the cache, the tile of this dtype and what packs for it."""
    return Functions(machine_code(_multiply, dtype), machine_code(_pack, dtype))


if numba.config.DISABLE_JIT:
    _tile, move, _turn, _ask = _tile_plain, _move_plain, _turn_plain, _ask_plain

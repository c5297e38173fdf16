"""The transforms under winograd.py: M X M^T on small tiles, a vector of channels at once.

Take S points: S - 1 numbers and infinity. A polynomial of degree below S is known by its values there (at infinity: its
leading coefficient), and the product of two has the products of their values. So the product of two polynomials with R
coefficients w and m coefficients d, which has S = m + R - 1 of them, takes S multiplications:

    sum_j w[j] d[k - j] = (B ((G w) * (A d)))[k]

    A  (S, m)   1, p, p^2, ... for each point p                            values of d at the points
    G  (S, R)   the same, over prod (p - q) of all other points q          values of w, over Lagrange's denominators
    B  (S, S)   the coefficients of prod (t - q) over all other points q   from values back to coefficients

For a fixed w this is a matrix times d, B diag(G w) A, with w[k - j] in row k and column j. Its transpose times x is the
correlation that a convolution consists of (Cook and Toom; for nets: Lavin and Gray 2015, "Fast Algorithms for
Convolutional Neural Networks", arXiv:1509.09308), and all three passes are made of these matrices:

    forward          sum_j x[i + j] w[j]    y  = A^T ((G w) * (B^T x))
    input gradient   sum_j w[j] dy[k - j]   dx = B ((G w) * (A dy))
    weight gradient  sum_i x[i + j] dy[i]   dw = G^T ((A dy) * (B^T x))

In two dimensions the matrices stand on both sides: M X M^T.

Points that are small, and come as p and -p, keep the rounding error small; and what belongs to p and -p is the sum and
the difference of the same two halves, so that a transform costs half its multiplications (`_butterflies`).

    name           M    from                     to
    image          B^T  (S, S) cells of x        S S points
    filter         G    (R, R) taps              S S points
    gradient       A    (m, m) cells of dy       S S points
    output         A^T  S S points               (m, m) cells of y
    filter_back    G^T  S S points               (R, R) taps
    image_back     B    S S points               (S, S) cells of dx

Cells outside a window of the tile count as 0 where they are read, and are not written: that is how padding, and the
edge of an image, are done. Addresses are integers and steps count elements, as in tile.py.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core.cgutils import unpack_tuple
from numba.extending import intrinsic

from scratchnet.kernels.jit import helper
from scratchnet.kernels.memory import machine_code, view
from scratchnet.kernels.tile import move
from scratchnet.kernels.vectors import I64, Vectors, vector_unit

Matrix = list[list[Fraction]]

OUTPUTS = 4  # m: a tile makes 4 x 4 cells of y
HALF = Fraction(1, 2)
POINTS = {3: (0, 1, -1, 2, -2), 5: (0, 1, -1, 2, -2, HALF, -HALF)}  # by R; infinity comes last
NAMES = ("image", "filter", "gradient", "output", "filter_back", "image_back")
ZEROS = 64  # numbers: as many as the widest panel of tile.py has lanes


def side(taps: int) -> int:
    """S, for filters of `taps` x `taps`."""
    return OUTPUTS + taps - 1


def spare(taps: int, vector: int) -> int:
    """The numbers of memory that a transform wants: ZEROS zeros, then one vector more than a tile has cells."""
    return ZEROS + (side(taps) ** 2 + 1) * vector


# --- the matrices ------------------------------------------------------------------------------------------------


def matrices(taps: int) -> tuple[Matrix, Matrix, Matrix]:
    """B^T (S, S), G (S, R) and A^T (m, S) as exact fractions; the equations stand at the top of the file."""
    points = [Fraction(p) for p in POINTS[taps]]
    others = [[q for q in points if q != p] for p in points]
    bt = [[*_coefficients(o), Fraction(0)] for o in others] + [_coefficients(points)]
    g = [[p**j / math.prod(p - q for q in o) for j in range(taps)] for p, o in zip(points, others)]
    at = [[p**i for p in points] + [Fraction(i == OUTPUTS - 1)] for i in range(OUTPUTS)]
    return bt, [*g, [Fraction(j == taps - 1) for j in range(taps)]], at


def _coefficients(roots: list[Fraction]) -> list[Fraction]:
    """Of prod (t - q), from t^0 up."""
    found = [Fraction(1)]
    for q in roots:
        found = [up - q * here for up, here in zip([Fraction(0), *found], [*found, Fraction(0)])]
    return found


def matrix(name: str, taps: int) -> Matrix:
    """M of a transform."""
    bt, g, at = matrices(taps)
    if name in ("image", "filter", "output"):
        return {"image": bt, "filter": g, "output": at}[name]
    return _transposed({"image_back": bt, "filter_back": g, "gradient": at}[name])


def _transposed(rows: Matrix) -> Matrix:
    return [list(column) for column in zip(*rows)]


# --- machine code ------------------------------------------------------------------------------------------------


def _butterflies(rows: Matrix) -> tuple[Matrix, list[tuple[int, int]]]:
    """Find rows that differ in signs alone; put in their place what they share, and what has opposite signs.

    Of the new rows i and j, the old ones are i + j and i - j.
    """
    rows, pairs = [list(row) for row in rows], []
    for j in range(1, len(rows)):
        i = j - 1
        if [abs(x) for x in rows[i]] == [abs(x) for x in rows[j]]:
            first, second = rows[i], rows[j]
            rows[i] = [x if x == y else Fraction(0) for x, y in zip(first, second)]
            rows[j] = [x if x != y else Fraction(0) for x, y in zip(first, second)]
            pairs.append((i, j))
    return rows, pairs


def _times(v: Vectors, rows: Matrix, values: list[ir.Value]) -> list[ir.Value]:
    """Matrix times vector, of which every element is a vector of channels."""

    def swap(values: list[ir.Value], pairs: list[tuple[int, int]]) -> list[ir.Value]:
        values = list(values)
        for i, j in pairs:
            values[i], values[j] = v.builder.fadd(values[i], values[j]), v.builder.fsub(values[i], values[j])
        return values

    def total(row: list[Fraction]) -> ir.Value:
        terms = sorted(((x, value) for x, value in zip(row, values) if x), key=lambda term: abs(term[0]) != 1)
        found = None
        for x, value in terms:
            factor = ir.Constant(v.type, [ir.Constant(v.element, float(x))] * v.lanes)
            if found is None:
                found = value if x == 1 else v.builder.fmul(factor, value)
            elif abs(x) == 1:
                found = (v.builder.fadd if x == 1 else v.builder.fsub)(found, value)
            else:
                found = v.multiply_add(factor, value, found)
        return found

    columns, pairs = _butterflies(_transposed(rows))
    if pairs:
        rows, values = _transposed(columns), swap(values, pairs)
        return [total(row) for row in rows]
    rows, pairs = _butterflies(rows)
    return swap([total(row) for row in rows], pairs)


@intrinsic(prefer_literal=True)
def _transform(typing_context: Any, like: Any, name: Any, taps: Any, *args: Any) -> Any:
    """One vector of channels: to = start + M source M^T (from points), or to = M source M^T (to points).

    `name` is an index of NAMES; it and `taps` are constants. The rest: to, row, column; start, row, column; source,
    row, column; the window of the array's cells: top, bottom, left, right; the address of the spare memory.
    """
    kind, m = NAMES[name.literal_value], matrix(NAMES[name.literal_value], taps.literal_value)
    back = kind in NAMES[3:]

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, values: list[ir.Value]) -> Any:
        v = Vectors(builder, context.get_value_type(like.dtype))
        integers = unpack_tuple(builder, values[3])
        to, start, source = integers[:3], integers[3:6], integers[6:9]
        top, bottom, left, right, zeros = integers[9:]
        junk = v.at(zeros, I64(ZEROS))

        def inside(count: int, low: ir.Value, high: ir.Value) -> list[ir.Value]:
            compare = builder.icmp_signed
            return [builder.and_(compare("<=", low, I64(i)), compare("<", I64(i), high)) for i in range(count)]

        cells = len(m) if back else len(m[0])
        rows, columns = inside(cells, top, bottom), inside(cells, left, right)

        def cell(place: list[ir.Value], r: int, c: int, outside: ir.Value | None = None) -> ir.Value:
            base, row, column = place
            offset = builder.add(builder.mul(row, I64(r)), builder.mul(column, I64(c)))
            address = v.at(base, offset)
            return address if outside is None else builder.select(builder.and_(rows[r], columns[c]), address, outside)

        half = []  # M source, column by column
        for c in range(len(m[0])):
            outside = None if back else zeros
            half.append(_times(v, m, [v.load(cell(source, r, c, outside)) for r in range(len(m[0]))]))
        for r in range(len(m)):
            for c, value in enumerate(_times(v, m, [column[r] for column in half])):
                if back:
                    value = builder.fadd(v.load(cell(start, r, c, zeros)), value)
                v.store(value, cell(to, r, c, junk if back else None))
        return context.get_dummy_value()

    return types.void(like, name, taps, types.StarArgUniTuple(types.int64, len(args))), codegen


@intrinsic
def _put(typing_context: Any, like: Any, to: Any, to_at: Any, source: Any, source_at: Any, lanes: Any) -> Any:
    """A part of a vector: to[to_at + l] = source[source_at + l] for l < lanes."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, values: list[ir.Value]) -> Any:
        v = Vectors(builder, context.get_value_type(like.dtype))
        _, to, to_at, source, source_at, lanes = values
        v.store_masked(v.load(v.at(source, source_at)), v.at(to, to_at), v.mask(lanes))
        return context.get_dummy_value()

    return types.void(like, to, to_at, source, source_at, lanes), codegen


@helper
def _copy(like, copy, array, row, column, lanes, cells, vector, top, bottom, left, right):
    """The cells of a tile that are in the window, less than a vector of channels each, to vectors of their own."""
    j = max(0, left)
    for i in range(max(0, top), min(cells, bottom)):
        at = (i * cells + j) * vector
        move(like, copy, at, vector, array, i * row + j * column, column, min(cells, right) - j, lanes)


def _make_to_points(name: int, taps: int, cells: int, vector: int, number: int) -> Callable[..., None]:
    """Make `image`, `filter` or `gradient`; the constants are those of `function`."""

    def to_points(like, points, step, array, row, column, channels, top, bottom, left, right, spare):
        """Transform one tile: points[i step + c] for point i and c < channels, whole vectors of them.

        The array's cells stand at (row, column) steps from its address; those in the window [top, bottom) x [left,
        right) of the tile are read. What is left of the channels behind the last whole vector goes through a copy.
        """
        side, copy = cells if name == 0 else taps + OUTPUTS - 1, spare + number * (ZEROS + vector)
        for c in range(0, channels, vector):
            source, source_row, source_column = array + number * c, row, column
            if channels - c < vector:
                source, source_row, source_column = copy, cells * vector, vector
                _copy(
                    like, copy, array + number * c, row, column, channels - c, cells, vector, top, bottom, left, right
                )
            _transform(
                like, name, taps, points + number * c, side * step, step, 0, 0, 0,
                source, source_row, source_column, top, bottom, left, right, spare,
            )  # fmt: skip

    return to_points


def _make_from_points(name: int, taps: int, cells: int, vector: int, number: int) -> Callable[..., None]:
    """Make `output`, `filter_back` or `image_back`."""

    def from_points(
        like, array, row, column, start, start_row, start_column, points, step, channels,
        top, bottom, left, right, spare,
    ):  # fmt: skip
        """Transform one tile back: array = start + M points M^T in the window, as above.

        `start` is the array itself (to add to it), or, with steps 0, a bias, or 0 for zeros.
        """
        side, copy = taps + OUTPUTS - 1, spare + number * (ZEROS + vector)
        for c in range(0, channels, vector):
            to, to_row, to_column = array + number * c, row, column
            first, first_row, first_column = start + number * c if start else spare, start_row, start_column
            partly = channels - c < vector
            if partly:
                _copy(like, copy, first, start_row, start_column, channels - c, cells, vector, top, bottom, left, right)
                to, to_row, to_column = copy, cells * vector, vector
                first, first_row, first_column = copy, cells * vector, vector
            _transform(
                like, name, taps, to, to_row, to_column, first, first_row, first_column,
                points + number * c, side * step, step, top, bottom, left, right, spare,
            )  # fmt: skip
            if partly:
                for i in range(max(0, top), min(cells, bottom)):
                    for j in range(max(0, left), min(cells, right)):
                        at = (i * cells + j) * vector
                        _put(like, array, i * row + j * column + c, copy, at, channels - c)

    return from_points


@functools.cache
def function(name: str, taps: int, dtype: np.dtype[Any]) -> Any:
    """What `call` takes for the transform of this name: compiled, or loaded from the cache, when first wanted."""
    index, m = NAMES.index(name), matrix(name, taps)
    back = name in NAMES[3:]
    make = _make_from_points if back else _make_to_points
    cells, number = len(m) if back else len(m[0]), dtype.itemsize
    return machine_code(make(index, taps, cells, vector_unit().bytes // number, number), dtype)


# --- the same in plain Python, for NUMBA_DISABLE_JIT=1 -----------------------------------------------------------


def _transform_plain(
    number, name, taps, to, to_row, to_column, start, start_row, start_column, source, source_row, source_column,
    top, bottom, left, right, spare,
):  # fmt: skip
    m = np.array([[float(x) for x in row] for row in matrix(NAMES[name], taps)])
    vector, back = vector_unit().bytes // number, name >= 3
    tile = np.zeros((len(m[0]), len(m[0]), vector), f"f{number}")

    def each(cells: int) -> Any:
        rows, columns = range(max(0, top), min(cells, bottom)), range(max(0, left), min(cells, right))
        return ((i, j) for i in rows for j in columns)

    def cell(address: int, i: int, j: int, row: int, column: int) -> np.ndarray:
        return view(address + number * (i * row + j * column), number, (1, vector), (0, 1))[0]

    for i, j in np.ndindex(tile.shape[:2]) if back else each(len(tile)):
        tile[i, j] = cell(source, i, j, source_row, source_column)
    with np.errstate(all="ignore"):
        found = np.einsum("ij,jkv,lk->ilv", m, tile, m)
        for i, j in each(len(m)) if back else np.ndindex(found.shape[:2]):
            first = cell(start, i, j, start_row, start_column) if back else 0
            cell(to, i, j, to_row, to_column)[...] = first + found[i, j]


def _put_plain(number, to, to_at, source, source_at, lanes):
    from_, into = source + number * source_at, to + number * to_at
    view(into, number, (1, lanes), (0, 1))[...] = view(from_, number, (1, lanes), (0, 1))


if numba.config.DISABLE_JIT:
    _transform, _put = _transform_plain, _put_plain

"""The dense layer on a CSR batch; equations in reference/sparse.py.

Forward: a thread owns rows of y. Backward adds to dweight element by element as they come, on one thread; for a layer
of many units the elements are first sorted by column, and a thread then owns rows of dweight.

Indices come as unsigned integers (`_unsigned`): before a signed one numba puts a test for negative numbers, which count
from the end of an array, and that takes longer than the arithmetic.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from scratchnet.kernels.jit import exact, precise, workspace, worth_threads

FEW_UNITS = 8  # from two to fewer than these, two units at a time in registers beat a loop over the units
MANY_UNITS = 128  # measured: sorting pays from about here
UNSIGNED = {4: np.uint32, 8: np.uint64}


def csr_dense_forward(
    y: np.ndarray, indptr: np.ndarray, indices: np.ndarray, data: np.ndarray, weight: np.ndarray, bias: np.ndarray
) -> None:
    """y = x W + b; see reference.csr_dense_forward."""
    units = y.shape[1]
    forward = _one_unit if units == 1 else _few_units if units < FEW_UNITS else _many_units
    parallel = worth_threads(data.size * units // 2)  # such an element takes half as long as one of an array
    forward.launch(parallel, y, _unsigned(indptr), _unsigned(indices), data, weight, bias)


def csr_dense_backward_weight(
    dweight: np.ndarray,
    dbias: np.ndarray,
    indptr: np.ndarray,
    indices: np.ndarray,
    data: np.ndarray,
    dy: np.ndarray,
) -> None:
    """dW = x^T dy, db = sum_n dy; see reference.csr_dense_backward_weight."""
    indptr, indices, units = _unsigned(indptr), _unsigned(indices), dy.shape[1]
    if units == 1:
        _add_one_unit.launch(False, dweight, dbias, indptr, indices, data, dy)
    elif units < FEW_UNITS:
        _add_few_units.launch(False, dweight, dbias, indptr, indices, data, dy)
    elif units < MANY_UNITS:
        _add_by_row.launch(False, dweight, dbias, indptr, indices, data, dy)
    else:
        features, count, integer = len(dweight), indices.size, np.dtype(np.uint64)
        places = workspace("csr columns", 2 * features + 1, integer)
        row, value = workspace("csr rows", count, integer)[:count], workspace("csr values", count, data.dtype)[:count]
        start, place = places[: features + 1], places[features + 1 : 2 * features + 1]
        _add_by_column(dweight, dbias, start, place, row, value, indptr, indices, data, dy)


def _unsigned(indices: np.ndarray) -> np.ndarray:
    """The same numbers, none of which is negative, as unsigned integers."""
    return indices.view(UNSIGNED[indices.itemsize])


@precise
def _add_rows(dbias, dy):
    """dbias = sum_n dy."""
    dbias[:] = 0
    for n in range(dy.shape[0]):
        for u in range(dy.shape[1]):
            dbias[u] += dy[n, u]


@exact
def _one_unit(y, indptr, indices, data, weight, bias):
    """Take four elements at a time, into as many sums."""
    w, one = weight.reshape(-1), indptr.dtype.type(1)
    two, four = one + one, one + one + one + one
    for n in prange(y.shape[0]):
        start, end = indptr[n], indptr[n + 1]
        whole = end - (end - start) % four
        a = b = c = d = weight.dtype.type(0)
        for j in range(start, whole, 4):
            a += data[j] * w[indices[j]]
            b += data[j + one] * w[indices[j + one]]
            c += data[j + two] * w[indices[j + two]]
            d += data[j + two + one] * w[indices[j + two + one]]
        for j in range(whole, end):
            a += data[j] * w[indices[j]]
        y[n, 0] = (a + b) + (c + d) + bias[0]


@exact
def _few_units(y, indptr, indices, data, weight, bias):
    """Take two elements and two units at a time: four sums, of which none waits for another."""
    units, one = y.shape[1], indptr.dtype.type(1)
    for n in prange(y.shape[0]):
        start, end = indptr[n], indptr[n + 1]
        even = end - (end - start) % (one + one)
        for left in range(0, units, 2):
            right = min(left + 1, units - 1)  # of an odd number the last one is its own partner
            a = b = c = d = weight.dtype.type(0)
            for j in range(start, even, 2):
                v, w = data[j], weight[indices[j]]
                a += v * w[left]
                b += v * w[right]
                v, w = data[j + one], weight[indices[j + one]]
                c += v * w[left]
                d += v * w[right]
            for j in range(even, end):
                v, w = data[j], weight[indices[j]]
                a += v * w[left]
                b += v * w[right]
            y[n, left] = a + c + bias[left]
            y[n, right] = b + d + bias[right]


@exact
def _many_units(y, indptr, indices, data, weight, bias):
    """Take two elements at a time: y is then loaded and stored half as often."""
    one = indptr.dtype.type(1)
    for n in prange(y.shape[0]):
        row, start, end = y[n], indptr[n], indptr[n + 1]
        for u in range(row.size):
            row[u] = bias[u]
        even = end - (end - start) % (one + one)
        for j in range(start, even, 2):
            v, w, v_next, w_next = data[j], weight[indices[j]], data[j + one], weight[indices[j + one]]
            for u in range(row.size):
                row[u] += v * w[u] + v_next * w_next[u]
        for j in range(even, end):
            v, w = data[j], weight[indices[j]]
            for u in range(row.size):
                row[u] += v * w[u]


@exact
def _add_one_unit(dweight, dbias, indptr, indices, data, dy):
    """dweight = x^T dy of one unit."""
    w = dweight.reshape(-1)
    w[:] = 0
    _add_rows(dbias, dy)
    for n in range(dy.shape[0]):
        g = dy[n, 0]
        for j in range(indptr[n], indptr[n + 1]):
            w[indices[j]] += data[j] * g


@exact
def _add_few_units(dweight, dbias, indptr, indices, data, dy):
    """dweight = x^T dy, two units at a time."""
    dweight[:] = 0
    _add_rows(dbias, dy)
    units = dy.shape[1]
    for n in range(dy.shape[0]):
        for left in range(0, units - 1, 2):
            g, h = dy[n, left], dy[n, left + 1]
            for j in range(indptr[n], indptr[n + 1]):
                v, w = data[j], dweight[indices[j]]
                a, b = w[left] + v * g, w[left + 1] + v * h
                w[left], w[left + 1] = a, b
        if units % 2:
            last, g = units - 1, dy[n, units - 1]
            for j in range(indptr[n], indptr[n + 1]):
                dweight[indices[j], last] += data[j] * g


@exact
def _add_by_row(dweight, dbias, indptr, indices, data, dy):
    """dweight = x^T dy, all units of an element at once."""
    dweight[:] = 0
    _add_rows(dbias, dy)
    for n in range(dy.shape[0]):
        g = dy[n]
        for j in range(indptr[n], indptr[n + 1]):
            v, w = data[j], dweight[indices[j]]
            for u in range(g.size):
                w[u] += v * g[u]


@exact
def _add_by_column(dweight, dbias, start, place, row, value, indptr, indices, data, dy):
    """dweight = x^T dy, after a counting sort of the elements by column that keeps the order of rows in a column.

    Column d has elements start[d] to start[d + 1] of (row, value); the next one goes to place[d].
    """
    one = start.dtype.type(1)
    _add_rows(dbias, dy)
    start[:] = 0
    for j in range(indices.size):
        start[indices[j] + one] += one
    for d in range(dweight.shape[0]):
        start[d + 1] += start[d]
        place[d] = start[d]
    for n in range(dy.shape[0]):
        for j in range(indptr[n], indptr[n + 1]):
            i = place[indices[j]]
            row[i], value[i] = n, data[j]
            place[indices[j]] = i + one
    for d in prange(dweight.shape[0]):
        w = dweight[d]
        w[:] = 0
        for i in range(start[d], start[d + 1]):
            v, g = value[i], dy[row[i]]
            for u in range(g.size):
                w[u] += v * g[u]

"""exp and its kin: within 4 ulp over the whole range, at its ends and beside NaN, whatever flags a kernel has."""

from __future__ import annotations

import re

import numba
import numpy as np
import pytest
from numba import prange

from scratchnet.kernels import exponential
from scratchnet.kernels.jit import elementwise, kernel

ENDS = {"float32": (-110, 95), "float64": (-760, 715)}  # 0 and infinity lie inside
DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])


def over(function):
    """The function as a kernel over an array."""

    @elementwise
    def all_of(y, x):
        for i in prange(x.size):
            y[i] = function(x[i])

    return all_of


KERNELS = {name: over(getattr(exponential, name)) for name in ("exp", "expm1", "log1p", "tanh")}


def apply(name, x):
    y = np.empty_like(x)
    with np.errstate(all="ignore"):
        KERNELS[name](y, x)
    return y


def arguments(name, dtype, count):
    """The whole range densely, and small numbers of every size, down to subnormal ones."""
    low, high = ENDS[dtype]
    rng = np.random.default_rng(0)
    signs, sizes = rng.uniform(-1, 1, count), 10.0 ** rng.uniform(np.log10(np.finfo(dtype).tiny) - 5, 0, count)
    small = signs * sizes
    if name == "log1p":
        return np.concatenate([np.linspace(0, 1, count), abs(small)]).astype(dtype)
    return np.concatenate([np.linspace(low, high, count), np.linspace(-2, 2, count), small]).astype(dtype)


def ulps(got, want):
    """The error in units of the last place of the true value, and whether what overflows does."""
    with np.errstate(all="ignore"):
        rounded = want.astype(got.dtype)
    finite = np.isfinite(rounded)
    np.testing.assert_array_equal(got[~finite], rounded[~finite])
    unit = np.spacing(np.abs(rounded[finite])).astype(np.longdouble)
    return float((np.abs(got[finite].astype(np.longdouble) - want[finite]) / unit).max())


@DTYPES
@pytest.mark.parametrize("name", KERNELS)
def test_within_four_ulp(name, dtype):
    x = arguments(name, dtype, 1000 if numba.config.DISABLE_JIT else 400_000)
    with np.errstate(all="ignore"):
        want = getattr(np, name)(x.astype(np.longdouble))
    assert ulps(apply(name, x), want) <= 4
    common = np.abs(want) < 1
    planted = (want[common] * (1 + 8 * np.finfo(dtype).eps)).astype(dtype)
    assert ulps(planted, want[common]) > 4


@DTYPES
def test_special_numbers(dtype):
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0], dtype)
    np.testing.assert_array_equal(apply("exp", special), [np.nan, np.inf, 0, 1, 1])
    np.testing.assert_array_equal(apply("expm1", special), [np.nan, np.inf, -1, 0, 0])
    np.testing.assert_array_equal(apply("tanh", special), [np.nan, 1, -1, 0, 0])
    assert np.signbit(apply("tanh", special))[-1]
    assert np.isnan(apply("log1p", special)[0])
    assert (apply("exp", np.array([-1e4, -3e38], dtype)) == 0).all()
    assert (apply("exp", np.array([1e4, 3e38], dtype)) == np.inf).all()
    tiny = np.finfo(dtype).smallest_subnormal
    np.testing.assert_array_equal(apply("expm1", np.array([tiny, -tiny])), [tiny, -tiny])


@DTYPES
def test_results_sink_through_the_subnormal_numbers(dtype):
    """Where exp(x) is below the smallest normal number it is still rounded, not flushed to 0."""
    tiny = np.finfo(dtype).tiny
    y = apply("exp", np.linspace(np.log(tiny) - 0.1, np.log(tiny) - 10, 500).astype(dtype))
    assert ((y > 0) & (y <= tiny)).all() and (np.diff(y) < 0).any()


@elementwise
def shifted_exp(y, x):
    for i in prange(x.size):
        y[i] = exponential.exp(x[i] - x.dtype.type(1)) - exponential.exp(x[i] + x.dtype.type(1))


@DTYPES
def test_the_flags_of_a_kernel_do_not_reach_inside(dtype):
    """A kernel may reorder its sums. In the subtraction of n ln 2 that would cost 1e-4 of exp's digits."""
    x = np.linspace(-40, 40, 999).astype(dtype)
    y = np.empty_like(x)
    shifted_exp(y, x)
    want = np.exp(x.astype(np.longdouble) - 1) - np.exp(x.astype(np.longdouble) + 1)
    assert np.abs(y / want - 1).max() <= 60 * np.finfo(dtype).eps


@pytest.mark.jit_only
@pytest.mark.parametrize("name", KERNELS)
def test_loops_become_vectors(name):
    """A scalar loop multiplies one number at a time: mulss, vfmadd..ss; a vector loop has the packed ..ps."""
    body = KERNELS[name].serial
    body(np.zeros(4, np.float32), np.zeros(4, np.float32))
    fresh = numba.jit(**body.targetoptions)(body.py_func)  # of what was kept numba shows no assembly
    fresh.compile(body.signatures[0])
    assembly = fresh.inspect_asm(body.signatures[0])
    packed = len(re.findall(r"\b(?:v?mulps|vfmadd\w+ps|fmul\s+v|fmla\s+v)\b", assembly))
    assert packed >= 4


@kernel
def largest(out, rows):
    for n in prange(rows.shape[0]):
        top = exponential.rank(rows[n, 0])
        for k in range(1, rows.shape[1]):
            top = max(top, exponential.rank(rows[n, k]))
        out[n] = exponential.ranked(top)


@DTYPES
def test_the_largest_rank_is_the_largest_number(dtype):
    rows = np.random.default_rng(0).standard_normal((9, 101)).astype(dtype)
    rows[3] -= 10
    out = np.empty(9, dtype)
    largest(out, rows)
    np.testing.assert_array_equal(out, rows.max(axis=1))


@DTYPES
def test_ranks_order_as_the_numbers_do(dtype):
    big, tiny = np.finfo(dtype).max, np.finfo(dtype).smallest_subnormal
    numbers = np.array([-np.inf, -big, -1, -tiny, 0, tiny, 1, big, np.inf, np.nan], dtype)
    pairs = np.stack([numbers[:-1], numbers[1:]], axis=1)
    out = np.empty(len(pairs), dtype)
    for rows in (pairs, pairs[:, ::-1].copy()):
        largest(out, rows)
        np.testing.assert_array_equal(out, numbers[1:])

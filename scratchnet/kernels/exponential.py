"""exp and its kin as polynomials: numba calls C's exp for one number at a time, a polynomial runs on whole vectors.

    exp(v) = 2^n e^r    with n = round(v / ln 2): then |r| <= ln(2) / 2, and a few terms of Taylor's series do

n ln 2 is subtracted in two parts (Cody and Waite 1980), the first of so few bits that n times it is exact. 2^n is made
by writing n into the exponent of a float, in two halves: at the ends of the range 2^n itself is no float. Each function
is within 4 ulp of the true value, subnormal ones included, and keeps NaN. One source serves float32 and float64.
Inlined into a kernel, the arithmetic here stays in the order it is written in: see jit.precise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from scratchnet.kernels.jit import precise

Scalar = Callable[[Any], Any]  # of one number, in its own dtype


def _exponentials(
    real: Any, integer: Any, terms: int, ln2: tuple[float, float], lowest: float, highest: float
) -> tuple[Scalar, Scalar]:
    """Make exp and expm1 for one float type; `lowest` and below give 0, `highest` and above infinity."""
    low, high, per_ln2, ln2_high, ln2_low = (real(v) for v in (lowest, highest, 1 / math.log(2), *ln2))
    bits, bias, one = integer(np.finfo(real).nmant), integer(np.finfo(real).maxexp - 1), integer(1)
    whole = real(1.5 * 2.0**bits)  # floats of this size are whole numbers: adding it rounds
    whole_bits = whole.view(integer)
    series = tuple(real(1 / math.factorial(k)) for k in range(terms, 0, -1))

    @precise
    def reduce(v: Any) -> Any:
        """n / 2 rounded down, n less that, and e^r - 1."""
        v = low if v < low else v  # written so that NaN stays
        v = high if v > high else v
        shifted = v * per_ln2 + whole
        n = shifted - whole
        r = (v - n * ln2_high) - n * ln2_low
        total = series[0]
        for coefficient in series[1:]:
            total = total * r + coefficient
        exponent = integer(real(shifted).view(integer) - whole_bits)
        half = integer(exponent >> one)
        return half, integer(exponent - half), total * r

    @precise
    def power(n: Any) -> Any:
        """2^n."""
        return integer((n + bias) << bits).view(real)

    @precise
    def exp(v: Any) -> Any:
        first, second, rest = reduce(v)
        return (real(1) + rest) * power(first) * power(second)

    @precise
    def expm1(v: Any) -> Any:
        first, second, rest = reduce(v)
        return (power(first) * rest + (power(first) - power(-second))) * power(second)

    return exp, expm1


def _logarithm(real: Any, terms: int) -> Scalar:
    """Make log1p on [0, 1] for one float type."""
    two = real(2)
    series = tuple(real(1 / (2 * k + 1)) for k in range(terms, 0, -1))

    @precise
    def log1p(v: Any) -> Any:
        s = v / (two + v)  # at most 1/3
        square = s * s
        total = series[0]
        for coefficient in series[1:]:
            total = total * square + coefficient
        return two * s + two * s * (total * square)

    return log1p


def _ranks(real: Any, integer: Any) -> tuple[Scalar, Scalar]:
    """Make rank and ranked for one float type."""
    sign, rest = integer(np.iinfo(integer).bits - 1), integer(np.iinfo(integer).max)

    @precise
    def turn(i: Any) -> Any:
        return integer(i ^ integer(integer(i >> sign) & rest))  # the larger a negative float's bits, the smaller it is

    @precise
    def rank(v: Any) -> Any:
        return turn(real(v).view(integer))

    @precise
    def ranked(i: Any) -> Any:
        return integer(turn(i)).view(real)

    return rank, ranked


def _by_type(single: Scalar, double: Scalar, doc: str) -> Scalar:
    """One name for the two versions of a function: numba chooses by the argument's type, and so does plain Python."""

    def function(v: Any) -> Any:
        return single(v) if type(v) in (np.float32, np.int32) else double(v)

    overload(function)(lambda v: (lambda v: single(v)) if v in (types.float32, types.int32) else (lambda v: double(v)))
    function.__doc__ = doc
    return function


# ln 2 in two parts, of 9 and 32 bits and a rest
_exp32, _expm132 = _exponentials(np.float32, np.int32, 7, (0.693359375, -2.1219444005469057e-4), -104, 89)
_exp64, _expm164 = _exponentials(np.float64, np.int64, 13, (0.69314718036912382, 1.9082149292705877e-10), -746, 710)

exp = _by_type(_exp32, _exp64, "e^v, from 0 to infinity.")
expm1 = _by_type(_expm132, _expm164, "e^v - 1, with all its digits where v is small.")
log1p = _by_type(
    _logarithm(np.float32, 7), _logarithm(np.float64, 15), "log(1 + v) for v in [0, 1]: 2 atanh(v / (2 + v))."
)


@precise
def tanh(v: Any) -> Any:
    """(1 - e^-2|v|) / (1 + e^-2|v|), with the sign of v: no exponential overflows, and from 20 on it is 1."""
    real = type(v)
    size = real(20) if abs(v) > real(20) else abs(v)
    t = expm1(real(-2) * size)
    return math.copysign(t / (t + real(2)), v)


_rank32, _ranked32 = _ranks(np.float32, np.int32)
_rank64, _ranked64 = _ranks(np.float64, np.int64)
rank = _by_type(
    _rank32, _rank64, "An integer that is larger for a larger float; beyond infinity's for NaN with sign +."
)
ranked = _by_type(_ranked32, _ranked64, "The float of a rank.")

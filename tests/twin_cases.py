"""One entry per operation: how to make its arguments for a size. test_twins.py runs both floors on them and compares.

A case is `operation name -> function(rng, size, dtype, integers) -> (written, read, scalars)`:
    written: list of arrays the operation writes, filled with junk (the test fills them with NaN-free garbage itself);
    read: list of arrays it only reads;  scalars: list.
The call is operation(*written, *read, *scalars). `size` is one of SMALL, ODD, LARGE below or 0 and 1, and scales the
number of rows; with `integers` the float arrays must hold small integers, so that float32 sums are exact in any order.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Case = Callable[[np.random.Generator, int, str, bool], tuple[list, list, list]]
CASES: dict[str, Case] = {}

SIZES = (0, 1, 7, 37, 3000)  # rows; 3000 rows reach the parallel body of the kernels


def case(function: Case) -> Case:
    """Register a case under the function's name."""
    CASES[function.__name__] = function
    return function


def floats(rng: np.random.Generator, shape: tuple[int, ...], dtype: str, integers: bool) -> np.ndarray:
    """Random normal numbers, or integers from -3 to 3, as `dtype`."""
    if integers:
        return rng.integers(-3, 4, shape).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)


@case
def dense_forward(rng, size, dtype, integers):
    return (
        [np.empty((size, 19), dtype)],
        [floats(rng, s, dtype, integers) for s in ((size, 13), (13, 19), (19,))],
        [],
    )


@case
def dense_backward_weight(rng, size, dtype, integers):
    return (
        [np.empty((13, 19), dtype), np.empty(19, dtype)],
        [floats(rng, s, dtype, integers) for s in ((size, 13), (size, 19))],
        [],
    )


@case
def dense_backward_input(rng, size, dtype, integers):
    return [np.empty((size, 13), dtype)], [floats(rng, s, dtype, integers) for s in ((size, 19), (13, 19))], []

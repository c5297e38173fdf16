"""Helpers become machine code within their kernels alone, and nothing of that is seen from outside."""

from __future__ import annotations

import pytest
from processes import run_code

from scratchnet.kernels.compiler import COMPILER, Whole

pytestmark = [
    pytest.mark.jit_only,
    pytest.mark.skipif(COMPILER is not Whole, reason="this numba is not among those that were tried"),
]

KERNELS = """
    import numba, numpy as np
    from numba import prange
    from numba.core.registry import cpu_target
    from scratchnet.kernels.compiler import Part
    from scratchnet.kernels.jit import helper, kernel

    @helper
    def plus_one(x):
        return x + 1

    @kernel
    def inner(y, x):
        for i in prange(x.size):
            y[i] = plus_one(x[i])

    plain = inner.serial

    @kernel
    def outer(y, x):
        plain(y, x)
        plain(y, y)

    x, y = np.arange(50_000.0), np.empty(50_000)
"""


def test_a_helper_has_no_machine_code_of_its_own(tmp_path):
    code = """
    inner.parallel(y, x)
    print((y == x + 1).all())
    print({type(of.library).__name__ for of in plus_one.overloads.values()})
    print({type(of.library).__name__ for of in inner.parallel.overloads.values()})
    print(cpu_target.target_context.codegen()._library_class.__name__)
    """
    shown = run_code(KERNELS + code, SCRATCHNET_CACHE=str(tmp_path))
    assert shown.split() == ["True", "{'Part'}", "{'JITCodeLibrary'}", "JITCodeLibrary"]


def test_a_kernel_that_another_one_needs_can_be_called_itself(tmp_path):
    code = """
    outer.serial(y, x)
    print((y == x + 2).all())
    inner.serial(y, x)
    print((y == x + 1).all())
    """
    for _ in ("compiled", "loaded from the cache"):
        assert run_code(KERNELS + code, SCRATCHNET_CACHE=str(tmp_path)).split() == ["True", "True"]


def test_a_kernel_from_the_cache_stays_whole_in_one_that_is_compiled(tmp_path):
    run_code(KERNELS + "\n    inner.serial(y, x)", SCRATCHNET_CACHE=str(tmp_path))
    code = """
    outer.serial(y, x)
    print(sum(inner.serial.stats.cache_hits.values()), (y == x + 2).all())
    inner.serial(y, x)
    print((y == x + 1).all())
    """
    assert run_code(KERNELS + code, SCRATCHNET_CACHE=str(tmp_path)).split() == ["1", "True", "True"]


def test_functions_of_others_compile_as_ever(tmp_path):
    """Also after a kernel that failed, and where they use something of numba's that a kernel has used before."""
    code = """
    @kernel
    def cumulates(y, x):
        y[:] = np.cumsum(x)

    @kernel
    def fails(y, x):
        y[0] = x.no_such_thing

    cumulates.serial(y, x)
    try:
        fails.serial(y, x)
    except numba.TypingError:
        print("refused")
    print(numba.njit(lambda x: np.cumsum(x))(x)[-1] == x.sum() == y[-1])
    """
    assert run_code(KERNELS + code, SCRATCHNET_CACHE=str(tmp_path)).split() == ["refused", "True"]


def test_what_a_helper_raises_arrives(tmp_path):
    code = """
    @helper
    def picky(x):
        if x == 3:
            raise ValueError("three")
        return x

    @kernel
    def refuses(y, x):
        for i in range(x.size):
            y[i] = picky(x[i])

    try:
        refuses.serial(y, x)
    except ValueError as error:
        print(error, y[2])
    """
    for _ in ("compiled", "loaded from the cache"):
        assert run_code(KERNELS + code, SCRATCHNET_CACHE=str(tmp_path)).split() == ["three", "2.0"]


def test_a_helper_called_from_python_is_refused(tmp_path):
    code = """
    for _ in range(2):  # neither compiled nor after it was, within a kernel
        try:
            plus_one(1.0)
        except TypeError as error:
            print(error)
        inner.serial(y, x)
    print(plus_one.py_func(1.0))
    """
    refused = "plus_one: expected a call from a kernel, got one from Python; call plus_one.py_func there"
    assert run_code(KERNELS + code, SCRATCHNET_CACHE=str(tmp_path)).splitlines() == [refused, refused, "2.0"]

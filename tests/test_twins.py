"""Every operation stands on both floors, with one name, one signature and one meaning.

The operations are found by walking the packages, so one that exists on one floor only, or has no case here, fails.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import numpy as np
import pytest
import twin_cases

from scratchnet import kernels, reference
from scratchnet.kernels.jit import Kernel

# Results that are no plain sums of products: integers in do not make them exact.
ROUNDED = ("sigmoid", "tanh", "softplus", "leaky_relu", "avg_pool", "dropout", "batch_norm", "update", "norm", "scale")
ROUNDED_LOSSES = ("softmax_cross_entropy", "binary_cross_entropy", "mse", "gaussian_kl")

ULPS = 64  # of the largest reference value of the array: float32 sums of 3,000 terms taken in another order


def operations(floor):
    """name -> function for all operations of a floor: what its package lists."""
    listed = {name: value for name, value in vars(floor).items() if inspect.isfunction(value) or type(value) is Kernel}
    assert all(value.__module__.startswith(f"{floor.__name__}.") for value in listed.values())
    return listed


REFERENCE, KERNELS = operations(reference), operations(kernels)
NAMES = sorted(REFERENCE.keys() | KERNELS.keys())


def missing(left, right, cases):
    """What lacks a twin or a case."""
    return sorted((left.keys() ^ right.keys()) | ((left.keys() | right.keys()) ^ cases.keys()))


def test_every_operation_has_a_twin_and_a_case():
    assert missing(REFERENCE, KERNELS, twin_cases.CASES) == []


def test_an_operation_on_one_floor_only_is_noticed():
    planted = REFERENCE | {"planted": lambda: None}
    assert missing(planted, KERNELS, twin_cases.CASES) == ["planted"]


def public(floor):
    """(home, name, value) of what is public in the files that both floors have."""
    for module in pkgutil.iter_modules(reference.__path__):
        home = f"{floor.__name__}.{module.name}"
        for name, value in vars(importlib.import_module(home)).items():
            if module.name != "windows" and not name.startswith("_") and getattr(value, "__module__", "") == home:
                yield home, name, value


def test_the_packages_list_every_operation():
    """In kernels/ also what operations share is public; that is no kernel and has no equation in reference/."""
    for home, name, value in public(reference):
        assert REFERENCE.get(name) is value, f"{home}.{name} is not listed"
    for home, name, value in public(kernels):
        if isinstance(value, Kernel) or f"reference.{name}" in (inspect.getdoc(value) or ""):
            assert KERNELS.get(name) is value, f"{home}.{name} is not listed"


@pytest.mark.parametrize("name", NAMES)
def test_signatures_agree(name):
    left, right = inspect.signature(REFERENCE[name]), inspect.signature(KERNELS[name])
    assert list(left.parameters) == list(right.parameters)
    assert inspect.getdoc(REFERENCE[name])
    assert f"reference.{name}" in inspect.getdoc(KERNELS[name])


def run(function, case):
    """Call an operation on copies; return what it wrote, after checking that it wrote nothing else."""
    written, read, scalars = case
    written, copies = [array.copy() for array in written], [array.copy() for array in read]
    function(*written, *copies, *scalars)
    for before, after in zip(read, copies):
        np.testing.assert_array_equal(before, after)
    return written


def make(name, size, dtype, integers, seed=0):
    written, read, scalars = twin_cases.CASES[name](np.random.default_rng([seed, size]), size, dtype, integers)
    return written, read, scalars


def is_rounded(name):
    return name in ROUNDED_LOSSES or any(part in name for part in ROUNDED)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", twin_cases.SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_values_agree(name, size, dtype):
    case = make(name, size, dtype, integers=False)
    for want, got in zip(run(REFERENCE[name], case), run(KERNELS[name], case)):
        assert got.dtype == want.dtype
        if want.dtype.kind != "f":
            np.testing.assert_array_equal(got, want)
        elif want.size:
            assert np.isfinite(want).all()
            allowed = ULPS * np.finfo(dtype).eps * max(float(np.abs(want).max()), np.finfo(want.dtype).tiny)
            assert np.abs(got - want).max() <= allowed


@pytest.mark.parametrize("size", twin_cases.SIZES)
@pytest.mark.parametrize("name", [n for n in NAMES if not is_rounded(n)])
def test_integers_give_equal_bits(name, size):
    case = make(name, size, "float32", integers=True)
    for want, got in zip(run(REFERENCE[name], case), run(KERNELS[name], case)):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("name", NAMES)
def test_most_results_are_not_zero(name):
    """A comparison of zeros with zeros proves nothing."""
    case = make(name, 37, "float32", integers=False)
    for got in run(KERNELS[name], case):
        assert np.count_nonzero(got) >= 0.3 * got.size


@pytest.mark.parametrize("special", [np.nan, np.inf])
@pytest.mark.parametrize("name", NAMES)
def test_nan_and_inf_travel_the_same_way(name, special):
    """A special value in any float input shows in the same places on both floors; a NaN shows at all."""
    written, read, scalars = make(name, 37, "float32", integers=False)
    for i, array in enumerate(read):
        if array.dtype.kind != "f":
            continue
        shown = False
        for place in range(0, array.size, max(1, array.size // 7)):
            spoiled = [a.copy() for a in read]
            spoiled[i].reshape(-1)[place] = special
            with np.errstate(all="ignore"):
                want = run(REFERENCE[name], (written, spoiled, scalars))
                got = run(KERNELS[name], (written, spoiled, scalars))
            for w, g in zip(want, got):
                if w.dtype.kind == "f":
                    np.testing.assert_array_equal(np.isnan(g), np.isnan(w))
                    np.testing.assert_array_equal(np.isinf(g), np.isinf(w))
                    shown |= not np.isfinite(g).all()
        assert shown or np.isinf(special)  # an infinite variance, say, makes a finite 0


@pytest.mark.parametrize("name", [n for n in NAMES if isinstance(KERNELS[n], Kernel)])
def test_serial_and_parallel_bodies_write_the_same_bits(name):
    written, read, scalars = make(name, 3000, "float32", integers=False)
    results = []
    for body in (KERNELS[name].serial, KERNELS[name].parallel):
        arrays = [a.copy() for a in (*written, *read)]
        if KERNELS[name]._flatten:
            arrays = [a.reshape(-1) for a in arrays]
        body(*arrays, *[np.float32(s) if type(s) is float else s for s in scalars])
        results.append(arrays)
    for serial, parallel in zip(*results):
        np.testing.assert_array_equal(serial, parallel)

"""Optimizer updates and clipping operations beyond what test_twins.py asks of every operation."""

from __future__ import annotations

import numpy as np
import pytest
import twin_cases
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchnet import kernels, reference, threads
from scratchnet.kernels import updates

UPDATES = sorted(name for name in twin_cases.CASES if name.endswith("_update"))
ALL_MODES = {name: twin_cases.CASES[name] for name in UPDATES} | twin_cases.MODES
DIVIDED = ["adagrad_update", "adadelta_update", "rmsprop_update: plain", "adam_update: plain", "adam_update"]
DIVIDED += ["nadam_update", "radam_update"]
FLOORS = pytest.mark.parametrize("ops", [reference, kernels], ids=["reference", "kernels"])


def run(ops, name, case):
    """Call an operation on copies of what it writes; return those."""
    written, read, scalars = case
    written = [array.copy() for array in written]
    getattr(ops, name)(*written, *read, *scalars)
    return written


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [0, 1, 37, 3000])
@pytest.mark.parametrize("mode", sorted(ALL_MODES))
def test_both_floors_give_the_same_bits(mode, size, dtype):
    case = ALL_MODES[mode](np.random.default_rng(size), size, dtype, False)
    name = mode.split(":")[0]
    for want, got in zip(run(reference, name, case), run(kernels, name, case)):
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)


@pytest.mark.skipif(threads.available_threads() < 2, reason="needs two threads")
@pytest.mark.parametrize("name", [*sorted(ALL_MODES), "squared_norm"])
def test_same_bits_on_one_and_two_threads(name):
    """An odd size, so that a split falls inside a vector; 60,007 elements reach the parallel body."""
    make = (twin_cases.CASES | ALL_MODES)[name]
    written, read, scalars = make(np.random.default_rng(1), 3751, "float32", False)
    cut = [array[: 60_007 if array.size > 1 else array.size] for array in (*written, *read)]
    case = cut[: len(written)], cut[len(written) :], scalars
    found = []
    for count in (1, 2):
        before = threads.get_threads()
        threads.set_threads(count)
        try:
            found.append(run(kernels, name.split(":")[0], case))
        finally:
            threads.set_threads(before)
    for one, two in zip(*found):
        np.testing.assert_array_equal(one, two)


def running_means(name, dtype):
    """Arguments of an update whose gradient is 0 and whose state is almost subnormal; which arrays are no means."""
    written, read, scalars = twin_cases.CASES[name](np.random.default_rng(0), 1, dtype, False)
    written[0][:] = 0
    read[0][:] = 0
    for array in written[1:]:
        array[:] = np.finfo(dtype).tiny * 4
    kept = {"adagrad_update": [1], "adam_update": [3], "adamax_update": [2]}.get(name, [])
    return (written, read, scalars), kept


@FLOORS
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", UPDATES)
def test_a_dead_unit_ends_at_zero_and_not_among_the_subnormals(name, dtype, ops):
    """A subnormal operand makes an operation 30 times slower, for good. Sums, maxima and u do not sink: they stay."""
    case, kept = running_means(name, dtype)
    for i, array in enumerate(run(ops, name, case)[1:], start=1):
        assert (array > 0).all() if i in kept else (array == 0).all()


@FLOORS
@pytest.mark.parametrize("name", UPDATES)
def test_what_the_flush_may_touch_is_far_below_any_step(name, ops):
    """A gradient of 1e-13 still counts in float32, and one of 1e-145 in float64."""
    for dtype, small in (("float32", 1e-13), ("float64", 1e-145)):
        case, _ = running_means(name, dtype)
        case[1][0][:] = small
        state = run(ops, name, case)[1:]
        for array in state[:1] if name == "adadelta_update" else state:  # steps as small as these leave no v_delta
            assert (array != 0).all()


@FLOORS
@pytest.mark.parametrize("name", UPDATES)
def test_nan_reaches_parameters_and_state(name, ops):
    case = twin_cases.CASES[name](np.random.default_rng(0), 1, "float32", False)
    case[1][0][5] = np.nan
    for array in run(ops, name, case):
        assert np.isnan(array[5])
        assert np.isfinite(np.delete(array, 5)).all()


@FLOORS
@pytest.mark.parametrize("name", UPDATES)
def test_nan_in_the_state_stays(name, ops):
    written, read, scalars = twin_cases.CASES[name](np.random.default_rng(0), 1, "float32", False)
    for array in written[1:]:
        array[5] = np.nan
    for array in run(ops, name, (written, read, scalars))[1:]:
        assert np.isnan(array[5])


@FLOORS
@pytest.mark.parametrize("mode", DIVIDED)
def test_a_square_that_overflows_stops_its_parameter(mode, ops):
    """g^2 = inf in float32: v is infinite, so this parameter gets no step, now and later, and no NaN."""
    written, read, scalars = ALL_MODES[mode](np.random.default_rng(0), 1, "float32", False)
    scalars = [0.0 if s in (0.0625, 0.03125) else s for s in scalars]  # no weight decay: it is no step
    read[0][3] = 3.4e38
    with np.errstate(over="ignore"):
        after = run(ops, mode.split(":")[0], (written, read, scalars))
        again = run(ops, mode.split(":")[0], (after, [np.ones_like(read[0])], scalars))
    for arrays in (after, again):
        assert arrays[0][3] == written[0][3]
    assert np.isinf(after[1]).any() or np.isinf(after[2]).any()


@FLOORS
def test_rounding_below_zero_does_not_make_a_centered_step_nan(ops):
    """A constant gradient: the variance v - m^2 is 0 up to rounding, of either sign."""
    g = np.float32(0.1) * np.arange(1, 1001, dtype=np.float32)
    v, m = g * g, g.copy()
    v = np.nextafter(v, np.float32(0))
    params, empty = np.zeros_like(g), np.empty(0, np.float32)
    ops.rmsprop_update(params, v, m, empty, g, 1e-3, 0.875, 1e-8, 0.0, 0.0)
    assert np.isfinite(params).all()


@pytest.mark.jit_only
@pytest.mark.parametrize("size", [1, 7, 8191, 8192, 8193, 40_000, 100_003])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_squared_norm_has_one_value(dtype, size):
    """Whichever body runs, and wherever the array starts in memory."""
    numbers = np.random.default_rng(size).standard_normal(size + 3).astype(dtype)
    found = set()
    for body in (updates._squared_norm.serial, updates._squared_norm.parallel):
        for start in range(4):
            room = np.zeros(size + 3, dtype)
            room[start : start + size] = numbers[:size]
            total = np.empty(1)
            body(total, np.empty(-(-size // updates.CHUNK)), room[start : start + size])
            found.add(float(total[0]))
    assert len(found) == 1


@FLOORS
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_squared_norm_sums_in_float64(ops, dtype):
    grads = np.random.default_rng(0).standard_normal(20_001).astype(dtype)
    total = np.full(1, np.nan)
    ops.squared_norm(total, grads)
    want = sum(float(g) ** 2 for g in grads)
    assert abs(total[0] - want) <= 1e-12 * want
    ops.squared_norm(total, np.full(3, 1e30, dtype))  # beyond float32
    assert abs(total[0] - 3e60) <= 1e-6 * 3e60


@FLOORS
@given(values=st.lists(st.floats(width=32), max_size=20), limit=st.floats(2**-10, 2**10, width=32))
@settings(max_examples=40, deadline=None)
def test_clip_gradients_is_a_clamp(ops, values, limit):
    grads = np.array(values, np.float32)
    ops.clip_gradients(grads, limit)
    for value, got in zip(values, grads):
        assert np.isnan(got) if np.isnan(value) else got == min(max(value, -limit), limit)


@FLOORS
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_flush_begins_below_2_to_the_27_times_the_smallest_normal_number(dtype, ops):
    edge = np.asarray(np.finfo(dtype).tiny * 2.0**27, dtype)
    m = np.array([2 * edge, 2 * np.nextafter(edge, edge * 0)])
    _, (stays, flushed) = run(ops, "lion_update", ([np.zeros_like(m), m], [np.zeros_like(m)], [0.125, 0.875, 0.5, 0.0]))
    assert (stays, flushed) == (edge, 0)

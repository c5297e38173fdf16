"""Schedules: values at the steps where they are known, bounds everywhere, and bad arguments."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchnet.schedules import (
    SCHEDULES,
    constant,
    cosine,
    exponential,
    inverse_square_root,
    make_schedule,
    step,
    warmup,
)


def values(schedule, *steps):
    return [schedule(t) for t in steps]


def test_values():
    assert values(constant(0.3), 1, 2, 1000) == [0.3, 0.3, 0.3]
    assert values(inverse_square_root(0.3), 1, 4, 900) == [0.3, 0.15, 0.01]
    assert values(step(0.5, every=3, factor=0.5), 1, 3, 4, 6, 7) == [0.5, 0.5, 0.25, 0.25, 0.125]
    assert values(step(1.0, every=1), 1, 2) == [1.0, 0.1]
    assert values(exponential(0.5, factor=0.5), 1, 2, 3) == [0.5, 0.25, 0.125]


def test_cosine_starts_at_lr_passes_the_middle_and_stays_at_the_minimum():
    schedule = cosine(1.0, steps=10, minimum=0.2)
    wanted = [1.0, 0.6, 0.2, 0.2]
    assert all(abs(got - want) <= 1e-15 for got, want in zip(values(schedule, 1, 6, 11, 1000), wanted))
    assert cosine(1.0, steps=1)(1) == 1.0
    assert cosine(1.0, steps=1)(2) == 0.0


def test_warmup_rises_to_the_schedule_and_leaves_it_alone():
    assert values(warmup(constant(1.0), 4), 1, 2, 3, 4, 5, 100) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    inner = cosine(0.1, 20)
    outer = warmup(inner, 5)
    assert outer(1) == 0.2 * inner(1)
    assert [outer(t) for t in range(5, 30)] == [inner(t) for t in range(5, 30)]
    assert warmup(lambda t: 0.5, 2)(1) == 0.25


@given(
    name=st.sampled_from(sorted(SCHEDULES)),
    lr=st.floats(1e-6, 10),
    steps=st.integers(1, 10_000),
    place=st.floats(0, 1),
)
@settings(max_examples=40, deadline=None)
def test_made_schedules_fall_from_lr_and_stay_positive_during_the_run(name, lr, steps, place):
    schedule = make_schedule(name, lr, steps)
    t = 1 + int(place * (steps - 1))
    assert schedule(1) == lr
    assert 0 < schedule(t) <= lr
    assert schedule(t + 1) <= schedule(t)
    assert 0 <= schedule(100 * steps) <= lr


def test_what_names_leave_open():
    assert values(make_schedule("constant", 0.1, 9), 1, 9) == [0.1, 0.1]
    assert values(make_schedule("inverse_square_root", 0.1, 4), 4) == [0.05]
    thirds = values(make_schedule("step", 1.0, 9), 3, 4, 6, 7, 9)
    assert all(abs(got - want) <= 1e-15 for got, want in zip(thirds, [1.0, 0.1, 0.1, 0.01, 0.01]))
    assert abs(make_schedule("exponential", 1.0, 50)(50) - 0.01) <= 1e-15
    assert abs(make_schedule("cosine", 1.0, 50)(51)) <= 1e-15
    assert make_schedule("exponential", 1.0, 1)(1) == 1.0


def test_they_print_themselves():
    text = "warmup(cosine(0.1, steps=20, minimum=0.0), steps=5)"
    assert repr(warmup(cosine(0.1, 20), 5)) == text
    assert repr(eval(text, {"warmup": warmup, "cosine": cosine})) == text
    assert repr(step(0.1, 7)) == "step(0.1, every=7, factor=0.1)"
    assert repr(exponential(1, 0.9)) == "exponential(1.0, factor=0.9)"
    assert repr(constant(1)) == "constant(1.0)"
    assert repr(inverse_square_root(1)) == "inverse_square_root(1.0)"


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: constant(0), ValueError, "constant: lr: expected a finite number in .0, inf., got 0"),
        (lambda: constant(math.nan), ValueError, "constant: lr"),
        (lambda: constant("fast"), TypeError, "constant: lr"),
        (lambda: inverse_square_root(-1), ValueError, "inverse_square_root: lr"),
        (lambda: step(0, 5), ValueError, "step: lr"),
        (lambda: step(0.1, 0), ValueError, "step: every: expected an integer >= 1, got 0"),
        (lambda: step(0.1, 2.5), TypeError, "step: every"),
        (lambda: step(0.1, 5, factor=0), ValueError, "step: factor"),
        (lambda: exponential(0.1, 1.1), ValueError, r"exponential: factor: expected .* in \(0, 1\], got 1.1"),
        (lambda: exponential(-0.1, 0.9), ValueError, "exponential: lr"),
        (lambda: cosine(0, 10), ValueError, "cosine: lr"),
        (lambda: cosine(0.1, 0), ValueError, "cosine: steps"),
        (lambda: cosine(0.1, 10, minimum=0.2), ValueError, "cosine: minimum"),
        (lambda: cosine(0.1, 10, minimum=-0.1), ValueError, "cosine: minimum"),
        (lambda: warmup(0.1, 10), TypeError, "warmup: schedule: expected a function"),
        (lambda: warmup(constant(0.1), 0), ValueError, "warmup: steps"),
        (lambda: constant(0.1)(0), ValueError, "schedule: t: expected an integer >= 1, got 0"),
        (lambda: constant(0.1)(1.5), TypeError, "schedule: t"),
        (lambda: make_schedule("cosin", 0.1, 10), ValueError, "did you mean 'cosine'"),
        (lambda: make_schedule("cosine", 0.1, 0), ValueError, "make_schedule: steps"),
        (lambda: make_schedule("cosine", 0, 10), ValueError, "cosine: lr"),
    ],
)
def test_bad_arguments_are_named(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_thirds_of_a_run_that_has_none_are_rounded_up():
    """10 steps: 4, 4, 2."""
    thirds = values(make_schedule("step", 1.0, 10), 4, 5, 8, 9, 10)
    assert all(abs(got - want) <= 1e-15 for got, want in zip(thirds, [1.0, 0.1, 0.1, 0.01, 0.01]))

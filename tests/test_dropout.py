"""Dropout: the hash, the statistics of its masks, and the layer: counter, seeds, backward, sparse values."""

from __future__ import annotations

import math

import numpy as np
import pytest

from scratchnet import Sequential, kernels, reference, threads
from scratchnet.layers import Dense, Dropout, Residual
from scratchnet.layers.dropout import dropout_key

FLOORS = pytest.mark.parametrize("ops", [reference, kernels], ids=["reference", "kernels"])
COUNT = 200_000


def mask(key, p=0.5, count=COUNT, ops=reference, dtype="float32"):
    """What dropout multiplies `count` elements by."""
    y = np.empty(count, dtype)
    ops.dropout_forward(y, np.ones(count, dtype), np.uint64(key), p)
    return y


# --- operations ----------------------------------------------------------------------------------------------------

# The first outputs of SplitMix64 seeded with 1234567, as published with many of its implementations.
SPLITMIX = (6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821)


@FLOORS
def test_the_hash_is_splitmix64(ops):
    """An element is kept up to and including p = its uniform number, and dropped just above."""
    for i, output in enumerate(SPLITMIX):
        u = (output >> 40) / 2**24
        assert mask(1234567, u, 5, ops)[i] == np.float32(1 / (1 - u))
        assert mask(1234567, u + 2.0**-25, 5, ops)[i] == 0


@FLOORS
@pytest.mark.parametrize("p", [0.0, 1e-9, 0.1, 0.5, 0.9, 0.999])
def test_kept_share_and_scale(ops, p):
    factors = mask(99, p, COUNT if ops is reference else 5000, ops)
    kept = factors != 0
    assert (factors[kept] == np.float32(1 / (1 - p))).all()
    assert abs(kept.sum() - kept.size * (1 - p)) <= 5 * math.sqrt(kept.size * p * (1 - p)) + 1e-3


@FLOORS
def test_p_zero_is_the_identity(ops):
    x = np.random.default_rng(0).standard_normal((7, 11)).astype("float32")
    y = np.empty_like(x)
    ops.dropout_forward(y, x, np.uint64(5), 0.0)
    np.testing.assert_array_equal(y, x)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 1 - 2**-20])
def test_floors_and_dtypes_draw_the_same_mask(p, dtype):
    key = 2**64 - 1
    want = mask(key, p, 5000)
    got = mask(key, p, 5000, kernels, dtype)
    np.testing.assert_array_equal(got != 0, want != 0)
    np.testing.assert_array_equal(got, mask(key, p, 5000, reference, dtype))


def test_same_mask_for_any_thread_count():
    before = threads.get_threads()
    for count in range(1, threads.available_threads() + 1):
        threads.set_threads(count)
        np.testing.assert_array_equal(mask(7, 0.5, 40_001, kernels), mask(7, 0.5, 40_001))
    threads.set_threads(before)


def test_the_mask_depends_on_the_place_alone():
    """A longer array starts with the mask of a shorter one, and shape does not matter."""
    np.testing.assert_array_equal(mask(3, count=1000)[:100], mask(3, count=100))
    y = np.empty((10, 10), "float32")
    kernels.dropout_forward(y, np.ones_like(y), np.uint64(3), 0.5)
    np.testing.assert_array_equal(y.reshape(-1), mask(3, count=100))


@FLOORS
def test_backward_has_the_mask_of_forward(ops):
    x, dy = np.random.default_rng(0).standard_normal((2, 40, 9)).astype("float32")
    y, dx = np.empty_like(x), np.empty_like(x)
    ops.dropout_forward(y, x, np.uint64(11), 0.4)
    ops.dropout_backward(dx, dy, np.uint64(11), 0.4)
    np.testing.assert_array_equal(dx != 0, y != 0)
    np.testing.assert_array_equal(dx[y != 0], (dy * np.float32(1 / 0.6))[y != 0])


@FLOORS
def test_nan_and_inf_show_even_where_dropped(ops):
    for special in (np.nan, np.inf):
        y = np.empty(64, "float32")
        with np.errstate(invalid="ignore"):
            ops.dropout_forward(y, np.full(64, special, "float32"), np.uint64(1), 0.5)
        assert not np.isfinite(y).any()


# --- statistics ----------------------------------------------------------------------------------------------------


def assert_independent(a, b):
    """The correlation of two masks is within 5 standard deviations of 0."""
    correlation = np.corrcoef(a.astype(np.float64), b.astype(np.float64))[0, 1]
    assert abs(correlation) <= 5 / math.sqrt(a.size)


def test_neighbours_are_independent():
    factors = mask(dropout_key(0, 1, 1))
    for distance in (1, 2, 3, 8, 16, 64, 784, 1000, 4096):
        assert_independent(factors[:-distance], factors[distance:])


def test_steps_layers_and_seeds_are_independent():
    base = mask(dropout_key(0, 1, 1))
    for other in [(0, 1, 2), (0, 1, 3), (0, 2, 1), (1, 1, 1), (1, 0, 1), (0, 0, 1), (2**40, 1, 1), (0, 1, 2**31)]:
        assert_independent(base, mask(dropout_key(*other)))


def test_the_independence_test_can_fail():
    factors = mask(1)
    with pytest.raises(AssertionError):
        assert_independent(factors[1:], np.where(np.arange(COUNT - 1) % 50, mask(2)[1:], factors[1:]))


def test_an_element_is_kept_as_often_over_the_steps():
    kept = np.array([mask(dropout_key(3, 2, step), 0.3, 50) != 0 for step in range(1, 4001)]).sum(axis=0)
    assert np.abs(kept - 4000 * 0.7).max() <= 5 * math.sqrt(4000 * 0.7 * 0.3)


def test_the_mean_is_preserved():
    x = np.random.default_rng(0).uniform(1, 2, COUNT).astype("float32")
    y = np.empty_like(x)
    kernels.dropout_forward(y, x, dropout_key(0, 0, 1), 0.5)
    spread = math.sqrt(np.square(x, dtype=float).sum())  # of the sum: each element is 0 or 2 x
    assert abs(float(y.sum(dtype=float) - x.sum(dtype=float))) <= 5 * spread


def test_keys_differ():
    grid = [(seed, layer, step) for seed in range(12) for layer in range(12) for step in range(200)]
    grid += [(2**32, 0, 0), (2**63, 0, 0), (0, 2**32, 0), (0, 0, 2**62)]
    assert len({int(dropout_key(*numbers)) for numbers in grid}) == len(grid)
    assert dropout_key(1, 2, 3).dtype == np.uint64


# --- layer ---------------------------------------------------------------------------------------------------------

ONES = np.ones((6, 50), "float32")


def net_of(*layers, seed=0, ops=kernels):
    return Sequential(list(layers), (50,), seed=seed, ops=ops)


def masks(net, steps):
    return [net.forward(ONES, train=True).copy() for _ in range(steps)]


@FLOORS
def test_outside_training_nothing_happens(ops):
    net = net_of(Dropout(), ops=ops)
    assert net.layers[0].forward(ONES) is ONES
    np.testing.assert_array_equal(net.layers[0].step, 0)


def test_every_step_draws_anew_and_the_counter_restores_it():
    net = net_of(Dropout(0.5))
    drawn = masks(net, 4)
    assert all(not np.array_equal(a, b) for i, a in enumerate(drawn) for b in drawn[:i])
    state = net.state()
    assert list(state) == ["0.step"] and state["0.step"].dtype == np.int64
    np.testing.assert_array_equal(state["0.step"], [4])
    again = net_of(Dropout(0.5))
    again.state()["0.step"][...] = 2
    np.testing.assert_array_equal(masks(again, 1)[0], drawn[2])


def test_seed_and_place_decide_the_mask():
    first, second = masks(net_of(Dropout()), 1)[0], masks(net_of(Dropout(), seed=1), 1)[0]
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, masks(net_of(Dropout()), 1)[0])
    np.testing.assert_array_equal(first, masks(net_of(Dropout(), ops=reference), 1)[0])
    net = net_of(Dropout(), Residual([Dropout(), Residual([Dropout()])]))
    net.forward(ONES, train=True)
    one, two, three = (layer._kept[0] for layer in (net.layers[0], *inner_dropouts(net)))
    assert not np.array_equal(one != 0, two != 0) and not np.array_equal(two != 0, three != 0)


def inner_dropouts(net):
    outer = net.layers[1]
    return outer.layers[0], outer.layers[1].layers[0]


@FLOORS
def test_gradient_has_the_mask(ops):
    net = net_of(Dropout(0.25), ops=ops)
    y = net.forward(ONES, train=True).copy()
    dx = net.backward(3 * ONES, input_gradient=True)
    np.testing.assert_array_equal(dx, 3 * y)
    net.forward(ONES, train=True)
    assert net.backward(ONES) is None


def test_backward_has_the_p_of_its_forward():
    layer = Dropout(0.25)
    net = net_of(layer)
    y = net.forward(ONES, train=True).copy()
    layer.p = 0
    np.testing.assert_array_equal(net.backward(ONES, input_gradient=True), y)


def test_images():
    net = Sequential([Dropout(0.5), Residual([Dropout(0.5)])], (4, 4, 2))
    x = np.ones((3, 4, 4, 2), "float32")
    assert net.forward(x, train=True).shape == x.shape
    assert net.backward(x, input_gradient=True).shape == x.shape


def test_expected_output_is_that_of_inference():
    rng = np.random.default_rng(0)
    net = net_of(Dropout(0.5), Dense(3))
    x = rng.standard_normal((1, 50)).astype("float32")
    want = net.forward(x)
    drawn = np.array([net.forward(x, train=True)[0].copy() for _ in range(2000)])
    assert (np.abs(drawn.mean(axis=0) - want) <= 5 * drawn.std(axis=0) / math.sqrt(len(drawn))).all()


def test_print():
    assert repr(Dropout(0.25)) == "Dropout(0.25)" and repr(Dropout()) == "Dropout(0.5)"


@pytest.mark.parametrize("p", [-0.1, 1, 1.5, float("nan")])
def test_p_outside_its_range_is_refused(p):
    with pytest.raises(ValueError, match=r"Dropout: p: expected a finite number in \[0, 1\)"):
        Dropout(p)


def test_another_p_is_checked_like_the_first():
    layer = Dropout(0.2)
    layer.p = 0.3
    assert repr(layer) == "Dropout(0.3)"
    with pytest.raises(ValueError, match=r"Dropout: p: expected a finite number in \[0, 1\), got 2"):
        layer.p = 2


def test_the_masks_are_recorded_ones():
    """A run that an earlier version saved goes on with its masks: of seed, place, and step 1, 2, 3, ..."""
    assert int(dropout_key(1, 2, 3)) == 0xD0734750FDE362B3
    first = masks(net_of(Dropout(), seed=7), 1)[0]
    np.testing.assert_array_equal(first.reshape(-1), mask(dropout_key(7, 0, 1), count=300))

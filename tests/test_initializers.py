"""Initial weights: the stated variance, the stated limits, and reproducible draws."""

from __future__ import annotations

import math

import numpy as np
import pytest

from scratchnet import initializers

SHAPES = [(300, 200), (3, 3, 40, 60)]
VARIANCE = {
    "he": lambda fan_in, fan_out: 2 / fan_in,
    "glorot": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    "lecun": lambda fan_in, fan_out: 1 / fan_in,
}


def test_fans():
    assert initializers.fans((7, 5)) == (7, 5)
    assert initializers.fans((3, 2, 7, 5)) == (42, 30)


def test_a_vector_has_no_fans():
    with pytest.raises(ValueError, match=r"fans: expected the shape of a weight.*got \(3,\)"):
        initializers.fans((3,))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["normal", "uniform"])
@pytest.mark.parametrize("family", VARIANCE)
def test_variance(family, kind, shape):
    weight = np.empty(shape)
    getattr(initializers, f"{family}_{kind}")(weight, np.random.default_rng(0))
    want = VARIANCE[family](*initializers.fans(shape))
    deviation = math.sqrt(2 / weight.size)  # of a sample variance, relative
    assert abs(weight.var() / want - 1) <= 6 * deviation
    assert abs(weight.mean()) <= 6 * math.sqrt(want / weight.size)
    if kind == "uniform":
        assert np.abs(weight).max() <= math.sqrt(3 * want)
    else:
        assert np.abs(weight).max() > 3 * math.sqrt(want)


def test_zeros():
    weight = np.ones((2, 3))
    initializers.zeros(weight, np.random.default_rng(0))
    assert not weight.any()


def test_a_seed_gives_the_same_draws_in_both_precisions():
    single, double = np.empty((4, 5), np.float32), np.empty((4, 5))
    for weight in (single, double):
        initializers.he_normal(weight, np.random.default_rng(3))
    np.testing.assert_array_equal(single, double.astype(np.float32))


@pytest.mark.parametrize("shape", [(4, 5), (3, 2, 4, 5)])
@pytest.mark.parametrize("family", VARIANCE)
def test_draws_are_scaled_by_their_variance_and_nothing_else(family, shape):
    variance = VARIANCE[family](*initializers.fans(shape))
    normal, uniform = np.empty(shape), np.empty(shape)
    getattr(initializers, f"{family}_normal")(normal, np.random.default_rng(3))
    getattr(initializers, f"{family}_uniform")(uniform, np.random.default_rng(3))
    np.testing.assert_allclose(
        normal, np.random.default_rng(3).standard_normal(shape) * math.sqrt(variance), rtol=1e-15
    )
    limit = math.sqrt(3 * variance)
    np.testing.assert_allclose(uniform, np.random.default_rng(3).uniform(-limit, limit, shape), rtol=1e-14)

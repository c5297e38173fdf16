"""Batch norm: its definition and gradient, accuracy over many rows, one row, running statistics, the two layers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchnet import Sequential, kernels, reference, threads
from scratchnet.layers import BatchNorm1d, BatchNorm2d

FLOORS = pytest.mark.parametrize("ops", [reference, kernels], ids=["reference", "kernels"])
DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])
EPS = 1e-5


def forward(ops, x, weight, bias):
    y, mean, variance = np.empty_like(x), np.empty_like(weight), np.empty_like(weight)
    ops.batch_norm_forward(y, mean, variance, x, weight, bias, EPS)
    return y, mean, variance


def backward(ops, dy, x, weight):
    _, mean, variance = forward(ops, x, weight, np.zeros_like(weight))
    dx, dweight, dbias = np.empty_like(x), np.empty_like(weight), np.empty_like(weight)
    ops.batch_norm_backward(dx, dweight, dbias, dy, x, mean, variance, weight, EPS)
    return dx, dweight, dbias


def arrays(rows, channels, dtype="float64", seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, channels)) * 3 + 2
    return x.astype(dtype), rng.uniform(0.5, 2, channels).astype(dtype), rng.standard_normal(channels).astype(dtype)


# --- operations ----------------------------------------------------------------------------------------------------


@FLOORS
@given(st.integers(1, 70), st.integers(1, 9), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_forward_is_its_definition(ops, rows, channels, seed):
    x, weight, bias = arrays(rows, channels, seed=seed)
    y, mean, variance = forward(ops, x, weight, bias)
    np.testing.assert_allclose(mean, x.mean(axis=0), rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(variance, x.var(axis=0), rtol=1e-12, atol=1e-14)
    want = weight * (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + EPS) + bias
    np.testing.assert_allclose(y, want, rtol=1e-10, atol=1e-11)


@FLOORS
@given(st.integers(1, 6), st.integers(1, 4), st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_gradients_are_derivatives(ops, rows, channels, seed):
    x, weight, bias = arrays(rows, channels, seed=seed)
    dy = np.random.default_rng(seed + 1).standard_normal(x.shape)
    found = backward(ops, dy, x, weight)
    for values, gradient in zip((x, weight, bias), found):
        for place in np.ndindex(values.shape):
            at, total, h = values[place], 0.0, 1e-4
            for factor, coefficient in ((-2, 1), (-1, -8), (1, 8), (2, -1)):
                values[place] = at + factor * h
                total += coefficient * np.sum(dy * forward(ops, x, weight, bias)[0])
            values[place] = at
            scale = max(np.abs(gradient).max(), 1e-2)
            assert abs(total / (12 * h) - gradient[place]) <= 1e-6 * scale


@FLOORS
@DTYPES
def test_gradient_has_no_mean_and_no_part_along_x(ops, dtype):
    """y does not change when x is shifted or (but for eps) stretched, so neither does the loss."""
    x, weight, _ = arrays(500, 7, dtype)
    dy = np.random.default_rng(1).standard_normal(x.shape).astype(dtype)
    dx, dweight, _ = backward(ops, dy, x, weight)
    tolerance = 500 * np.finfo(dtype).eps
    assert np.abs(dx.sum(axis=0, dtype=np.float64)).max() <= tolerance
    along = (dx * (x - x.mean(axis=0))).sum(axis=0, dtype=np.float64)
    assert np.abs(along - weight * dweight * EPS / (x.var(axis=0) + EPS)).max() <= 20 * tolerance
    assert np.abs(dx).max() >= 0.1


@FLOORS
@DTYPES
def test_one_row_gives_the_bias_and_no_gradient(ops, dtype):
    x, weight, bias = arrays(1, 5, dtype)
    y, mean, variance = forward(ops, x, weight, bias)
    np.testing.assert_array_equal(y[0], bias)
    np.testing.assert_array_equal(mean, x[0])
    np.testing.assert_array_equal(variance, 0)
    dx, dweight, dbias = backward(ops, x + 1, x, weight)
    np.testing.assert_array_equal(dx, 0)
    np.testing.assert_array_equal(dweight, 0)
    np.testing.assert_array_equal(dbias, x[0] + 1)


@FLOORS
def test_no_rows(ops):
    x, weight, bias = arrays(0, 5)
    _, mean, variance = forward(ops, x, weight, bias)
    np.testing.assert_array_equal(mean, 0)
    np.testing.assert_array_equal(variance, 0)
    for gradient in backward(ops, x, x, weight):
        np.testing.assert_array_equal(gradient, 0)


@FLOORS
@pytest.mark.parametrize("rows", [63, 64, 65, 130, 1027])
def test_chunks_are_put_together(ops, rows):
    """A trend makes the mean of each chunk another one."""
    x, weight, bias = arrays(rows, 3)
    x += np.arange(rows)[:, None]
    _, mean, variance = forward(ops, x, weight, bias)
    np.testing.assert_allclose(mean, x.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(variance, x.var(axis=0), rtol=1e-12)


@FLOORS
@pytest.mark.parametrize(("rows", "channels"), [(1, 131_072), (4, 140_000), (3, 65_537)])
def test_more_channels_than_a_chunk_has_numbers(ops, rows, channels):
    x, weight, bias = arrays(rows, channels)
    _, mean, variance = forward(ops, x, weight, bias)
    np.testing.assert_allclose(mean, x.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(variance, x.var(axis=0), rtol=1e-12, atol=1e-14)
    z, dy = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + EPS), x + 1
    dweight, dbias = (dy * z).sum(axis=0), dy.sum(axis=0)
    dx = weight / np.sqrt(x.var(axis=0) + EPS) * (dy - dbias / rows - z * dweight / rows)
    for got, want in zip(backward(ops, dy, x, weight), (dx, dweight, dbias), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9)


@FLOORS
def test_many_rows_in_float32_keep_their_digits(ops):
    x, weight, bias = arrays(100_000, 2, "float32")
    exact = x.astype(np.float64)
    y, mean, variance = forward(ops, x, weight, bias)
    np.testing.assert_allclose(mean, exact.mean(axis=0), rtol=1e-7)
    np.testing.assert_allclose(variance, exact.var(axis=0), rtol=2e-7)
    want, _, _ = forward(reference, exact, weight.astype(float), bias.astype(float))
    assert np.abs(y - want).max() <= 2e-6
    found = backward(ops, x, x, weight)
    for got, true in zip(found, backward(reference, exact, exact, weight.astype(float))):
        assert np.abs(got - true).max() <= 1e-6 * np.abs(true).max() + 2e-6


@FLOORS
def test_a_large_mean_does_not_eat_the_variance(ops):
    """E[x^2] - E[x]^2 would be off by more than the variance itself."""
    x = (np.random.default_rng(0).standard_normal((4000, 3)) + 1e4).astype("float32")
    _, _, variance = forward(ops, x, np.ones(3, "float32"), np.zeros(3, "float32"))
    np.testing.assert_allclose(variance, x.var(axis=0, dtype=np.float64), rtol=1e-5)
    constant = np.full((4000, 3), 1e4 / 3, "float32")
    y, _, variance = forward(ops, constant, np.ones(3, "float32"), np.full(3, 7, "float32"))
    np.testing.assert_array_equal(variance, 0)
    np.testing.assert_array_equal(y, 7)


@FLOORS
@pytest.mark.parametrize("special", [np.nan, np.inf])
def test_nan_and_inf_spoil_their_channel_only(ops, special):
    x, weight, bias = arrays(40, 3, "float32")
    x[17, 1] = special
    with np.errstate(invalid="ignore"):
        y, _, _ = forward(ops, x, weight, bias)
    assert np.isnan(y[:, 1]).all() and np.isfinite(y[:, [0, 2]]).all()


def test_same_bits_for_any_thread_count():
    x, weight, bias = arrays(5003, 13, "float32")
    before, found = threads.get_threads(), []
    for count in range(1, threads.available_threads() + 1):
        threads.set_threads(count)
        found.append([*forward(kernels, x, weight, bias), *backward(kernels, x, x, weight)])
    threads.set_threads(before)
    for other in found[1:]:
        for a, b in zip(found[0], other):
            np.testing.assert_array_equal(a, b)


# --- layers --------------------------------------------------------------------------------------------------------


@FLOORS
@DTYPES
def test_running_statistics(ops, dtype):
    net = Sequential([BatchNorm1d(momentum=0.25)], (3,), dtype=dtype, ops=ops)
    layer = net.layers[0]
    np.testing.assert_array_equal(layer.running_mean, 0)
    np.testing.assert_array_equal(layer.running_var, 1)
    mean, variance = np.zeros(3), np.ones(3)
    for seed in range(4):
        x, _, _ = arrays(8, 3, dtype, seed)
        net.forward(x, train=True)
        mean = 0.75 * mean + 0.25 * x.mean(axis=0, dtype=np.float64)
        variance = 0.75 * variance + 0.25 * x.var(axis=0, ddof=1, dtype=np.float64)
    tolerance = 20 * np.finfo(dtype).eps
    np.testing.assert_allclose(layer.running_mean, mean, rtol=tolerance)
    np.testing.assert_allclose(layer.running_var, variance, rtol=tolerance)
    held = layer.running_mean.copy()
    y = net.forward(x)
    np.testing.assert_array_equal(layer.running_mean, held)
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(variance + EPS), rtol=50 * tolerance, atol=50 * tolerance)


def test_one_row_moves_the_running_variance_towards_zero():
    net = Sequential([BatchNorm1d()], (2,))
    y = net.forward(np.array([[3, -4]], "float32"), train=True)
    np.testing.assert_array_equal(y, 0)
    np.testing.assert_allclose(net.layers[0].running_mean, [0.3, -0.4], rtol=1e-6)
    np.testing.assert_allclose(net.layers[0].running_var, 0.9, rtol=1e-6)


@FLOORS
def test_images_are_normalised_by_channel(ops):
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, 3, 4, 5, 6))
    flat = Sequential([BatchNorm1d()], (6,), dtype="float64", ops=ops)
    images = Sequential([BatchNorm2d()], (4, 5, 6), dtype="float64", ops=ops)
    for net in (flat, images):
        net.layers[0].weight[...] = np.arange(6)
        net.layers[0].bias[...] = 1
    y = images.forward(x, train=True)
    np.testing.assert_array_equal(y.reshape(-1, 6), flat.forward(x.reshape(-1, 6), train=True))
    dx = images.backward(dy, input_gradient=True)
    np.testing.assert_array_equal(dx.reshape(-1, 6), flat.backward(dy.reshape(-1, 6), input_gradient=True))
    np.testing.assert_array_equal(images.grads, flat.grads)
    np.testing.assert_array_equal(images.layers[0].running_var, flat.layers[0].running_var)
    images.forward(x, train=True)
    assert images.backward(dy) is None


def test_state_is_restored_in_place():
    net, other = (Sequential([BatchNorm1d()], (3,), seed=s) for s in (0, 1))
    x, _, _ = arrays(20, 3, "float32")
    net.forward(x, train=True)
    assert list(net.state()) == ["0.running_mean", "0.running_var"]
    for name, value in other.state().items():
        value[...] = net.state()[name]
    np.testing.assert_array_equal(other.forward(x), net.forward(x))


def test_print():
    assert repr(BatchNorm1d()) == "BatchNorm1d()"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BatchNorm1d(momentum=1.5), r"BatchNorm1d: momentum: expected a finite number in \[0, 1\], got 1.5"),
        (lambda: BatchNorm2d(eps=0), r"BatchNorm2d: eps: expected a finite number in \(0, inf\), got 0"),
        (lambda: Sequential([BatchNorm1d()], (4, 4, 2)), r"shape \(D,\), got \(4, 4, 2\); use BatchNorm2d\(\)"),
        (lambda: Sequential([BatchNorm2d()], (4,)), r"shape \(H, W, C\), got \(4,\); use BatchNorm1d\(\)"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()

"""Activations: values, accuracy in ulp, extreme numbers, derivatives, kinks, and the layers around them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from scratchnet import Sequential, kernels, reference, threads
from scratchnet.layers import LeakyReLU, ReLU, Sigmoid, Softplus, Tanh
from scratchnet.layers.activations import _Activation

FLOORS = pytest.mark.parametrize("ops", [reference, kernels], ids=["reference", "kernels"])
DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])

# name -> (definition for one number, other arguments, does backward read y (or x))
DEFINITIONS = {
    "relu": (lambda v: max(v, 0.0), (), True),
    "leaky_relu": (lambda v: v if v > 0 else 0.125 * v, (0.125,), False),
    "sigmoid": (lambda v: math.exp(v) / (1 + math.exp(v)) if v < 0 else 1 / (1 + math.exp(-v)), (), True),
    "tanh": (math.tanh, (), True),
    "softplus": (lambda v: max(v, 0.0) + math.log1p(math.exp(-abs(v))), (), False),
}
NAMES = pytest.mark.parametrize("name", list(DEFINITIONS))
LAYERS = {"relu": ReLU, "leaky_relu": lambda: LeakyReLU(0.125), "sigmoid": Sigmoid, "tanh": Tanh, "softplus": Softplus}


def forward(ops, name, x):
    y = np.full_like(x, 77)
    getattr(ops, f"{name}_forward")(y, x, *DEFINITIONS[name][1])
    return y


def backward(ops, name, dy, x):
    dx = np.full_like(x, 77)
    _, scalars, reads_output = DEFINITIONS[name]
    getattr(ops, f"{name}_backward")(dx, dy, forward(ops, name, x) if reads_output else x, *scalars)
    return dx


def numbers(count=4000, dtype="float32"):
    rng = np.random.default_rng(0)
    parts = [rng.uniform(-80, 80, count), rng.standard_normal(count) * 3, 10 ** rng.uniform(-30, 0, count), [0, -0.0]]
    return np.concatenate(parts).astype(dtype)


@NAMES
@FLOORS
def test_float32_is_within_4_ulp(name, ops):
    x = numbers()
    exact = np.array([DEFINITIONS[name][0](v) for v in x.tolist()])
    ulp = np.spacing(np.abs(exact).astype("float32")).astype(np.float64)
    assert (np.abs(forward(ops, name, x) - exact) / ulp).max() <= 4


@NAMES
@FLOORS
def test_float64_is_its_definition(name, ops):
    x = numbers(500, "float64")
    exact = np.array([DEFINITIONS[name][0](v) for v in x.tolist()])
    np.testing.assert_allclose(forward(ops, name, x), exact, rtol=1e-15 * 4)


@NAMES
@FLOORS
@DTYPES
def test_extreme_numbers(name, ops, dtype):
    x = np.array([0, 1e-45, -1e-45, 88.7, -88.7, 1e4, -1e4, 3.4e38, -3.4e38, np.inf, -np.inf], dtype)
    want = np.array([DEFINITIONS[name][0](v) for v in x.tolist()], dtype)
    y = forward(ops, name, x)
    np.testing.assert_allclose(y, want, rtol=1e-6, atol=1e-30)
    finite = np.isfinite(x)
    dx = backward(ops, name, np.ones_like(x), x)
    assert np.isfinite(dx[finite]).all() and (np.abs(dx[finite]) <= 1).all()


@NAMES
@FLOORS
@DTYPES
def test_nan_stays_nan(name, ops, dtype):
    x = np.ones(40, dtype)
    x[[0, 13, 39]] = np.nan
    np.testing.assert_array_equal(np.isnan(forward(ops, name, x)), np.isnan(x))
    dy = np.ones(40, dtype)
    dy[5] = np.nan
    assert np.isnan(backward(ops, name, dy, np.ones(40, dtype))[5])
    if name != "leaky_relu":  # its derivative is one of two constants, chosen by a comparison
        assert np.isnan(backward(ops, name, np.ones(40, dtype), x)[[0, 13, 39]]).all()


@NAMES
@FLOORS
def test_gradient_is_the_derivative(name, ops):
    rng = np.random.default_rng(0)
    x = rng.uniform(0.01, 4, 300) * rng.choice([-1, 1], 300)  # away from the kink
    dy = rng.standard_normal(300)
    f, h = DEFINITIONS[name][0], 1e-3
    slope = [(f(v - 2 * h) - 8 * f(v - h) + 8 * f(v + h) - f(v + 2 * h)) / (12 * h) for v in x.tolist()]
    np.testing.assert_allclose(backward(ops, name, dy, x), dy * np.array(slope), rtol=1e-8, atol=1e-10)


@FLOORS
def test_at_the_kink(ops):
    zero, one = np.array([0.0, -0.0]), np.ones(2)
    np.testing.assert_array_equal(backward(ops, "relu", one, zero), 0)
    np.testing.assert_array_equal(backward(ops, "leaky_relu", one, zero), 0.125)


@FLOORS
def test_an_inactive_unit_passes_no_gradient(ops):
    dy = np.array([np.nan, np.inf, 5.0])
    np.testing.assert_array_equal(backward(ops, "relu", dy, np.array([-1.0, -1.0, -1.0])), 0)


@NAMES
def test_same_bits_for_any_thread_count(name):
    x = np.random.default_rng(0).standard_normal(40_013).astype("float32")
    before, found = threads.get_threads(), []
    for count in range(1, threads.available_threads() + 1):
        threads.set_threads(count)
        found.append((forward(kernels, name, x), backward(kernels, name, x[::-1].copy(), x)))
    threads.set_threads(before)
    for y, dx in found[1:]:
        np.testing.assert_array_equal(y, found[0][0])
        np.testing.assert_array_equal(dx, found[0][1])


# --- layers --------------------------------------------------------------------------------------------------------


@NAMES
@FLOORS
@pytest.mark.parametrize("shape", [(7,), (4, 5, 3)])
def test_layers_call_their_operations(name, ops, shape):
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, 6, *shape)).astype("float32")
    net = Sequential([LAYERS[name]()], shape, ops=ops)
    assert net.output_shape == shape and net.params.size == 0
    np.testing.assert_array_equal(net.forward(x, train=True), forward(ops, name, x))
    np.testing.assert_array_equal(net.backward(dy, input_gradient=True), backward(ops, name, dy, x))
    net.forward(x[:2], train=True)
    assert net.backward(dy[:2]) is None


@pytest.mark.parametrize("layer", [ReLU(), LeakyReLU(0.0), LeakyReLU(0.1)], ids=repr)
def test_kinks_tell_the_side(layer):
    assert layer.kinks() is None
    net = Sequential([layer], (3,), dtype="float64")
    net.forward(np.array([[1, -1, 0], [-5, 1e-300, 2]], "float64"))
    np.testing.assert_array_equal(layer.kinks(), [[1, 0, 0], [0, 1, 1]])
    net.forward(np.array([[-1.0, -1, 5]]), train=True)
    np.testing.assert_array_equal(layer.kinks(), [[0, 0, 1]])


@pytest.mark.parametrize("make", [Sigmoid, Tanh, Softplus])
def test_smooth_layers_have_no_kinks(make):
    assert make().kinks() is None


def test_an_activation_without_operations_says_so():
    unfinished, x = _Activation(), np.zeros((1, 3), "float32")
    with pytest.raises(NotImplementedError):
        Sequential([unfinished], (3,)).forward(x)
    with pytest.raises(NotImplementedError):
        unfinished._differentiate(x, x, x)


def test_print():
    assert [repr(make()) for make in (ReLU, LeakyReLU, Sigmoid)] == ["ReLU()", "LeakyReLU(0.01)", "Sigmoid()"]


@pytest.mark.parametrize(
    ("slope", "error", "message"),
    [
        (-0.1, ValueError, r"LeakyReLU: slope: expected a finite number in \[0, inf\), got -0.1"),
        (math.nan, ValueError, "LeakyReLU: slope: expected a finite number"),
        ("0.1", TypeError, "LeakyReLU: slope: expected a number, got '0.1'"),
    ],
)
def test_a_bad_slope_is_refused(slope, error, message):
    with pytest.raises(error, match=message):
        LeakyReLU(slope)

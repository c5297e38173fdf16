"""Residual: the sum and its gradient, layers inside layers, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from scratchnet import Sequential, kernels, reference
from scratchnet.layers import BatchNorm1d, Dense, Dropout, ReLU, Residual, Tanh

FLOORS = pytest.mark.parametrize("ops", [reference, kernels], ids=["reference", "kernels"])


@FLOORS
def test_operations_add(ops):
    a, b = np.random.default_rng(0).integers(-9, 9, (2, 3, 4, 5)).astype("float32")
    for operation in (ops.residual_forward, ops.residual_backward):
        total = np.empty_like(a)
        operation(total, a, b)
        np.testing.assert_array_equal(total, a + b)


@FLOORS
def test_forward_and_backward_are_the_sum(ops):
    """Against the same two layers without the shortcut."""
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, 5, 4))
    plain = Sequential([Dense(4), Tanh()], (4,), dtype="float64", ops=ops)
    block = Sequential([Residual([Dense(4), Tanh()])], (4,), dtype="float64", ops=ops)
    block.params[...] = plain.params
    np.testing.assert_array_equal(block.forward(x, train=True), x + plain.forward(x, train=True))
    np.testing.assert_array_equal(block.backward(dy, input_gradient=True), dy + plain.backward(dy, input_gradient=True))
    np.testing.assert_array_equal(block.grads, plain.grads)
    block.grads[...] = np.nan
    block.forward(x, train=True)
    assert block.backward(dy) is None
    np.testing.assert_array_equal(block.grads, plain.grads)


@FLOORS
def test_gradient_is_the_derivative_through_nested_blocks(ops):
    layers = [Dense(3), Residual([BatchNorm1d(), Tanh(), Residual([Dense(3), Dropout(0.3)])]), Dense(2)]
    net = Sequential(layers, (4,), dtype="float64", ops=ops)
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((6, 4)), rng.standard_normal((6, 2))
    state = {name: value.copy() for name, value in net.state().items()}

    def loss():
        for name, value in net.state().items():
            value[...] = state[name]
        return np.sum(dy * net.forward(x, train=True))

    loss()
    dx = net.backward(dy, input_gradient=True).copy()
    gradients = net.grads.copy()
    for values, gradient in ((net.params, gradients), (x, dx)):
        v = rng.standard_normal(values.shape)
        origin, total, h = values.copy(), 0.0, 1e-4
        for factor, coefficient in ((-2, 1), (-1, -8), (1, 8), (2, -1)):
            values[...] = origin + factor * h * v
            total += coefficient * loss()
        values[...] = origin
        want = np.sum(gradient * v)
        assert abs(total / (12 * h) - want) <= 1e-7 * abs(want)


def test_layers_inside_are_named_and_kept():
    net = Sequential([Residual([Dense(4), Residual([BatchNorm1d(), Dropout()])])], (4,))
    assert list(net.parameters()) == ["0.0.weight", "0.0.bias", "0.1.0.weight", "0.1.0.bias"]
    assert list(net.state()) == ["0.1.0.running_mean", "0.1.0.running_var", "0.1.1.step"]
    assert repr(net.layers[0]) == "Residual([Dense(4), Residual([BatchNorm1d(), Dropout(0.5)])])"
    assert net.layers[0].memory(10) > net.layers[0].layers[1].memory(10) > 0


@FLOORS
def test_a_branch_that_returns_its_input(ops):
    """Dropout hands x through in inference: nothing may be written into it."""
    net = Sequential([Residual([Dropout()]), ReLU()], (3,), ops=ops)
    x = np.array([[1, -2, 3]], "float32")
    np.testing.assert_array_equal(net.forward(x), [[2, 0, 6]])
    np.testing.assert_array_equal(x, [[1, -2, 3]])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: Sequential([Residual([Dense(5)])], (4,)),
            ValueError,
            r"Residual: expected its layers to keep the shape \(4,\), .* got \(5,\); use as many units or channels",
        ),
        (lambda: Residual([]), ValueError, "Residual: expected at least one layer"),
        (lambda: Residual([ReLU]), TypeError, r"Residual: expected layer objects, got <class .*; write e.g. Residual"),
    ],
)
def test_bad_input_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()

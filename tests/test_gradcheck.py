"""Every layer, loss and net against finite differences, and the checker against planted errors."""

from __future__ import annotations

import math
import types

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from scratchnet import SGD, Sequential, evaluate, kernels, layers, losses, mse, reference, train
from scratchnet.gradcheck import Report, check_gradients
from scratchnet.gradcheck_suite import check_everything, layer_nets
from scratchnet.layers import (
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    Conv2d,
    Dense,
    Dropout,
    LeakyReLU,
    MaxPool2d,
    ReLU,
    Residual,
    Sigmoid,
    Softplus,
    Tanh,
)
from scratchnet.network import walk

pytestmark = pytest.mark.jit_only  # thousands of forward passes: too slow as plain Python
FLOORS = pytest.mark.parametrize("ops", [reference, kernels], ids=["reference", "kernels"])
SOME = settings(max_examples=15, deadline=None, derandomize=True)


@FLOORS
def test_everything_the_command_checks(ops):
    checked = 0
    for name, _, report in check_everything(ops):
        assert report.passed, f"{name}\n{report}"
        checked += 1
    assert checked > 25


def test_the_command_checks_every_layer():
    checked = {type(layer).__name__ for _, built, _ in layer_nets() for _, layer in walk(built)}
    assert checked >= {name for name, kind in vars(layers).items() if isinstance(kind, type)} - {"Layer"}


def test_the_command_checks_every_backward_operation():
    called = set()
    counting = types.ModuleType("counting")
    for name, operation in vars(kernels).items():
        if not callable(operation):
            continue

        def count(*args, name=name, operation=operation):
            called.add(name)
            operation(*args)

        setattr(counting, name, count)
    assert all(report.passed for *_, report in check_everything(counting))
    assert called >= {name for name in vars(kernels) if "_backward" in name}


def check(layers, shape, rows, seed, ops=kernels) -> Report:
    rng = np.random.default_rng(seed)
    net = Sequential(layers, shape, seed, "float64", ops)
    x = rng.standard_normal((rows, *shape))
    weights = rng.standard_normal((rows, *net.output_shape))

    def weighted_sum(outputs, target):
        """A loss whose gradient is known and different for every output."""
        return float((outputs * target + 0.5 * outputs**2).sum()), target + outputs

    return check_gradients(net, weighted_sum, x, weights, max_coordinates=60, directions=6)


@SOME
@given(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9), st.booleans(), st.integers(0, 99))
def test_dense_of_any_size(rows, features, units, bias, seed):
    report = check([Tanh(), Dense(units, bias=bias)], (features,), rows, seed)
    assert report.passed, report


@SOME
@given(
    st.integers(1, 3),
    st.tuples(st.integers(1, 7), st.integers(1, 7), st.integers(1, 3)),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.sampled_from(["valid", "same", 1]),
    st.sampled_from([Conv2d, MaxPool2d, AvgPool2d]),
    st.integers(0, 99),
)
def test_windows_of_any_size(rows, shape, kernel, stride, padding, kind, seed):
    try:
        layer = Conv2d(2, kernel, stride=stride, padding=padding) if kind is Conv2d else kind(kernel, stride, padding)
        net = Sequential([Tanh(), layer], shape)
    except ValueError:
        reject()  # a misfit; were all refused, hypothesis would fail
    assert net.output_shape
    layer = Conv2d(2, kernel, stride=stride, padding=padding) if kind is Conv2d else kind(kernel, stride, padding)
    report = check([Tanh(), layer], shape, rows, seed)
    assert report.passed, report


@SOME
@given(
    st.integers(2, 5),
    st.integers(1, 9),
    st.sampled_from([ReLU, LeakyReLU, Sigmoid, Tanh, Softplus, Dropout, BatchNorm1d]),
    st.integers(0, 99),
)
def test_layers_without_shape_of_their_own(rows, features, kind, seed):
    report = check([Dense(features), kind(), Dense(2)], (4,), rows, seed)
    assert report.passed, report


@SOME
@given(st.integers(1, 3), st.integers(2, 6), st.integers(1, 3), st.integers(0, 99))
def test_batch_norm_over_images(rows, side, channels, seed):
    report = check([Conv2d(channels, 2), BatchNorm2d(), Tanh()], (side, side, 2), rows, seed)
    assert report.passed, report


@SOME
@given(st.integers(1, 3), st.integers(1, 6), st.integers(0, 99))
def test_residual_of_any_size(rows, features, seed):
    report = check(
        [Residual([Dense(features), Tanh(), Residual([Dense(features), Softplus()])])], (features,), rows, seed
    )
    assert report.passed, report


@SOME
@given(
    st.sampled_from(["mean", "sum", "batchmean"]),
    st.booleans(),
    st.integers(1, 5),
    st.integers(1, 6),
    st.integers(0, 99),
)
def test_losses_with_every_reduction(reduction, weighted, rows, units, seed):
    rng = np.random.default_rng(seed)
    options = {"reduction": reduction, "sample_weight": rng.uniform(0.1, 2, rows) if weighted else None}
    cases = [
        (losses.softmax_cross_entropy, rng.integers(0, units, rows)),
        (losses.binary_cross_entropy, rng.uniform(0, 1, (rows, units))),
        (losses.mse, rng.standard_normal((rows, units))),
    ]
    net = Sequential([Dense(units)], (3,), seed, "float64")
    x = rng.standard_normal((rows, 3))
    for loss, target in cases:
        report = check_gradients(net, lambda o, t, loss=loss: loss(o, t, **options), x, target)
        assert report.passed, f"{loss.__name__}\n{report}"


@pytest.mark.parametrize("part", ["0.weight", "0.bias", "2.weight", "2.bias"])
def test_a_planted_error_of_a_thousandth_is_caught(part):
    net = Sequential([Dense(5), Tanh(), Dense(3)], (4,), dtype="float64")
    layer, name = net.layers[int(part[0])], part[2:]
    original = layer._backward

    def planted(dy, kept, input_gradient):
        dx = original(dy, kept, input_gradient)
        getattr(layer, f"d{name}")[...] *= 1.001
        return dx

    layer._backward = planted
    x, labels = np.random.default_rng(0).standard_normal((3, 4)), np.array([0, 1, 2])
    report = check_gradients(net, losses.softmax_cross_entropy, x, labels)
    assert not report.passed
    assert [row.name for row in report.rows if not row.passed] == [part]
    assert "WRONG" in str(report) and "FAILED" in str(report)
    assert 5e-4 < report.max_error < 2e-3


def test_a_planted_error_is_caught_along_random_directions():
    net = Sequential([Dense(40), Tanh(), Dense(3)], (30,), dtype="float64")
    original = net.layers[0]._backward

    def planted(dy, kept, input_gradient):
        dx = original(dy, kept, input_gradient)
        net.layers[0].dweight[...] *= 1.001
        return dx

    x, labels = np.random.default_rng(0).standard_normal((3, 30)), np.array([0, 1, 2])
    assert check_gradients(net, losses.softmax_cross_entropy, x, labels, max_coordinates=100).passed
    net.layers[0]._backward = planted
    assert not check_gradients(net, losses.softmax_cross_entropy, x, labels, max_coordinates=100).passed


@pytest.mark.parametrize("factor", [1.001, 1.00001])
def test_a_planted_error_in_one_number_is_caught(factor):
    """Of a hundred-thousandth, too: the largest error counts, while the mean over 20 numbers would pass."""
    net = Sequential([Dense(5), Tanh(), Dense(3)], (4,), dtype="float64")
    original = net.layers[0]._backward

    def planted(dy, kept, input_gradient):
        dx = original(dy, kept, input_gradient)
        net.layers[0].dweight[np.unravel_index(np.abs(net.layers[0].dweight).argmax(), (4, 5))] *= factor
        return dx

    net.layers[0]._backward = planted
    x, labels = np.random.default_rng(0).standard_normal((3, 4)), np.array([0, 1, 2])
    assert not check_gradients(net, losses.softmax_cross_entropy, x, labels).passed


def test_a_wrong_input_gradient_is_caught():
    net = Sequential([Dense(5), Tanh(), Dense(3)], (4,), dtype="float64")
    original = net.layers[0]._backward
    net.layers[0]._backward = lambda *args: original(*args) * 1.001
    x, labels = np.random.default_rng(0).standard_normal((3, 4)), np.array([0, 1, 2])
    report = check_gradients(net, losses.softmax_cross_entropy, x, labels)
    assert [row.name for row in report.rows if not row.passed] == ["input"]


def test_a_nan_gradient_fails():
    net = Sequential([Dense(3)], (4,), dtype="float64")
    original = net.layers[0]._backward

    def planted(dy, kept, input_gradient):
        dx = original(dy, kept, input_gradient)
        net.layers[0].dbias[0] = math.nan
        return dx

    net.layers[0]._backward = planted
    report = check_gradients(net, losses.softmax_cross_entropy, np.ones((2, 4)), np.array([0, 1]))
    assert report.verdict == "WRONG" and not report.passed and math.isnan(report.max_error)


def test_kinks_are_counted_and_left_out():
    """At x = 0 every ReLU sits on its kink: no step avoids it, and nothing checked is no proof."""
    net = Sequential([ReLU(), Dense(2)], (3,), dtype="float64")
    report = check_gradients(net, losses.softmax_cross_entropy, np.zeros((2, 3)), np.array([0, 1]))
    rows = {row.name: row for row in report.rows}
    assert rows["input"].skipped == 6 and rows["input"].checked == 0
    assert not rows["input"].passed and rows["0.weight" if "0.weight" in rows else "1.weight"].passed
    assert report.verdict == "NOT CHECKED" and "NOT CHECKED" in str(report)


def test_too_few_checked_is_no_verdict_of_wrong():
    """What could be checked is right, but two thirds lay on kinks."""
    net = Sequential([ReLU(), Dense(2)], (5,), dtype="float64")
    x = np.zeros((4, 5))
    x[:, 0] = 1
    report = check_gradients(net, losses.softmax_cross_entropy, x, np.array([0, 1, 0, 1]))
    row = next(row for row in report.rows if row.name == "input")
    assert row.checked == 4 and row.skipped == 16 and row.max_error <= report.tolerance and not row.passed
    assert report.verdict == "NOT CHECKED" and "WRONG" not in str(report)


def test_the_net_is_left_as_it_was():
    net = Sequential([Dense(4), BatchNorm1d(), Dropout(0.5), Dense(3)], (4,), dtype="float64")
    params, state = net.params.copy(), {k: v.copy() for k, v in net.state().items()}
    x = np.random.default_rng(0).standard_normal((3, 4))
    kept = x.copy()
    check_gradients(net, losses.softmax_cross_entropy, x, np.array([0, 1, 2]))
    np.testing.assert_array_equal(net.params, params)
    np.testing.assert_array_equal(x, kept)
    for name, value in net.state().items():
        np.testing.assert_array_equal(value, state[name])


def test_refusals():
    x, labels = np.ones((2, 4)), np.array([0, 1])
    with pytest.raises(ValueError, match='build the net with dtype="float64"'):
        check_gradients(Sequential([Dense(3)], (4,)), losses.softmax_cross_entropy, x.astype("f"), labels)
    net = Sequential([Dense(3)], (4,), dtype="float64")
    with pytest.raises(ValueError, match="tolerance"):
        check_gradients(net, losses.softmax_cross_entropy, x, labels, tolerance=0)
    with pytest.raises(TypeError, match="check_gradients: loss: expected a function such as softmax_cross_entropy"):
        check_gradients(net, "mse", x, labels)
    with pytest.raises(TypeError, match=r"check_gradients: loss: expected one that returns \(loss, gradient\)"):
        check_gradients(net, lambda outputs, labels: 1.0, x, labels)
    net.params[0] = math.nan
    with pytest.raises(ValueError, match="expected a finite loss"):
        check_gradients(net, losses.softmax_cross_entropy, x, labels)


def test_a_net_that_is_not_deterministic_is_refused():
    net = Sequential([Dense(3)], (4,), dtype="float64")
    rng = np.random.default_rng(0)

    def noisy(outputs, labels):
        value, gradient = losses.softmax_cross_entropy(outputs, labels)
        return value, gradient * (1 + 1e-9 * rng.random())

    with pytest.raises(ValueError, match="not deterministic"):
        check_gradients(net, noisy, np.ones((2, 4)), np.array([0, 1]))


def test_a_refusal_leaves_the_state_as_it_was():
    net = Sequential([Dense(3), BatchNorm1d(), Dropout(0.5), Dense(3)], (4,), dtype="float64")
    state = {name: value.copy() for name, value in net.state().items()}
    with pytest.raises(ValueError, match="expected a finite loss"):
        check_gradients(net, losses.softmax_cross_entropy, np.full((2, 4), np.inf), np.array([0, 1]))
    for name, value in net.state().items():
        np.testing.assert_array_equal(value, state[name])


@pytest.mark.parametrize("takes_ops", [False, True])
def test_a_loss_of_ones_own_is_checked_trained_and_evaluated(takes_ops):
    floors = []

    def with_ops(outputs, y, ops):
        floors.append(ops)
        return mse(outputs, y, ops=ops)

    def plain(outputs, y):
        return mse(outputs, y)

    loss, rng = with_ops if takes_ops else plain, np.random.default_rng(0)
    net = Sequential([Dense(2)], (3,), dtype="float64", ops=reference)
    x, y = rng.standard_normal((8, 3)), rng.standard_normal((8, 2))
    assert check_gradients(net, loss, x, y).passed
    train(net, SGD(net.params, ops=reference), x, y, 1, loss=loss, show=False)
    assert np.isfinite(evaluate(net, x, y, loss=loss)[0])
    assert set(floors) == ({reference} if takes_ops else set())


def test_a_loss_that_raises_leaves_the_net_as_it_was():
    net = Sequential([Dense(3), Dropout(0.5), Dense(2)], (4,), dtype="float64")
    before, steps, calls = net.params.copy(), net.state()["1.step"].copy(), []

    def loss(outputs, labels):
        calls.append(0)
        if len(calls) == 12:
            raise KeyboardInterrupt
        return losses.softmax_cross_entropy(outputs, labels)

    with pytest.raises(KeyboardInterrupt):
        check_gradients(net, loss, np.ones((2, 4)), np.array([0, 1]))
    np.testing.assert_array_equal(net.params, before)
    np.testing.assert_array_equal(net.state()["1.step"], steps)


def test_a_kink_nearby_is_avoided_by_a_smaller_step():
    net = Sequential([ReLU(), Dense(2)], (3,), dtype="float64")
    report = check_gradients(net, losses.softmax_cross_entropy, np.full((2, 3), 1e-4), np.array([0, 1]))
    assert report.passed and sum(row.skipped for row in report.rows) == 0


def test_a_large_array_is_checked_along_as_many_directions_as_asked_for():
    net = Sequential([Dense(4)], (5,), dtype="float64")
    x = np.random.default_rng(0).standard_normal((2, 5))
    x.flags.writeable = False
    report = check_gradients(net, losses.softmax_cross_entropy, x, np.array([0, 1]), max_coordinates=10, directions=7)
    assert {row.name: row.checked for row in report.rows} == {"0.weight": 7, "0.bias": 4, "input": 10}

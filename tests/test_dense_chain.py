"""Dense layers in a chain: the same bits as layer by layer, whether they run in one launch or in many."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from test_conv import BOTH_FLOORS

from scratchnet import Sequential, kernels, softmax_cross_entropy
from scratchnet.gradcheck import check_gradients
from scratchnet.kernels import dense_chain
from scratchnet.layers import BatchNorm1d, Dense, Dropout, ReLU
from scratchnet.layers.joined import DenseChain

SMALL, LARGE = (64, 64, 10), (40, 200, 130, 10)  # the products of LARGE are worth threads at 128 rows
WIDTHS = st.lists(st.sampled_from([1, 2, 3, 7, 16, 17, 65]), min_size=2, max_size=5)


def problem(rows, widths, seed, dtype):
    """dy, x and parameters: small integers, whose sums are exact in any order."""
    rng = np.random.default_rng(seed)
    count = sum((d + 1) * u for d, u in pairwise(widths))
    shapes = (rows, widths[-1]), (rows, widths[0]), (count,)
    return [rng.integers(-2, 3, shape).astype(dtype) for shape in shapes]


def chained(ops, dy, x, params, widths, rectify_last):
    """(ys, dx, dparams, dzs), by the two operations."""
    ys = np.full(len(x) * sum(widths[1:]), 77, x.dtype)
    written = [np.full_like(a, 77) for a in (x, params, ys)]
    ops.dense_chain_forward(ys, x, params, widths, rectify_last)
    ops.dense_chain_backward(*written, dy, ys, x, params, widths, rectify_last)
    return ys, *written


def one_by_one(dy, x, params, widths, rectify_last):
    """The same, written out: NumPy's products, and nothing of the operations."""
    inputs, weights, end = [x], [], 0
    for d, u in pairwise(widths):
        start, end = end, end + (d + 1) * u
        weights.append(params[start : end - u].reshape(d, u))
        z = inputs[-1] @ weights[-1] + params[end - u : end]
        inputs.append(np.maximum(z, 0) if end < params.size or rectify_last else z)
    dz, dparams, dzs = dy * (inputs[-1] > 0) if rectify_last else dy, [], []
    for before, weight in zip(reversed(inputs[:-1]), reversed(weights)):
        dparams[:0], dzs[:0] = [(before.T @ dz).ravel(), dz.sum(axis=0)], [dz.ravel()]
        dx = dz @ weight.T
        dz = dx * (before > 0)
    return np.concatenate([y.ravel() for y in inputs[1:]]), dx, np.concatenate(dparams), np.concatenate(dzs)


@BOTH_FLOORS
@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), WIDTHS, st.booleans(), st.integers(0, 99), st.sampled_from("fd"))
def test_chained_equals_one_by_one(ops, rows, widths, rectify_last, seed, dtype):
    arguments = *problem(rows, tuple(widths), seed, dtype), tuple(widths), rectify_last
    for got, want in zip(chained(ops, *arguments), one_by_one(*arguments), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("widths", [SMALL, LARGE])
def test_inputs_of_any_steps_are_understood(widths):
    dy, x, params = problem(256, widths, 0, "f")
    arguments = dy[::2], x[::-2], params, widths, True
    for got, want in zip(chained(kernels, *arguments), one_by_one(*arguments), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("rectify_last", [True, False])
@pytest.mark.parametrize("widths", [SMALL, LARGE])
def test_small_and_large_layers_give_equal_bits(widths, rectify_last, monkeypatch):
    """The one launch and the many, on real numbers."""
    rng = np.random.default_rng(0)
    arguments = [rng.standard_normal(a.shape, np.float32) for a in problem(128, widths, 0, "f")]
    results = []
    for limit in (1, 10**9):
        monkeypatch.setattr(dense_chain, "APART_FROM", limit)
        dense_chain._plans.cache_clear()
        results.append(chained(kernels, *arguments, widths, rectify_last))
    dense_chain._plans.cache_clear()
    for got, want in zip(*results, strict=True):
        np.testing.assert_array_equal(got, want)


@BOTH_FLOORS
@pytest.mark.parametrize("widths", [SMALL, LARGE])
def test_dx_is_skipped_when_empty(ops, widths):
    dy, x, params = problem(128, widths, 3, "f")
    ys, _, want, _ = chained(ops, dy, x, params, widths, False)
    dparams = np.empty_like(params)
    ops.dense_chain_backward(np.empty((0, 0), "f"), dparams, np.empty_like(ys), dy, ys, x, params, widths, False)
    np.testing.assert_array_equal(dparams, want)


# --- in a net ----------------------------------------------------------------------------------------------------


def mlp(hidden=5, **options):
    return Sequential([Dense(hidden), ReLU(), Dense(4), ReLU(), Dense(3)], (6,), **options)


def test_what_is_joined():
    class Odd(ReLU):
        """Some other function."""

    def steps(*layers):
        net = Sequential([*layers, Dense(3)], (6,))
        return [len(step.chain) if isinstance(step, DenseChain) else type(step) for step in net._steps]

    assert steps(Dense(5), ReLU()) == [3]
    assert steps(Dense(5), ReLU(), Dropout(0.5), Dense(5), ReLU(), ReLU()) == [2, Dropout, 2, ReLU, Dense]
    assert steps(Dense(5), Dense(4)) == [Dense, Dense, Dense]
    assert steps(ReLU(), Dense(5), Odd()) == [ReLU, Dense, Odd, Dense]
    assert steps(Dense(5, bias=False), BatchNorm1d(), ReLU()) == [Dense, BatchNorm1d, ReLU, Dense]
    net = mlp(join=False)
    assert net._steps == net.layers
    net = mlp()
    assert repr(net._steps[0]) == "Dense(5), ReLU(), Dense(4), ReLU(), Dense(3)"
    with pytest.raises(ValueError, match=r"Dense\.forward: x: expected shape \(N, 6\), got \(2, 5\)"):
        net.forward(np.ones((2, 5), np.float32))
    with pytest.raises(ValueError, match=r"Dense, ReLU, Dense, ReLU, Dense\.backward: dy: expected shape \(2, 3\)"):
        net.forward(np.ones((2, 6), np.float32), train=True)
        net.backward(np.ones((2, 4), np.float32))


@BOTH_FLOORS
@pytest.mark.parametrize("rows", [[7], [300], [7, 300, 9, 7]])
@pytest.mark.parametrize("sparse", [False, True])
def test_a_joined_net_computes_the_same(ops, rows, sparse):
    """At sizes above and below a launch for each layer, and when they change from batch to batch."""
    joined, apart = (mlp(800, ops=ops, join=join) for join in (True, False))
    rng = np.random.default_rng(0)
    for count in rows:
        x, dy = rng.standard_normal((count, 6)).astype("f"), rng.standard_normal((count, 3)).astype("f")
        batch = scipy.sparse.csr_matrix(np.maximum(x, 0)) if sparse else x
        results = []
        for net in (joined, apart):
            y = net.forward(batch, train=True).copy()
            dx = net.backward(dy, input_gradient=not sparse)
            results.append([y, net.grads.copy(), net.forward(batch), *([] if sparse else [dx.copy()])])
        for got, want in zip(*results, strict=True):
            np.testing.assert_array_equal(got, want)
        for one, other in zip(joined.layers, apart.layers):
            np.testing.assert_array_equal(one.kinks(), other.kinks())


def test_a_layer_by_itself_leaves_the_net_alone():
    net, rng = mlp(), np.random.default_rng(0)
    x, dy = rng.standard_normal((4, 6)).astype("f"), rng.standard_normal((4, 3)).astype("f")
    net.forward(x, train=True)
    net.backward(dy)
    want = net.grads.copy()
    net.forward(x, train=True)
    hidden = -x
    for layer in net.layers:
        hidden = layer.forward(hidden, train=True)
    net.layers[4].backward(np.ones_like(hidden))
    net.backward(dy)
    np.testing.assert_array_equal(net.grads, want)


@pytest.mark.jit_only
@BOTH_FLOORS
def test_gradients_pass_the_check(ops):
    net = mlp(dtype="float64", ops=ops)
    x = np.random.default_rng(0).standard_normal((5, 6))
    report = check_gradients(net, lambda o, y: softmax_cross_entropy(o, y, ops=ops), x, np.array([0, 2, 1, 1, 0]))
    assert report.passed, report


def test_the_summary_says_what_runs_as_one():
    net, rows = mlp(), mlp().summary(64).splitlines()[3:]
    assert ["joined to layer 4" in row for row in rows[:5]] == [True] * 4 + [False]
    assert "joined" not in mlp(join=False).summary()
    net.forward(np.zeros((64, 6), np.float32), train=True)
    net.backward(np.zeros((64, 3), np.float32))
    held = sum(b.nbytes for b in net._steps[0]._buffers.values()) + 2 * net.params.nbytes
    assert all(not layer._buffers for layer in net.layers)
    assert abs(float(rows[-1].split()[-2]) * 1024 - held) <= 0.05 * held

"""Convolution, ReLU and max pooling as one: the same bits as one by one, on both floors and any thread count.

The fast floor computes the larger ones by Winograd, unless a test switches that off.
"""

from __future__ import annotations

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_conv import BOTH_FLOORS, geometries
from test_winograd import BOUND

from scratchnet import Sequential, kernels, reference, softmax_cross_entropy
from scratchnet.gradcheck import check_gradients
from scratchnet.kernels import jit, winograd
from scratchnet.layers import BatchNorm2d, Conv2d, Dense, Flatten, MaxPool2d, ReLU
from scratchnet.layers.joined import ConvReLUPool

SOME = settings(max_examples=40, deadline=None)
POOLS = st.tuples(*[st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(0, 1))] * 2)


def joined(ops, x, weight, bias, dy, size, windows):
    """(y, index, dx, dweight, dbias), by the joined operations."""
    y, index = np.empty_like(dy), np.full(dy.shape, 77, np.uint8)
    gradients = [np.full_like(a, 77) for a in (x, weight, bias)]
    ops.conv2d_relu_max_pool2d_forward(y, index, x, weight, bias, size, *windows)
    ops.conv2d_relu_max_pool2d_backward(*gradients, dy, y, index, x, weight, size, *windows)
    return y, index, *gradients


def apart(ops, x, weight, bias, dy, size, windows):
    """The same, layer by layer: ReLU is differentiated on the whole image, before the pool forgets it."""
    conv, pool = windows[:2], windows[2:]
    image, index = np.empty((x.shape[0], *size, weight.shape[3]), x.dtype), np.empty(dy.shape, np.uint8)
    y, dx, dweight, dbias = (np.empty_like(a) for a in (dy, x, weight, bias))
    ops.conv2d_forward(image, x, weight, bias, *conv)
    ops.relu_forward(image, image)
    ops.max_pool2d_forward(y, index, image, *pool)
    dimage = np.empty_like(image)
    ops.max_pool2d_backward(dimage, dy, index, *pool)
    ops.relu_backward(dimage, dimage, image)
    ops.conv2d_backward_weight(dweight, dbias, x, dimage, *conv)
    ops.conv2d_backward_input(dx, dimage, weight, *conv)
    return y, index, dx, dweight, dbias


def problem(geometry, units, pool, seed, dtype="float32"):
    """Arguments of the two functions above; None where no pooling window fits."""
    images, channels, image, size, kernel_size, stride, padding = geometry
    before = tuple(min(p, k // 2) for k, _, p in pool)
    kernel, step = tuple(k for k, _, _ in pool), tuple(s for _, s, _ in pool)
    pooled = tuple((cells + 2 * b - k) // s + 1 for cells, b, k, s in zip(size, before, kernel, step))
    if min(pooled) < 1 or any((n - 1) * s >= c + b for n, s, c, b in zip(pooled, step, size, before)):
        return None
    rng = np.random.default_rng(seed)
    shapes = (images, *image, channels), (*kernel_size, channels, units), (units,), (images, *pooled, units)
    x, weight, bias, dy = (rng.integers(-4, 5, shape).astype(dtype) for shape in shapes)
    return x, weight, bias, dy, size, (stride, padding, kernel, step, before)


@BOTH_FLOORS
@SOME
@given(geometries(), st.sampled_from([1, 3, 16, 17, 40]), POOLS, st.integers(0, 99), st.sampled_from("fd"))
def test_joined_equals_one_by_one(ops, geometry, units, pool, seed, dtype):
    """Integers: ties and zeros, and sums that are exact in any order."""
    arguments = problem(geometry, units, pool, seed, dtype)
    if arguments is not None:
        for got, want in zip(joined(ops, *arguments), apart(reference, *arguments)):
            np.testing.assert_array_equal(got, want)


REAL = [
    ((9, 28, 28, 1), (3, 3, 1, 32), (26, 26), ((1, 1), (0, 0), (2, 2), (2, 2), (0, 0)), (13, 13)),
    ((5, 13, 13, 8), (3, 3, 8, 24), (13, 13), ((1, 1), (1, 1), (3, 3), (2, 2), (1, 1)), (7, 7)),
]


WINOGRAD = [  # these reach the transforms; the first two are quick
    ((3, 6, 9, 17), (3, 3, 17, 18), (6, 9), ((1, 1), (1, 1), (2, 2), (2, 2), (0, 0)), (3, 4)),
    ((2, 5, 9, 16), (5, 5, 16, 33), (5, 9), ((1, 1), (2, 2), (3, 3), (2, 2), (1, 1)), (3, 5)),
    ((34, 13, 13, 32), (3, 3, 32, 64), (11, 11), ((1, 1), (0, 0), (2, 2), (2, 2), (0, 0)), (5, 5)),
    ((5, 16, 16, 64), (5, 5, 64, 64), (16, 16), ((1, 1), (2, 2), (3, 3), (2, 2), (1, 1)), (8, 8)),
    ((34, 8, 8, 64), (5, 5, 64, 128), (8, 8), ((1, 1), (2, 2), (3, 3), (2, 2), (1, 1)), (4, 4)),
    ((2, 67, 130, 16), (5, 5, 16, 24), (67, 130), ((1, 1), (2, 2), (2, 2), (3, 3), (1, 1)), (23, 44)),
]
QUICK = WINOGRAD[:2] if numba.config.DISABLE_JIT else WINOGRAD


@pytest.fixture
def switch():
    before = winograd._on
    winograd.use(True)
    yield winograd.use
    winograd.use(before)


def real_problem(case, dtype="float32", seed=0):
    shape, kernel, size, windows, pooled = case
    rng = np.random.default_rng(seed)
    shapes = shape, kernel, kernel[3:], (shape[0], *pooled, kernel[3])
    return *(rng.standard_normal(s).astype(dtype) for s in shapes), size, windows


@pytest.mark.jit_only
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", REAL)
def test_the_forward_bits_are_those_of_one_by_one(case, dtype):
    arguments = real_problem(case, dtype)
    ours, theirs = joined(kernels, *arguments), apart(kernels, *arguments)
    for got, want in zip(ours[:2], theirs[:2]):
        np.testing.assert_array_equal(got, want)
    for got, want in zip(ours[2:], theirs[2:]):
        assert np.abs(got - want).max() <= 16 * np.finfo(dtype).eps * np.abs(want).max()


@pytest.mark.parametrize("case", [*REAL, *QUICK])
def test_any_thread_count_gives_the_same_bits(case, monkeypatch, switch):
    """The slots are what decides who computes what; more of them than threads is fine."""
    arguments = real_problem(case)
    results = []
    for slots in (1, 3) if numba.config.DISABLE_JIT else (1, 2, 3, 4, 7):
        for module in (kernels.conv, winograd):
            monkeypatch.setattr(module, "threads_for_product", lambda _: slots)  # noqa: B023
        results.append(joined(kernels, *arguments))
    for other in results[1:]:
        for left, right in zip(results[0], other):
            np.testing.assert_array_equal(left, right)


@BOTH_FLOORS
def test_a_nan_wins_and_is_not_lost_on_the_way_back(ops):
    x, weight, bias, dy, size, windows = real_problem(REAL[0])
    x, dy = x[:2], dy[:2]
    x[1, 5, 5] = np.nan
    y, _, dx, dweight, dbias = joined(ops, x, weight, bias, dy, size, windows)
    held = np.zeros((13, 13), bool)  # by windows whose cells see pixel (5, 5): rows and columns 3, 4, 5
    held[1:3, 1:3] = True
    np.testing.assert_array_equal(
        np.isnan(y), np.broadcast_to(held[:, :, None] & np.arange(2)[:, None, None, None], y.shape)
    )
    assert np.isnan(dweight).all() and np.isnan(dbias).all()
    assert np.isfinite(dx[0]).all() and np.isnan(dx[1, 5, 5]).all()


@BOTH_FLOORS
@pytest.mark.parametrize("case", [REAL[1], WINOGRAD[1]])
def test_dx_is_skipped_when_empty(case, ops, switch):
    x, weight, bias, dy, size, windows = real_problem(case)
    x, dy = x[:2], dy[:2]
    y, index, _, dweight, dbias = joined(ops, x, weight, bias, dy, size, windows)
    again = np.empty_like(dweight), np.empty_like(dbias)
    ops.conv2d_relu_max_pool2d_backward(np.empty(0, x.dtype), *again, dy, y, index, x, weight, size, *windows)
    np.testing.assert_array_equal(again[0], dweight)
    np.testing.assert_array_equal(again[1], dbias)


# --- by Winograd -----------------------------------------------------------------------------------------------------


def errors(arguments):
    """The error of y, dx, dweight and dbias, relative to the largest.

    Where two cells of a window are nearly equal, rounding may choose the other one. So backward is compared for the
    winners that forward chose, and these must be as large as the largest.
    """
    x, weight, bias, dy, size, windows = arguments
    y, index, *gradients = joined(kernels, *arguments)
    exact = [array.astype(np.float64) for array in (x, weight, bias, dy)]
    want, _, *_ = joined(reference, *exact, size, windows)
    wants = [np.empty_like(a) for a in exact[:3]]
    reference.conv2d_relu_max_pool2d_backward(
        *wants, exact[3], y.astype(np.float64), index, exact[0], exact[1], size, *windows
    )
    image = np.empty((x.shape[0], *size, weight.shape[3]))
    reference.conv2d_forward(image, *exact[:3], *windows[:2])
    chosen = winners(np.maximum(image, 0), index, *windows[2:])
    pairs = zip([y, chosen, *gradients], [want, want, *wants])
    return [float(np.abs(got - exact).max() / np.abs(exact).max()) for got, exact in pairs]


def winners(image, index, size, stride, padding):
    """The cells of an image that have these numbers in their windows."""
    n, oh, ow, c = np.indices(index.shape)
    rows = oh * stride[0] - padding[0] + index // size[1]
    return image[n, rows, ow * stride[1] - padding[1] + index % size[1], c]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", QUICK)
def test_the_stated_error_holds_by_winograd(case, dtype, switch):
    found = errors(real_problem(case, dtype))
    assert max(found) <= BOUND[dtype], found


@pytest.mark.parametrize("name", ["conv2d_relu_max_pool2d_forward", "conv2d_relu_max_pool2d_backward"])
def test_a_worse_error_would_be_seen(name, monkeypatch, switch):
    """Weights wrong by 0.1 %, in one pass, break the bound."""
    arguments, right = real_problem(WINOGRAD[0]), getattr(kernels, name)
    weight = arguments[1]
    monkeypatch.setattr(
        kernels, name, lambda *args: right(*[a * a.dtype.type(1.001) if a is weight else a for a in args])
    )
    assert max(errors(arguments)) > BOUND["float32"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", QUICK)
def test_the_bits_by_winograd_are_those_of_one_by_one(case, dtype, switch):
    arguments = real_problem(case, dtype)
    for got, want in zip(joined(kernels, *arguments), apart(kernels, *arguments)):
        assert_same(got, want)


def assert_same(got, want):
    """Equal bits; where nothing is compiled, NumPy's products sum in an order of their own."""
    allowed = 1e-5 if numba.config.DISABLE_JIT else 0
    assert np.abs(got - want).max() <= allowed * np.abs(want).max()


@pytest.mark.parametrize("case", WINOGRAD[:2])
def test_images_that_fit_in_no_cache_are_cut_into_lines(case, monkeypatch, switch):
    arguments = real_problem(case)
    results = joined(kernels, *arguments)
    for cache in (1, 200_000):
        monkeypatch.setattr(winograd, "CACHE", cache)
        for got, want in zip(joined(kernels, *arguments), results):
            assert_same(got, want)


@pytest.mark.parametrize("case", WINOGRAD[:2])
def test_junk_in_the_workspace_reaches_no_result(case, switch):
    arguments = real_problem(case)
    want = joined(kernels, *arguments)
    x, weight, bias, dy, size, windows = arguments
    got = [np.full_like(a, 77) for a in want]
    for run in (
        lambda: kernels.conv2d_relu_max_pool2d_forward(*got[:2], x, weight, bias, size, *windows),
        lambda: kernels.conv2d_relu_max_pool2d_backward(*got[2:], dy, *got[:2], x, weight, size, *windows),
    ):
        jit.workspace("winograd", 1, np.dtype(np.float32)).fill(np.nan)
        run()
    for g, w in zip(got, want):
        np.testing.assert_array_equal(g, w)


def test_the_switch_gives_the_direct_form_back(switch):
    arguments = real_problem(WINOGRAD[1])
    ours = joined(kernels, *arguments)
    switch(False)
    direct = joined(kernels, *arguments)
    assert max(errors(arguments)) < 2e-6
    assert not np.array_equal(ours[0], direct[0]) and not np.array_equal(ours[3], direct[3])


def test_a_nan_spreads_to_its_tiles_and_no_further(switch):
    x, weight, bias, dy, size, windows = real_problem(WINOGRAD[0])
    x[1, 5, 8] = np.nan
    ours, exact = (joined(ops, x, weight, bias, dy, size, windows) for ops in (kernels, reference))
    for got, want in zip(ours, exact):
        if want.dtype.kind == "f":
            assert np.isnan(got[np.isnan(want)]).all()
    y, _, dx, dweight, dbias = ours
    assert np.isnan(y[1]).any() and np.isfinite(y[::2]).all() and np.isfinite(dx[::2]).all()
    assert np.isfinite(y[1, :2, :2]).all() and np.isnan(dx[1, 5, 8]).all()  # the tile at (0, 0) does not see (5, 8)
    assert np.isnan(dweight).all() and np.isnan(dbias).all()


# --- in a net --------------------------------------------------------------------------------------------------------


def net(**options):
    layers = [Conv2d(3, 3), ReLU(), MaxPool2d(2), Conv2d(4, 3, padding="same", bias=False), ReLU(), MaxPool2d(3, 2, 1)]
    return Sequential([*layers, Flatten(), Dense(3)], (9, 10, 2), **options)


def test_neighbours_are_joined_and_the_layers_stay():
    one = net()
    assert [type(step) for step in one._steps] == [ConvReLUPool, ConvReLUPool, Flatten, Dense]
    assert [type(layer) for layer in one.layers[:3]] == [Conv2d, ReLU, MaxPool2d]
    assert repr(one._steps[0]) == ", ".join(repr(layer) for layer in one.layers[:3])
    assert one._first_trained == 0 and list(one.parameters()) == list(net(join=False).parameters())
    np.testing.assert_array_equal(one.params, net(join=False).params)


def test_others_are_not_joined():
    class Odd(ReLU):
        """Some other function."""

    for middle in ([Odd()], [BatchNorm2d(), Odd()], []):
        chain = Sequential([Conv2d(2, 3), *middle, MaxPool2d(2)], (6, 6, 1))
        assert chain._steps == chain.layers


@BOTH_FLOORS
def test_a_joined_net_computes_the_same(ops):
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((5, 9, 10, 2)), rng.standard_normal((5, 3))
    results = []
    for join in (True, False):
        one = net(dtype="float64", ops=ops, join=join)
        y = one.forward(x, train=True).copy()
        results.append((y, one.backward(dy, input_gradient=True).copy(), one.grads.copy(), one.forward(x[:2])))
    for got, want in zip(*results):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-13)


def test_one_training_forward_serves_one_backward():
    one, x, dy = net(), np.ones((2, 9, 10, 2), np.float32), np.ones((2, 3), np.float32)
    one.forward(x, train=True)
    assert one.backward(dy) is None
    with pytest.raises(RuntimeError, match=r"expected a forward\(x, train=True\) just before"):
        one.backward(dy)
    with pytest.raises(ValueError, match=r"Conv2d, ReLU, MaxPool2d\.forward: x: expected"):
        one.forward(x[:, 1:])


def test_a_layer_by_itself_leaves_the_net_alone():
    one, rng = net(), np.random.default_rng(0)
    x, dy = rng.standard_normal((2, 9, 10, 2)).astype(np.float32), np.ones((2, 3), np.float32)
    one.forward(x, train=True)
    one.backward(dy)
    want = one.grads.copy()
    one.forward(x, train=True)
    hidden = -x
    for layer in one.layers[:3]:
        hidden = layer.forward(hidden, train=True)
    grad = np.ones_like(hidden)
    one.layers[2].backward(grad)
    one.backward(dy)
    np.testing.assert_array_equal(one.grads, want)


def test_kinks_are_those_of_the_winners():
    one = net()
    one.forward(np.random.default_rng(0).standard_normal((2, 9, 10, 2)).astype(np.float32))
    sides, winners = one.layers[1].kinks(), one.layers[2].kinks()
    assert sides.shape == winners.shape == (2, 3, 4, 3) and set(np.unique(sides)) == {0, 1}
    assert winners.max() == 3


@pytest.mark.jit_only
@BOTH_FLOORS
def test_gradients_pass_the_check(ops):
    one = net(dtype="float64", ops=ops)
    x = np.random.default_rng(0).standard_normal((3, 9, 10, 2))
    report = check_gradients(one, lambda o, y: softmax_cross_entropy(o, y, ops=ops), x, np.array([0, 2, 1]))
    assert report.passed, report


def test_the_summary_says_what_runs_as_one():
    one, rows = net(), net().summary(64).splitlines()[3:]
    assert [("joined to layer 2" in row, "joined to layer 5" in row) for row in rows[:6]] == [
        *[(True, False)] * 2, (False, False), *[(False, True)] * 2, (False, False),
    ]  # fmt: skip
    assert "joined" not in net(join=False).summary()
    one.forward(np.zeros((64, 9, 10, 2), np.float32), train=True)
    one.backward(np.zeros((64, 3), np.float32))
    held = sum(b.nbytes for step in one._steps for b in step._buffers.values()) + 2 * one.params.nbytes
    assert all(not layer._buffers for layer in one.layers[:6])
    assert abs(float(rows[-1].split()[-2]) * 1024 - held) <= 0.05 * held

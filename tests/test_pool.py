"""Pooling: both floors against loops, exactly on integers; ties, NaN and padding; the layers' geometry and refusals."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_conv import BOTH_FLOORS, MODERATE, geometries, integers, junk

from scratchnet import Sequential, kernels, reference
from scratchnet.layers import AvgPool2d, BatchNorm2d, Conv2d, Dense, Flatten, GlobalAvgPool2d, MaxPool2d, ReLU
from scratchnet.layers.joined import ReLUPool


@BOTH_FLOORS
@MODERATE
@given(geometry=geometries(half=True), seed=st.integers(0, 99))
def test_max_pool_equals_loops(ops, geometry, seed):
    """Small integers: many ties."""
    images, channels, image, size, kernel_size, stride, padding = geometry
    rng = np.random.default_rng(seed)
    x, dy = integers(rng, images, *image, channels), integers(rng, images, *size, channels)
    y, index, dx = junk(*dy.shape), junk(*dy.shape, dtype=np.uint8), junk(*x.shape)
    ops.max_pool2d_forward(y, index, x, kernel_size, stride, padding)
    want_y, want_index = oracles.max_pool2d(x, size, kernel_size, stride, padding)
    np.testing.assert_array_equal(y, want_y)
    np.testing.assert_array_equal(index, want_index)
    ops.max_pool2d_backward(dx, dy, index, kernel_size, stride, padding)
    want = oracles.max_pool2d_gradient(dy, index, x.shape, kernel_size, stride, padding)
    np.testing.assert_array_equal(dx, want)
    assert dx.sum() == dy.sum()  # every window has a winner inside the image


@BOTH_FLOORS
@MODERATE
@given(geometry=geometries(half=True), seed=st.integers(0, 99))
def test_max_pool_of_nan_and_infinity_equals_loops(ops, geometry, seed):
    images, channels, image, size, kernel_size, stride, padding = geometry
    rng = np.random.default_rng(seed)
    x = rng.choice(np.array([-np.inf, 0, np.inf, np.nan], np.float32), (images, *image, channels))
    y = junk(images, *size, channels)
    index = junk(*y.shape, dtype=np.uint8)
    ops.max_pool2d_forward(y, index, x, kernel_size, stride, padding)
    want_y, want_index = oracles.max_pool2d(x, size, kernel_size, stride, padding)
    np.testing.assert_array_equal(y, want_y)
    np.testing.assert_array_equal(index, want_index)


@BOTH_FLOORS
@MODERATE
@given(geometry=geometries(half=True), seed=st.integers(0, 99), special=st.booleans())
def test_relu_and_max_pool_as_one_are_the_two_in_a_row(ops, geometry, seed, special):
    images, channels, image, size, kernel_size, stride, padding = geometry
    rng = np.random.default_rng(seed)
    x, dy = integers(rng, images, *image, channels), integers(rng, images, *size, channels)
    if special:
        x = rng.choice(np.array([-np.inf, -1, 0, 1, np.inf, np.nan], np.float32), x.shape)
    y, index, dx = junk(*dy.shape), junk(*dy.shape, dtype=np.uint8), junk(*x.shape)
    ops.relu_max_pool2d_forward(y, index, x, kernel_size, stride, padding)
    rectified = np.where(x < 0, np.float32(0), x)
    want_y, want_index = oracles.max_pool2d(rectified, size, kernel_size, stride, padding)
    np.testing.assert_array_equal(y, want_y)
    np.testing.assert_array_equal(index, want_index)
    ops.relu_max_pool2d_backward(dx, dy, y, index, kernel_size, stride, padding)
    with np.errstate(invalid="ignore"):
        active = np.where(want_y > 0, dy, want_y * 0)
    want = oracles.max_pool2d_gradient(active, index, x.shape, kernel_size, stride, padding)
    np.testing.assert_array_equal(dx, want)


@BOTH_FLOORS
def test_behind_another_layer_relu_and_max_pool_run_as_one_and_compute_the_same(ops):
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((4, 10, 9, 2)), rng.standard_normal((4, 3))
    results = []
    for join in (True, False):
        layers = [Conv2d(3, 3, bias=False), BatchNorm2d(), ReLU(), MaxPool2d(3, 2, 1), Flatten(), Dense(3)]
        net = Sequential(layers, (10, 9, 2), dtype="float64", ops=ops, join=join)
        assert any(isinstance(step, ReLUPool) for step in net._steps) == join
        assert ("joined to layer 3" in net.summary()) == join
        y = net.forward(x, train=True).copy()
        results.append((y, net.backward(dy, input_gradient=True).copy(), net.grads.copy(), net.forward(x[:2])))
    for got, want in zip(*results):
        np.testing.assert_array_equal(got, want)


def test_relu_and_max_pool_before_anything_trained_have_no_gradient_to_compute():
    net = Sequential([ReLU(), MaxPool2d(2), Flatten(), Dense(3)], (4, 4, 2))
    assert repr(net._steps[0]) == "ReLU(), MaxPool2d(kernel_size=(2, 2))"
    net.forward(np.ones((2, 4, 4, 2), np.float32), train=True)
    assert net.backward(np.ones((2, 3), np.float32)) is None
    net.forward(np.ones((2, 4, 4, 2), np.float32), train=True)
    assert net._steps[0].backward(np.ones((2, 2, 2, 2), np.float32), input_gradient=False) is None
    with pytest.raises(ValueError, match=r"ReLU, MaxPool2d\.forward: x: expected"):
        net.forward(np.ones((2, 3, 4, 2), np.float32))


@BOTH_FLOORS
def test_inputs_of_any_steps_are_understood(ops):
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, 8, 8, 32))[..., ::2], rng.standard_normal((2, 4, 4, 32))[..., ::2]
    results = []
    for image, gradient in ((x, dy), (x.copy(), dy.copy())):
        y, index, dx = np.empty(dy.shape), np.empty(dy.shape, np.uint8), np.empty(x.shape)
        ops.max_pool2d_forward(y, index, image, (2, 2), (2, 2), (0, 0))
        ops.max_pool2d_backward(dx, gradient, index, (2, 2), (2, 2), (0, 0))
        results.append((y, index, dx))
    for got, want in zip(*results):
        np.testing.assert_array_equal(got, want)


@BOTH_FLOORS
def test_padding_never_wins(ops):
    """Of -inf cells alone the first one in the image wins, so that backward has a place to write to."""
    x = np.full((1, 2, 2, 1), -np.inf, np.float32)
    y, index, dx = junk(1, 2, 2, 1), junk(1, 2, 2, 1, dtype=np.uint8), junk(*x.shape)
    ops.max_pool2d_forward(y, index, x, (3, 3), (1, 1), (1, 1))
    np.testing.assert_array_equal(index.ravel(), [4, 3, 1, 0])
    assert (y == -np.inf).all()
    ops.max_pool2d_backward(dx, np.ones_like(y), index, (3, 3), (1, 1), (1, 1))
    np.testing.assert_array_equal(dx.ravel(), [4, 0, 0, 0])


@BOTH_FLOORS
def test_the_last_of_256_cells_can_win(ops):
    x = np.arange(256, dtype=np.float32).reshape(1, 16, 16, 1)
    y, index, dx = junk(1, 1, 1, 1), junk(1, 1, 1, 1, dtype=np.uint8), junk(*x.shape)
    ops.max_pool2d_forward(y, index, x, (16, 16), (1, 1), (0, 0))
    assert y.item() == 255 and index.item() == 255
    ops.max_pool2d_backward(dx, y, index, (16, 16), (1, 1), (0, 0))
    assert dx[0, 15, 15, 0] == 255 == dx.sum()


@BOTH_FLOORS
@MODERATE
@given(geometry=geometries(half=True), seed=st.integers(0, 99))
def test_average_pool_equals_loops(ops, geometry, seed):
    """The sums are exact, and multiplied once by 1 / cells: one rounding away from the quotient."""
    images, channels, image, size, kernel_size, stride, padding = geometry
    rng = np.random.default_rng(seed)
    x, dy = integers(rng, images, *image, channels), integers(rng, images, *size, channels)
    y, dx = junk(*dy.shape), junk(*x.shape)
    ops.avg_pool2d_forward(y, x, kernel_size, stride, padding)
    np.testing.assert_allclose(y, oracles.avg_pool2d(x, size, kernel_size, stride, padding), rtol=2e-7, atol=0)
    ops.avg_pool2d_backward(dx, dy, kernel_size, stride, padding)
    want = oracles.avg_pool2d_gradient(dy, x.shape, kernel_size, stride, padding)
    np.testing.assert_allclose(dx, want, rtol=2e-7, atol=0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_average_pools_of_integers_have_equal_bits_on_both_floors(dtype):
    rng = np.random.default_rng(0)
    x, dy = (rng.integers(-9, 10, shape).astype(dtype) for shape in ((65, 13, 11, 17), (65, 7, 6, 17)))
    arguments = (3, 3), (2, 2), (1, 1)
    results = []
    for ops in (reference, kernels):
        y, dx = np.empty_like(dy), np.empty_like(x)
        ops.avg_pool2d_forward(y, x, *arguments)
        ops.avg_pool2d_backward(dx, dy, *arguments)
        mean, spread = np.empty((65, 17), dtype), np.empty_like(x)
        ops.global_avg_pool2d_forward(mean, x)
        ops.global_avg_pool2d_backward(spread, np.ascontiguousarray(dy[:, 0, 0]))
        results.append((y, dx, mean, spread))
    for left, right in zip(*results):
        np.testing.assert_array_equal(left, right)


@BOTH_FLOORS
def test_global_average_is_the_mean(ops):
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((3, 5, 4, 2)), rng.standard_normal((3, 2))
    y, dx = np.empty((3, 2)), np.empty_like(x)
    ops.global_avg_pool2d_forward(y, x)
    np.testing.assert_allclose(y, x.mean(axis=(1, 2)), rtol=1e-14, atol=1e-16)
    ops.global_avg_pool2d_backward(dx, dy)
    np.testing.assert_allclose(dx, np.broadcast_to(dy[:, None, None] / 20, dx.shape), rtol=1e-15)


# --- the layers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [MaxPool2d, AvgPool2d])
@pytest.mark.parametrize(
    ("arguments", "input_shape", "expected"),
    [
        ({"kernel_size": 2}, (8, 9, 3), (4, 4, 3)),
        ({"kernel_size": (2, 3)}, (8, 9, 3), (4, 3, 3)),
        ({"kernel_size": 3, "stride": 2}, (8, 9, 3), (3, 4, 3)),
        ({"kernel_size": 3, "stride": 2, "padding": 1}, (8, 9, 3), (4, 5, 3)),
        ({"kernel_size": 2, "padding": "same"}, (8, 9, 3), (4, 5, 3)),
        ({"kernel_size": 2, "stride": (3, 4)}, (8, 9, 3), (3, 2, 3)),
    ],
)
def test_output_shapes(layer, arguments, input_shape, expected):
    assert layer(**arguments).build(input_shape) == expected


@pytest.mark.parametrize("layer", [MaxPool2d, AvgPool2d])
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"kernel_size": 0}, ValueError, r"Pool2d: kernel_size: expected an integer >= 1, got 0"),
        ({"kernel_size": 2.5}, TypeError, r"Pool2d: kernel_size: expected an integer, got 2\.5"),
        ({"kernel_size": 2, "stride": (2, 0)}, ValueError, r"Pool2d: stride\[1\]: expected an integer >= 1, got 0"),
        ({"kernel_size": 2, "stride": "2"}, TypeError, r"Pool2d: stride: expected an integer, got '2'"),
        ({"kernel_size": 2, "padding": None}, TypeError, r"Pool2d: padding: expected an integer, got None"),
        (
            {"kernel_size": 3, "padding": "full"},
            ValueError,
            r"Pool2d: padding: expected one of same, valid, got 'full'",
        ),
        (
            {"kernel_size": 3, "padding": 2},
            ValueError,
            r"Pool2d: padding: expected at most \(1, 1\) with kernel \(3, 3\), got \(2, 2\); that is half the kernel",
        ),
    ],
)
def test_arguments_that_make_no_layer(layer, arguments, error, message):
    with pytest.raises(error, match=message) as caught:
        layer(**arguments)
    assert str(caught.value).startswith(layer.__name__)


def test_a_window_of_more_cells_than_a_byte_counts():
    MaxPool2d((16, 16))
    AvgPool2d((16, 17))
    with pytest.raises(ValueError, match=r"MaxPool2d: kernel_size: expected at most 256 cells.*got \(16, 17\) = 272"):
        MaxPool2d((16, 17))


@pytest.mark.parametrize(
    ("layers", "input_shape", "message"),
    [
        (
            [MaxPool2d(2), MaxPool2d(4)],
            (6, 6, 1),
            r"^MaxPool2d: kernel \(4, 4\) is larger than its input \(3, 3\); add",
        ),
        (
            [AvgPool2d(5, padding=1)],
            (2, 9, 1),
            r"^AvgPool2d: kernel \(5, 5\) is larger than its padded input \(4, 11\)",
        ),
        ([Flatten(), MaxPool2d(2)], (6, 6, 1), r"^MaxPool2d: expected examples of shape \(H, W, C\), got \(36,\); "),
        ([Flatten(), AvgPool2d(2)], (6, 6, 1), r"^AvgPool2d: expected examples of shape \(H, W, C\), got \(36,\); "),
        ([GlobalAvgPool2d()], (6, 6), r"^GlobalAvgPool2d: expected examples of shape \(H, W, C\), got \(6, 6\); "),
    ],
)
def test_layers_that_do_not_fit(layers, input_shape, message):
    with pytest.raises(ValueError, match=message):
        Sequential(layers, input_shape)


@BOTH_FLOORS
@pytest.mark.parametrize("layer", [MaxPool2d, AvgPool2d])
def test_a_layer_is_its_operation(ops, layer):
    """Overlapping windows; "same" pads one row behind the image and none before."""
    rng = np.random.default_rng(0)
    net = Sequential([layer((2, 3), stride=(1, 2), padding="same")], (4, 5, 2), dtype="float64", ops=ops)
    arguments = (2, 3), (1, 2), (0, 1)
    for rows in (5, 3, 5):
        x, dy = rng.standard_normal((rows, 4, 5, 2)), rng.standard_normal((rows, 4, 3, 2))
        y = net.forward(x, train=True)
        dx = net.backward(dy, input_gradient=True)
        if layer is MaxPool2d:
            want, index = oracles.max_pool2d(x, (4, 3), *arguments)
            want_dx = oracles.max_pool2d_gradient(dy, index, x.shape, *arguments)
            np.testing.assert_array_equal(net.layers[0].kinks(), index)
        else:
            want = oracles.avg_pool2d(x, (4, 3), *arguments)
            want_dx = oracles.avg_pool2d_gradient(dy, x.shape, *arguments)
        np.testing.assert_allclose(y, want, rtol=1e-14, atol=1e-15)
        np.testing.assert_allclose(dx, want_dx, rtol=1e-14, atol=1e-15)
        np.testing.assert_array_equal(net.forward(x), y)


@BOTH_FLOORS
def test_global_average_layer(ops):
    net = Sequential([Conv2d(3, 1), GlobalAvgPool2d()], (4, 5, 2), dtype="float64", ops=ops)
    rng = np.random.default_rng(0)
    for rows in (4, 2):
        x, dy = rng.standard_normal((rows, 4, 5, 2)), rng.standard_normal((rows, 3))
        y = net.forward(x, train=True)
        np.testing.assert_allclose(y, x.mean(axis=(1, 2)) @ net.layers[0].weight[0, 0], rtol=1e-12)
        np.testing.assert_array_equal(net.forward(x), y)
        net.forward(x, train=True)
        dx = net.backward(dy, input_gradient=True)
        want = (dy @ net.layers[0].weight[0, 0].T)[:, None, None] / 20
        np.testing.assert_allclose(dx, np.broadcast_to(want, x.shape), rtol=1e-12)


@pytest.mark.parametrize("layer", [MaxPool2d(2), AvgPool2d(2), GlobalAvgPool2d()], ids=repr)
def test_each_forward_serves_one_backward(layer):
    net = Sequential([layer], (4, 4, 1))
    x = np.ones((2, 4, 4, 1), np.float32)
    dy = np.ones((2, *net.output_shape), np.float32)
    net.forward(x, train=True)
    assert net.backward(dy) is None  # nothing to compute without parameters and without dx
    with pytest.raises(RuntimeError, match=r"expected a forward\(x, train=True\) just before"):
        net.backward(dy)
    net.forward(x, train=True)
    with pytest.raises(ValueError, match=r"backward: dy: expected shape .* got \(1, "):
        net.backward(dy[:1])


def test_only_the_maximum_has_kinks():
    assert AvgPool2d(2).kinks() is None and GlobalAvgPool2d().kinks() is None
    net = Sequential([MaxPool2d(2)], (2, 2, 1))
    layer = net.layers[0]
    assert layer.kinks() is None
    net.forward(np.array([1, 4, 3, 2], np.float32).reshape(1, 2, 2, 1))
    before = layer.kinks()
    net.forward(np.array([1, 4, 5, 2], np.float32).reshape(1, 2, 2, 1))
    assert before.item() == 1 and layer.kinks().item() == 2 and not np.shares_memory(before, layer.kinks())


def test_relu_and_max_pool_as_one_tell_their_kinks():
    net = Sequential([BatchNorm2d(), ReLU(), MaxPool2d(2)], (2, 2, 1))
    _, relu, pool = net.layers
    x = np.array([-1, 4, 3, 2], np.float32).reshape(1, 2, 2, 1)
    for bias, side, winner in ((0, 1, 1), (-9, 0, 0)):
        net.layers[0].bias[...] = bias
        net.forward(x)
        assert (relu.kinks().item(), pool.kinks().item()) == (side, winner)

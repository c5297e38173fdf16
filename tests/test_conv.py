"""Convolution: both floors against loops, exactly on integers; the layer's geometry and refusals.

The fast floor in its direct form, which is exact there; its other form has a file of its own, test_winograd.py.
"""

from __future__ import annotations

import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import run_code

from scratchnet import Sequential, kernels, reference
from scratchnet.kernels import conv as fast_conv
from scratchnet.kernels import jit, winograd
from scratchnet.layers import AvgPool2d, Conv2d, Dense, Flatten, GlobalAvgPool2d, MaxPool2d

BOTH_FLOORS = pytest.mark.parametrize("ops", [reference, kernels], ids=["reference", "kernels"])
MODERATE = settings(max_examples=30, deadline=None)


@pytest.fixture(autouse=True, scope="module")
def direct_form():
    before = winograd._on
    winograd.use(False)
    yield
    winograd.use(before)


@st.composite
def geometries(draw, largest_kernel=4, half=False):
    """(images, channels, (H, W), (OH, OW), kernel_size, stride, padding): every window reaches into the image.

    Windows may overlap, skip cells, or stop before the end of the image; padding behind it need not be that in front.
    """
    kernel_size, image, size, stride, padding = [], [], [], [], []
    for _ in range(2):
        kernel, step = draw(st.integers(1, largest_kernel)), draw(st.integers(1, 3))
        before = draw(st.integers(0, kernel // 2 if half else kernel - 1))
        cells = draw(st.integers(1, 6))
        most = (cells - 1 + before) // step + 1  # the last window starts inside the image
        kernel_size.append(kernel)
        stride.append(step)
        padding.append(before)
        image.append(cells)
        size.append(draw(st.integers(1, min(most, 5))))
    images, channels = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    return images, channels, tuple(image), tuple(size), tuple(kernel_size), tuple(stride), tuple(padding)


def integers(rng, *shape):
    return rng.integers(-4, 5, shape).astype(np.float32)


def junk(*shape, dtype=np.float32):
    return np.full(shape, 77, dtype)


@BOTH_FLOORS
@MODERATE
@given(geometry=geometries(), units=st.integers(1, 3), seed=st.integers(0, 99))
def test_three_passes_equal_loops_on_integers(ops, geometry, units, seed):
    images, channels, image, size, kernel_size, stride, padding = geometry
    rng = np.random.default_rng(seed)
    x, weight = integers(rng, images, *image, channels), integers(rng, *kernel_size, channels, units)
    bias, dy = integers(rng, units), integers(rng, images, *size, units)

    y = junk(*dy.shape)
    dx, dweight, dbias = junk(*x.shape), junk(*weight.shape), junk(units)
    ops.conv2d_forward(y, x, weight, bias, stride, padding)
    ops.conv2d_backward_weight(dweight, dbias, x, dy, stride, padding)
    ops.conv2d_backward_input(dx, dy, weight, stride, padding)

    np.testing.assert_array_equal(y, oracles.conv2d(x, weight, bias, size, stride, padding))
    for got, want in zip((dx, dweight, dbias), oracles.conv2d_gradients(x, weight, dy, stride, padding)):
        np.testing.assert_array_equal(got, want)


@BOTH_FLOORS
@MODERATE
@given(geometry=geometries(), seed=st.integers(0, 99))
def test_backward_is_the_adjoint_of_forward(ops, geometry, seed):
    """<dy, conv(x)> = <conv_backward_input(dy), x> = <conv_backward_weight(x, dy), weight>, exactly, without bias."""
    images, channels, image, size, kernel_size, stride, padding = geometry
    rng = np.random.default_rng(seed)
    x, weight, dy = (
        integers(rng, *shape) for shape in ((images, *image, channels), (*kernel_size, channels, 2), (images, *size, 2))
    )
    y, dx, dweight = junk(*dy.shape), junk(*x.shape), junk(*weight.shape)
    ops.conv2d_forward(y, x, weight, np.zeros(2, np.float32), stride, padding)
    ops.conv2d_backward_input(dx, dy, weight, stride, padding)
    ops.conv2d_backward_weight(dweight, junk(2), x, dy, stride, padding)
    inner = float((dy.astype(float) * y).sum())
    assert inner == float((dx.astype(float) * x).sum()) == float((dweight.astype(float) * weight).sum())


@BOTH_FLOORS
def test_one_by_one_is_a_dense_layer_per_pixel(ops):
    rng = np.random.default_rng(0)
    x, weight, bias = integers(rng, 4, 6, 5, 7), integers(rng, 1, 1, 7, 3), integers(rng, 3)
    y = junk(4, 6, 5, 3)
    ops.conv2d_forward(y, x, weight, bias, (1, 1), (0, 0))
    np.testing.assert_array_equal(y, x @ weight[0, 0] + bias)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_large_convolution_agrees_with_the_reference(dtype):
    """Real sizes: the relative error stays at that of sums in another order."""
    rng = np.random.default_rng(0)
    shapes = (24, 16, 16, 32), (5, 5, 32, 16), (16,), (24, 16, 16, 16)
    x, weight, bias, dy = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
    results = []
    for ops in (reference, kernels):
        y, dx, dweight, dbias = (np.empty_like(a) for a in (dy, x, weight, bias))
        ops.conv2d_forward(y, x, weight, bias, (1, 1), (2, 2))
        ops.conv2d_backward_weight(dweight, dbias, x, dy, (1, 1), (2, 2))
        ops.conv2d_backward_input(dx, dy, weight, (1, 1), (2, 2))
        results.append((y, dx, dweight, dbias))
    for want, got in zip(*results):
        assert np.abs(got - want).max() <= 32 * np.finfo(dtype).eps * np.abs(want).max()


@BOTH_FLOORS
def test_a_nan_reaches_exactly_the_windows_that_hold_it(ops):
    x, weight = np.ones((1, 5, 5, 1), np.float32), np.zeros((3, 3, 1, 2), np.float32)
    x[0, 0, 4] = np.nan
    y = junk(1, 5, 5, 2)
    ops.conv2d_forward(y, x, weight, np.zeros(2, np.float32), (1, 1), (1, 1))
    assert np.isnan(y[0, :2, 3:]).all() and np.isnan(y).sum() == 2 * 2 * 2


# --- the register tile under it --------------------------------------------------------------------------------------


def three_passes(ops, x, weight, bias, dy, stride, padding, junk=np.empty_like):
    """(y, dx, dweight, dbias), all fresh."""
    y, dx, dweight, dbias = (junk(like) for like in (dy, x, weight, bias))
    ops.conv2d_forward(y, x, weight, bias, stride, padding)
    ops.conv2d_backward_input(dx, dy, weight, stride, padding)
    ops.conv2d_backward_weight(dweight, dbias, x, dy, stride, padding)
    return y, dx, dweight, dbias


def among_junk(like):
    """An array of this shape and dtype, with NaN before and behind it, and inside."""
    memory = np.full(like.size + 256, np.nan, like.dtype)
    return memory[128 : like.size + 128].reshape(like.shape)


GEOMETRIES = [  # kernel, stride, padding, size of y for an image of (7, 9); padding in front and behind differ
    ((3, 3), (1, 1), (1, 1), (7, 9)),
    ((2, 5), (1, 1), (0, 2), (6, 9)),
    ((4, 2), (1, 1), (3, 0), (9, 8)),
    ((3, 2), (2, 3), (1, 0), (4, 3)),
    ((2, 1), (3, 4), (0, 0), (2, 3)),
    ((1, 1), (1, 1), (0, 0), (7, 9)),
    ((5, 3), (4, 2), (2, 2), (2, 3)),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize(("channels", "units"), [(1, 16), (3, 33), (17, 8), (64, 70), (35, 130)])
def test_edges_of_tiles_are_exact_and_nothing_else_is_touched(channels, units, geometry, dtype):
    kernel_size, stride, padding, size = geometry
    rng = np.random.default_rng(0)
    shapes = (3, 7, 9, channels), (*kernel_size, channels, units), (units,), (3, *size, units)
    arrays = [integers(rng, *shape).astype(dtype) for shape in shapes]
    copies = [among_junk(array) for array in arrays]
    for copy, array in zip(copies, arrays):
        copy[...] = array
    results = three_passes(kernels, *copies, stride, padding, among_junk)
    for got, want in zip(results, three_passes(reference, *arrays, stride, padding)):
        np.testing.assert_array_equal(got, want)
        assert np.isnan(got.base[:128]).all() and np.isnan(got.base[128 + got.size :]).all()


def example(images=5):
    rng = np.random.default_rng(0)
    shapes = (images, 9, 8, 5), (3, 3, 5, 7), (7,), (images, 9, 8, 7)
    return [integers(rng, *shape) for shape in shapes]


def test_junk_in_the_workspace_reaches_no_result():
    want = three_passes(kernels, *example(), (1, 1), (1, 1))
    for pass_ in range(3):
        jit.workspace("conv", 1, np.dtype(np.float32)).fill(np.nan)
        np.testing.assert_array_equal(three_passes(kernels, *example(), (1, 1), (1, 1))[pass_], want[pass_])


def test_inputs_of_any_steps_are_understood():
    arrays = example()
    want = three_passes(kernels, *arrays, (1, 1), (1, 1))
    turned = [np.asfortranarray(array) for array in arrays]
    for array in turned:
        array.flags.writeable = False
    got = three_passes(kernels, *turned, (1, 1), (1, 1), lambda like: np.empty(like.shape, like.dtype))
    for g, w in zip(got, want):
        np.testing.assert_array_equal(g, w)


def test_large_weights_are_summed_in_fewer_parts(monkeypatch):
    arrays = example(images=40)
    want = three_passes(kernels, *arrays, (1, 1), (1, 1))
    monkeypatch.setattr(fast_conv, "PARTS_BYTES", 3 * (want[2].nbytes + want[3].nbytes) + 1)
    for got, w in zip(three_passes(kernels, *arrays, (1, 1), (1, 1)), want):
        np.testing.assert_array_equal(got, w)


BITS = """
    import hashlib, sys
    import numpy as np
    from scratchnet import kernels, threads

    def bits():
        rng, digest = np.random.default_rng(0), hashlib.sha256()
        for images, channels, units, step in ((37, 16, 40, 1), (4, 3, 64, 1), (19, 33, 24, 2)):
            size = (images, 14 // step, 15 // step, units)
            shapes = (images, 14, 15, channels), (3, 3, channels, units), (units,), size
            x, weight, bias, dy = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
            y, dx, dweight, dbias = (np.empty_like(array) for array in (dy, x, weight, bias))
            kernels.conv2d_forward(y, x, weight, bias, (step, step), (1, 1))
            kernels.conv2d_backward_input(dx, dy, weight, (step, step), (1, 1))
            kernels.conv2d_backward_weight(dweight, dbias, x, dy, (step, step), (1, 1))
            for array in (y, dx, dweight, dbias):
                digest.update(array)
        return digest.hexdigest()

    results = []
    for count in map(int, sys.argv[1:]):
        threads.set_threads(count)
        results.append(bits())
    print(*results)
"""


@pytest.mark.jit_only
def test_any_number_of_threads_writes_the_same_bits():
    results = run_code(BITS, 1, 2, 3, 4, 7, NUMBA_NUM_THREADS="7", SCRATCHNET_WINOGRAD="off").split()
    assert len(results) == 5 and len(set(results)) == 1


# --- the layer -------------------------------------------------------------------------------------------------------


def output_shape(layer, input_shape):
    return layer.build(input_shape)


@pytest.mark.parametrize(
    ("arguments", "input_shape", "expected"),
    [
        ({"kernel_size": 3}, (8, 9, 2), (6, 7, 5)),
        ({"kernel_size": 3, "padding": 1}, (8, 9, 2), (8, 9, 5)),
        ({"kernel_size": (3, 1), "padding": (1, 0)}, (8, 9, 2), (8, 9, 5)),
        ({"kernel_size": 3, "stride": 2}, (8, 9, 2), (3, 4, 5)),
        ({"kernel_size": 2, "stride": (3, 4)}, (8, 9, 2), (3, 2, 5)),
        ({"kernel_size": 4, "padding": "same"}, (8, 9, 2), (8, 9, 5)),
        ({"kernel_size": 5, "padding": "same", "stride": 2}, (8, 9, 2), (4, 5, 5)),
        ({"kernel_size": 2, "padding": "same", "stride": 3}, (8, 9, 2), (3, 3, 5)),
        ({"kernel_size": 5, "padding": "same"}, (1, 2, 2), (1, 2, 5)),
        ({"kernel_size": 8, "padding": "valid"}, (8, 9, 2), (1, 2, 5)),
    ],
)
def test_output_shapes(arguments, input_shape, expected):
    assert output_shape(Conv2d(5, **arguments), input_shape) == expected


def test_same_puts_the_odd_zero_behind():
    """Kernel 2 on 3 cells pads one zero, at the end: y[i] = x[i] + x[i + 1]."""
    net = Sequential([Conv2d(1, (1, 2), padding="same")], (1, 3, 1))
    net.layers[0].weight[...] = 1
    x = np.array([1, 2, 4], np.float32).reshape(1, 1, 3, 1)
    np.testing.assert_array_equal(net.forward(x).ravel(), [3, 6, 4])


@pytest.mark.parametrize(
    ("layer", "shown"),
    [
        (Conv2d(32, 3, padding="same"), "Conv2d(32, kernel_size=(3, 3), padding='same')"),
        (Conv2d(8, (3, 5), stride=2), "Conv2d(8, kernel_size=(3, 5), stride=(2, 2))"),
        (Conv2d(8, 3, padding=1, bias=False), "Conv2d(8, kernel_size=(3, 3), padding=(1, 1), bias=False)"),
        (Conv2d(8, 3, padding="valid"), "Conv2d(8, kernel_size=(3, 3))"),
        (MaxPool2d(2), "MaxPool2d(kernel_size=(2, 2))"),
        (AvgPool2d(3, stride=2, padding=1), "AvgPool2d(kernel_size=(3, 3), stride=(2, 2), padding=(1, 1))"),
        (GlobalAvgPool2d(), "GlobalAvgPool2d()"),
        (Flatten(), "Flatten()"),
    ],
)
def test_a_layer_shows_how_it_was_made(layer, shown):
    assert repr(layer) == shown
    assert repr(eval(shown)) == shown


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"channels": 0}, ValueError, r"Conv2d: channels: expected an integer >= 1, got 0"),
        ({"channels": 2.0}, TypeError, r"Conv2d: channels: expected an integer, got 2\.0 \(float\)"),
        ({"kernel_size": 0}, ValueError, r"Conv2d: kernel_size: expected an integer >= 1, got 0"),
        ({"kernel_size": (3, 3, 3)}, ValueError, r"Conv2d: kernel_size: expected an integer or a pair .* \(3, 3, 3\)"),
        ({"kernel_size": (3, "3")}, TypeError, r"Conv2d: kernel_size\[1\]: expected an integer, got '3'"),
        ({"stride": 0}, ValueError, r"Conv2d: stride: expected an integer >= 1, got 0"),
        ({"stride": True}, TypeError, r"Conv2d: stride: expected an integer, got True"),
        ({"padding": -1}, ValueError, r"Conv2d: padding: expected an integer >= 0, got -1"),
        (
            {"padding": "sane"},
            ValueError,
            r"Conv2d: padding: expected one of same, valid, got 'sane'; did you mean 'same'",
        ),
        (
            {"padding": (1, 3)},
            ValueError,
            r"Conv2d: padding: expected at most \(2, 2\) with kernel \(3, 3\), got \(1, 3\); .* in the padding alone",
        ),
    ],
)
def test_arguments_that_make_no_layer(arguments, error, message):
    with pytest.raises(error, match=message):
        Conv2d(**{"channels": 4, "kernel_size": 3, **arguments})


@pytest.mark.parametrize(
    ("layers", "input_shape", "message"),
    [
        (
            [Conv2d(4, 5)],
            (4, 4, 1),
            r"^Conv2d: kernel \(5, 5\) is larger than its input \(4, 4\); add padding or remove a pooling layer\.",
        ),
        ([Conv2d(4, (1, 7), padding=(0, 1))], (4, 4, 1), r"kernel \(1, 7\) is larger than its padded input \(4, 6\)"),
        ([Conv2d(4, 3)], (28, 28), r"Conv2d: expected examples of shape \(H, W, C\), got \(28, 28\); .*before Flatten"),
        (
            [Flatten(), Conv2d(4, 3)],
            (8, 8, 1),
            r"Conv2d: expected .* \(H, W, C\), got \(64,\); .*layer 1 of Sequential",
        ),
        ([Conv2d(4, 3), Dense(3)], (8, 8, 1), r"Dense: expected .* got \(6, 6, 4\); put Flatten\(\) before it"),
    ],
)
def test_layers_that_do_not_fit(layers, input_shape, message):
    with pytest.raises(ValueError, match=message):
        Sequential(layers, input_shape)


@BOTH_FLOORS
@pytest.mark.parametrize("bias", [True, False])
def test_the_layer_is_the_operation(ops, bias):
    rng = np.random.default_rng(0)
    net = Sequential([Conv2d(4, (3, 2), stride=(2, 1), padding=1, bias=bias)], (6, 5, 3), ops=ops)
    layer = net.layers[0]
    layer.weight[...] = integers(rng, 3, 2, 3, 4)
    net.grads[...] = np.nan  # backward overwrites
    if bias:
        layer.bias[...] = integers(rng, 4)
    for rows in (5, 3, 5):  # a short batch, and a full one after it
        x, dy = integers(rng, rows, 6, 5, 3), integers(rng, rows, *layer.output_shape)
        want = oracles.conv2d(x, layer.weight, layer.bias, layer.output_shape[:2], (2, 1), (1, 1))
        np.testing.assert_array_equal(net.forward(x), want)
        np.testing.assert_array_equal(net.forward(x, train=True), want)
        dx = net.backward(dy, input_gradient=True)
        wanted = oracles.conv2d_gradients(x, layer.weight, dy, (2, 1), (1, 1))
        for got, want in zip((dx, layer.dweight, layer.dbias), wanted):
            np.testing.assert_array_equal(got, want)
        assert np.isfinite(net.grads).all()


def test_initialize_fills_the_weight_and_clears_the_bias():
    layer = Sequential([Conv2d(64, 3)], (8, 8, 32), seed=3).layers[0]
    assert abs(layer.weight.std() - np.sqrt(2 / (9 * 32))) <= 0.05 * np.sqrt(2 / (9 * 32))
    assert not layer.bias.any()


def test_without_input_gradient_nothing_is_computed_for_it():
    net = Sequential([Conv2d(4, 3), Conv2d(2, 3)], (6, 6, 1))
    net.forward(np.ones((2, 6, 6, 1), np.float32), train=True)
    assert net.backward(np.ones((2, 2, 2, 2), np.float32)) is None
    assert net.layers[0].dweight.any()
    assert "dx" not in net.layers[0]._buffers and "dx" in net.layers[1]._buffers


def test_each_forward_serves_one_backward():
    net = Sequential([Conv2d(2, 3), Flatten()], (4, 4, 1))
    x, dy = np.ones((2, 4, 4, 1), np.float32), np.ones((2, 8), np.float32)
    net.forward(x, train=True)
    net.backward(dy)
    with pytest.raises(RuntimeError, match=r"expected a forward\(x, train=True\) just before"):
        net.backward(dy)


def test_flatten_copies_nothing_and_restores_the_shape():
    net = Sequential([Flatten()], (2, 3, 4))
    x = np.arange(48, dtype=np.float32).reshape(2, 2, 3, 4)
    np.testing.assert_array_equal(net.forward(x), x.reshape(2, 24))
    y = net.forward(x, train=True)
    assert y.shape == (2, 24) and np.shares_memory(x, y)
    dx = net.backward(y.copy(), input_gradient=True)
    np.testing.assert_array_equal(dx, x)
    net.forward(x, train=True)
    assert net.layers[0].backward(y, input_gradient=False) is None
    assert net.layers[0].memory(128) == 0


@pytest.mark.parametrize("padding", [(3, 0), (0, 3)])
@pytest.mark.parametrize("make", [lambda **options: Conv2d(2, **options), AvgPool2d, MaxPool2d])
def test_too_much_padding_is_refused_on_either_axis(make, padding):
    with pytest.raises(ValueError, match=rf"padding: expected at most .* got \({padding[0]}, {padding[1]}\)"):
        make(kernel_size=3, padding=padding)

"""Winograd convolution: its matrices exactly, its passes within the stated error, its bits, its switch, its edges."""

from __future__ import annotations

from fractions import Fraction

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import run_code

from scratchnet import kernels, reference
from scratchnet.kernels import jit, tile, winograd
from scratchnet.kernels import winograd_transform as transforms

BOUND = {"float32": 1e-4, "float64": 1e-12}  # of the error, relative to the largest result: what winograd.py promises
SOME = settings(max_examples=5 if numba.config.DISABLE_JIT else 20, deadline=None)


# --- the matrices, in rational numbers -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [3, 5])
def test_the_matrices_are_exact(size):
    """A^T [(G w) * (B^T x)] is the correlation of x and w, for every pair of unit vectors, so for all."""
    bt, g, at = transforms.matrices(size)
    side = transforms.side(size)
    assert (len(bt), len(g), len(at)) == (side, side, 4)
    for i in range(side):
        for j in range(size):
            made = [sum(at[k][p] * g[p][j] * bt[p][i] for p in range(side)) for k in range(4)]
            assert made == [Fraction(k + j == i) for k in range(4)]


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("name", transforms.NAMES)
def test_butterflies_keep_the_matrix(name, size):
    rows = transforms.matrix(name, size)
    for m in (rows, transforms._transposed(rows)):
        halves, pairs = transforms._butterflies(m)
        for i, j in pairs:
            halves[i], halves[j] = (
                [x + y for x, y in zip(halves[i], halves[j])],
                [x - y for x, y in zip(halves[i], halves[j])],
            )
        assert halves == m
    found = [len(transforms._butterflies(m)[1]) for m in (rows, transforms._transposed(rows))]
    assert max(found) == (size + 1) // 2  # a pair for 1, for 2 and for 1/2


def test_the_point_one_sums_a_tile():
    """What makes dbias exact sums: A is 1 there."""
    for size in (3, 5):
        assert transforms.matrix("gradient", size)[1] == [1, 1, 1, 1]


# --- the passes ------------------------------------------------------------------------------------------------------


def among_junk(like):
    """An array of this shape and dtype, with NaN before and behind it, and inside."""
    memory = np.full(like.size + 256, np.nan, like.dtype)
    return memory[128 : like.size + 128].reshape(like.shape)


def three_passes(ops, x, weight, bias, dy, padding, new=among_junk):
    """(y, dx, dweight, dbias), all fresh; `ops` is winograd or a floor."""
    y, dx, dweight, dbias = (new(like) for like in (dy, x, weight, bias))
    if ops is winograd:
        winograd.forward(y, x, weight, bias, padding)
        winograd.backward_input(dx, dy, weight, padding)
        winograd.backward_weight(dweight, dbias, x, dy, padding)
    else:
        ops.conv2d_forward(y, x, weight, bias, (1, 1), padding)
        ops.conv2d_backward_input(dx, dy, weight, (1, 1), padding)
        ops.conv2d_backward_weight(dweight, dbias, x, dy, (1, 1), padding)
    return y, dx, dweight, dbias


def normal(shapes, dtype, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def errors(arrays, padding, ops=winograd):
    """The error of y, dx, dweight and dbias, relative to the largest; nothing outside of them may be touched."""
    copies = [among_junk(array) for array in arrays]
    for copy, array in zip(copies, arrays):
        copy[...] = array
    found = []
    exact = three_passes(reference, *(array.astype(np.float64) for array in arrays), padding)
    for got, want in zip(three_passes(ops, *copies, padding), exact):
        assert np.isnan(got.base[:128]).all() and np.isnan(got.base[128 + got.size :]).all()
        found.append(float(np.abs(got - want).max() / max(np.abs(want).max(), 1e-30)))
    return found


@st.composite
def problems(draw):
    """(shapes, padding): images of 1 to 3 tiles, padding in front up to the filter's size, behind it what is left."""
    size = draw(st.sampled_from([3, 5]))
    pad, image, out = [], [], []
    for _ in range(2):
        before, cells = draw(st.integers(0, size)), draw(st.integers(1, 10))
        pad.append(before)
        image.append(cells)
        out.append(draw(st.integers(max(1, before - size + 2), max(1, min(10, cells + before)))))
    images = draw(st.sampled_from([1, 2, 35]))
    channels, units = (draw(st.sampled_from([1, 2, 3, 7, 8, 15, 16, 17, 31, 33])) for _ in range(2))
    return ((images, *image, channels), (size, size, channels, units), (units,), (images, *out, units)), tuple(pad)


def within(found, dtype):
    return all(error <= BOUND[dtype] for error in found)  # False for NaN


@SOME
@given(problem=problems(), dtype=st.sampled_from(["float32", "float64"]), seed=st.integers(0, 99))
def test_three_passes_of_any_size_agree_with_the_reference(problem, dtype, seed):
    """Compared by the largest product that could occur, since a sum of few terms may cancel to nothing."""
    shapes, padding = problem
    arrays = normal(shapes, dtype, seed)
    x, weight, _, dy = arrays
    exact = three_passes(reference, *(array.astype(np.float64) for array in arrays), padding)
    got = three_passes(winograd, *arrays, padding)
    scale = [np.abs(a).max() * np.abs(b).max() for a, b in ((x, weight), (dy, weight), (x, dy), (dy, dy))]
    for one, want, least in zip(got, exact, scale):
        assert np.abs(one - want).max() <= BOUND[dtype] * max(least, np.abs(want).max())
        assert np.isnan(one.base[:128]).all() and np.isnan(one.base[128 + one.size :]).all()


REAL = [  # images, height and width, channels, units, size, padding
    (34, (16, 16), 64, 64, 5, (2, 2)),
    (34, (8, 8), 64, 128, 5, (2, 2)),
    (34, (13, 13), 32, 64, 3, (0, 0)),
    (2, (37, 71), 24, 40, 3, (1, 1)),
    (2, (67, 130), 16, 24, 5, (4, 0)),
]


@pytest.mark.jit_only
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("geometry", REAL)
def test_the_stated_error_holds_on_normal_data(geometry, dtype):
    images, image, channels, units, size, padding = geometry
    out = tuple(cells + 2 * pad - size + 1 for cells, pad in zip(image, padding))
    shapes = (images, *image, channels), (size, size, channels, units), (units,), (images, *out, units)
    found = errors(normal(shapes, dtype), padding)
    assert within(found, dtype), found


@pytest.mark.jit_only
def test_images_of_more_than_two_chunks():
    images = 2 * winograd.LEAST + 2
    shapes = (images, 4, 4, 16), (3, 3, 16, 16), (16,), (images, 4, 4, 16)
    assert max(errors(normal(shapes, "float64"), (1, 1))) <= BOUND["float64"]


@pytest.mark.parametrize(("size", "channels", "units"), [(3, 32, 64), (5, 64, 64), (5, 64, 128)])
def test_threads_find_chunks_to_share_in_small_batches_too(size, channels, units):
    weight = np.empty((size, size, channels, units), np.float32)
    for images in (32, 64, 128, 1000):
        x = np.broadcast_to(np.float32(0), (images, 16, 16, channels))
        plan, xs, ys = winograd.plan_winograd((16, 16), x, weight, (1, 1), units)
        each, chunks, _ = winograd.plan_chunks(plan, xs, ys)
        assert chunks >= 4 and (chunks - 1) * each < images <= chunks * each and each <= winograd.MOST


def test_a_panel_reads_no_further_than_the_zeros():
    for dtype in (np.dtype(np.float32), np.dtype(np.float64)):
        assert max(shape.vectors * shape.lanes for shape in tile.shapes(dtype)) <= transforms.ZEROS


@pytest.mark.parametrize("size", [3, 5])
def test_a_worse_error_would_be_seen(size):
    """Weights wrong by 0.1 % break the bound."""
    shapes = (2, 9, 9, 16), (size, size, 16, 16), (16,), (2, 9, 9, 16)
    x, weight, bias, dy = normal(shapes, "float32")
    y, want = np.empty_like(dy), np.empty_like(dy)
    winograd.forward(y, x, weight * np.float32(1.001), bias, (size // 2, size // 2))
    reference.conv2d_forward(want, x, weight, bias, (1, 1), (size // 2, size // 2))
    assert not within([np.abs(y - want).max() / np.abs(want).max()], "float32")


def test_images_that_fit_in_no_cache_are_cut_into_lines(monkeypatch):
    shapes = (3, 18, 11, 5), (3, 3, 5, 6), (6,), (3, 18, 11, 6)
    arrays = normal(shapes, "float32")
    want = three_passes(winograd, *arrays, (1, 1))
    monkeypatch.setattr(winograd, "CACHE", 1)
    allowed = 1e-5 if numba.config.DISABLE_JIT else 0  # NumPy's products sum in an order of their own
    for got, w in zip(three_passes(winograd, *arrays, (1, 1)), want):
        assert np.abs(got - w).max() <= allowed * np.abs(w).max()


def test_junk_in_the_workspace_reaches_no_result():
    arrays = normal(((35, 6, 7, 5), (3, 3, 5, 7), (7,), (35, 6, 7, 7)), "float32")
    want = three_passes(winograd, *arrays, (1, 1))
    for pass_ in range(4):
        jit.workspace("winograd", 1, np.dtype(np.float32)).fill(np.nan)
        np.testing.assert_array_equal(three_passes(winograd, *arrays, (1, 1))[pass_], want[pass_])


def test_inputs_of_any_steps_are_understood():
    arrays = normal(((3, 6, 7, 5), (5, 5, 5, 7), (7,), (3, 6, 7, 7)), "float32")
    want = three_passes(winograd, *arrays, (2, 2))
    turned = [np.asfortranarray(array) for array in arrays]
    got = three_passes(winograd, *turned, (2, 2), lambda like: np.empty(like.shape, like.dtype))
    for g, w in zip(got, want):
        np.testing.assert_array_equal(g, w)


# --- where it is chosen ----------------------------------------------------------------------------------------------


@pytest.fixture
def switch():
    before = winograd._on
    winograd.use(True)
    yield winograd.use
    winograd.use(before)


@pytest.mark.jit_only  # the direct form of so many channels takes half a minute in plain Python
def test_the_switch_gives_the_direct_form_back(switch):
    arrays = normal(((4, 16, 16, 32), (5, 5, 32, 32), (32,), (4, 16, 16, 32)), "float32")
    want = three_passes(winograd, *arrays, (2, 2))
    for got, w in zip(three_passes(kernels, *arrays, (2, 2)), want):
        np.testing.assert_array_equal(got, w)
    switch(False)
    results = three_passes(kernels, *arrays, (2, 2))
    for got, w in zip(results, want):
        assert not np.array_equal(got, w)
    assert max(errors(arrays, (2, 2), kernels)) < 2e-6


@pytest.mark.parametrize(("setting", "expected"), [("off", "False"), ("OFF", "False"), ("", "True"), ("on", "True")])
def test_the_variable_sets_the_default(setting, expected):
    code = "from scratchnet.kernels import winograd; print(winograd._on)"
    assert run_code(code, SCRATCHNET_WINOGRAD=setting).strip() == expected


@pytest.mark.parametrize(
    ("image", "weight", "stride", "expected"),
    [
        ((64, 16, 16, 64), (5, 5, 64, 64), (1, 1), True),
        ((64, 16, 16, 64), (3, 3, 64, 64), (1, 1), True),
        ((64, 16, 16, 64), (3, 3, 64, 64), (1, 2), False),
        ((64, 16, 16, 64), (3, 5, 64, 64), (1, 1), False),
        ((64, 16, 16, 64), (1, 1, 64, 64), (1, 1), False),
        ((64, 16, 16, 3), (3, 3, 3, 64), (1, 1), False),
        ((64, 16, 16, 64), (3, 3, 64, 4), (1, 1), False),
        ((64, 1, 16, 64), (3, 3, 64, 64), (1, 1), False),
        ((0, 16, 16, 64), (3, 3, 64, 64), (1, 1), False),
    ],
)
def test_what_is_computed_in_this_way(image, weight, stride, expected, switch):
    x = np.empty(image, "f")
    assert winograd.is_faster(image[1:3], x, np.empty(weight, "f"), stride) is expected


# --- threads ---------------------------------------------------------------------------------------------------------

BITS = """
    import hashlib, sys
    import numpy as np
    from scratchnet import kernels, threads
    from scratchnet.kernels import winograd

    def bits():
        rng, digest = np.random.default_rng(0), hashlib.sha256()
        for images, channels, units, size in ((101, 16, 40, 3), (4, 33, 64, 5), (70, 33, 24, 5)):
            shapes = (images, 14, 15, channels), (size, size, channels, units), (units,), (images, 14, 15, units)
            x, weight, bias, dy = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
            y, dx, dweight, dbias = (np.empty_like(array) for array in (dy, x, weight, bias))
            winograd.forward(y, x, weight, bias, (1, 1))
            winograd.backward_input(dx, dy, weight, (1, 1))
            winograd.backward_weight(dweight, dbias, x, dy, (1, 1))
            for array in (y, dx, dweight, dbias):
                digest.update(array)
            pooled, index = np.empty((images, 7, 7, units), "f"), np.empty((images, 7, 7, units), np.uint8)
            windows = (14, 15), (1, 1), (1, 1), (2, 2), (2, 2), (0, 0)
            kernels.conv2d_relu_max_pool2d_forward(pooled, index, x, weight, bias, *windows)
            read = dy[:, :7, :7], pooled, index, x, weight
            kernels.conv2d_relu_max_pool2d_backward(dx, dweight, dbias, *read, *windows)
            for array in (pooled, index, dx, dweight, dbias):
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
    results = run_code(BITS, 1, 2, 3, 4, 7, NUMBA_NUM_THREADS="7").split()
    assert len(results) == 5 and len(set(results)) == 1

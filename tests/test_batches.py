"""Batches and held-out parts: every row once, in an order that only seed and epoch decide."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchnet.data import Rows, Split, batches, count_batches, hold_out, scale
from scratchnet.data.batches import shuffled

X = np.arange(10 * 6, dtype=np.uint8).reshape(10, 2, 3, 1) * 4
Y = np.arange(10)
RECORDED = {(0, 0): [0, 2, 9, 1, 8, 5, 4, 3, 6, 7], (7, 3): [2, 5, 9, 7, 3, 0, 6, 8, 4, 1]}  # (seed, epoch) -> order


def joined(found):
    found = list(found)
    return np.concatenate([x for x, _ in found]), np.concatenate([y for _, y in found])


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 60), batch_size=st.integers(1, 70), seed=st.integers(0, 2**64 - 1), epoch=st.integers(0, 9))
def test_every_row_comes_once_with_its_label(rows, batch_size, seed, epoch):
    x = np.arange(rows, dtype=np.float64)[:, None]
    found = list(batches(x, np.arange(rows), batch_size, seed, epoch, dtype="float64"))
    sizes = [len(y) for _, y in found]
    assert len(found) == count_batches(rows, batch_size)
    assert sizes[:-1] == [batch_size] * (len(found) - 1) and sum(sizes) == rows
    xs, ys = joined(found)
    np.testing.assert_array_equal(xs[:, 0], ys)
    np.testing.assert_array_equal(np.sort(ys), np.arange(rows))


def test_the_order_follows_from_seed_and_epoch():
    def order(**arguments):
        return joined(batches(X, Y, 4, **arguments))[1].tolist()

    assert order(seed=3, epoch=1) == order(seed=3, epoch=1)
    orders = {tuple(order(seed=seed, epoch=epoch)) for seed in range(4) for epoch in range(4)}
    assert len(orders) == 16
    assert order(seed=0, epoch=1) != order(seed=1, epoch=0)
    assert order(shuffle=False) == list(range(10))


def test_the_order_is_a_recorded_one():
    """Runs of earlier versions must resume in their order."""
    assert shuffled(10, 0, 0).tolist() == RECORDED[0, 0]
    assert shuffled(10, 7, 3).tolist() == RECORDED[7, 3]


def test_the_order_is_uniform():
    """Over 2,000 seeds each of 5 rows stands at each place a fifth of the time: chi squared, 16 degrees of freedom."""
    places = np.array([shuffled(5, seed, 0) for seed in range(2000)])
    counts = np.array([np.bincount(places[:, place], minlength=5) for place in range(5)])
    assert ((counts - 400) ** 2 / 400).sum() <= 39.3  # p = 0.001


def test_start_continues_in_mid_epoch():
    whole = list(batches(X, Y, 3, seed=5, epoch=2))
    rest = list(batches(X, Y, 3, seed=5, epoch=2, start=2))
    assert len(rest) == 2
    for (x, y), (x2, y2) in zip(whole[2:], rest):
        np.testing.assert_array_equal(x, x2)
        np.testing.assert_array_equal(y, y2)
    assert list(batches(X, Y, 3, start=4)) == []


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_pixels_are_scaled_and_kept(dtype):
    before = X.copy()
    x, y = joined(batches(X, Y, 4, dtype=dtype))
    assert x.dtype == dtype and x.shape == X.shape and y.dtype == np.int64
    np.testing.assert_array_equal(x, X[y].astype(dtype) / np.dtype(dtype).type(255))
    np.testing.assert_array_equal(X, before)


def test_every_pixel_is_correctly_rounded():
    every = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(scale(every), (np.arange(256, dtype=np.float64) / 255).astype(np.float32))
    assert scale(every)[[0, 255]].tolist() == [0, 1]
    assert scale(every, "float64").dtype == np.float64


def test_batches_are_copies():
    x = np.ones((4, 2), np.float32)
    y = np.arange(4)
    for xb, yb in batches(x, y, 2, shuffle=False):
        xb[...] = 7
        yb[...] = 7
    assert (x == 1).all() and y.tolist() == [0, 1, 2, 3]


def test_floats_are_given_on_in_the_asked_dtype():
    x = np.linspace(-3, 300, 12).reshape(4, 3)
    for dtype in ("float32", "float64"):
        xb, yb = next(batches(x, np.arange(4), 4, dtype=dtype))
        assert xb.dtype == dtype
        np.testing.assert_array_equal(xb, x[yb].astype(dtype))


@pytest.mark.parametrize("form", [scipy.sparse.csr_array, scipy.sparse.csr_matrix])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sparse_rows_stay_sparse(form, dtype):
    dense = (np.random.default_rng(0).random((9, 5)) < 0.3).astype(np.float32)
    for xb, yb in batches(form(dense), np.arange(9), 4, dtype=dtype):
        assert xb.format == "csr" and xb.dtype == dtype and xb.indices.dtype == np.int32
        np.testing.assert_array_equal(xb.toarray(), dense[yb])


def test_a_memory_map_gives_plain_arrays(tmp_path):
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    for xb, yb in batches(mapped, Y, 4):
        assert type(xb) is np.ndarray
        np.testing.assert_array_equal(xb, scale(X[yb]))


@pytest.mark.jit_only
def test_a_read_only_float_array_is_not_copied_whole():
    import tracemalloc

    x = np.zeros((500_000, 4), np.float32)  # 8 MB
    x.flags.writeable = False
    for rows in (x, x[:, ::-1], Rows(x, np.arange(1000))):
        next(batches(rows, np.zeros(len(rows), np.int64), 128, shuffle=False))  # compiles
        tracemalloc.start()
        next(batches(rows, np.zeros(len(rows), np.int64), 128, shuffle=False))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak <= 5e6 + 16 * len(rows)  # labels and order


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(), (1,), (3, 2)])
def test_float_targets_go_with_their_rows(shape, dtype):
    targets = np.random.default_rng(0).standard_normal((10, *shape))
    for reuse in (False, True):
        seen = 0
        for xb, yb in batches(X, targets, 4, seed=3, dtype=dtype, reuse=reuse):
            assert yb.dtype == dtype and yb.shape == (len(xb), *shape)
            for row, target in zip(xb, yb):
                (place,) = np.flatnonzero((scale(X, dtype) == row).reshape(10, -1).all(axis=1))
                np.testing.assert_array_equal(target, targets[place].astype(dtype))
                seen += 1
        assert seen == 10


@pytest.mark.jit_only  # memory is the same in plain Python, and takes minutes to fill
def test_only_a_batch_at_a_time_becomes_float():
    import tracemalloc

    x = np.zeros((4000, 32, 32, 3), np.uint8)  # 12 MB; as float32 49 MB, a batch 1.6 MB
    next(batches(x, np.zeros(4000, np.int64), 128))  # compiles
    tracemalloc.start()
    for _ in batches(x, np.zeros(4000, np.int64), 128):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= 6e6


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": X.tolist()}, TypeError, r"x: expected a NumPy array, got list"),
        ({"x": X.astype(np.int64)}, TypeError, r"x: expected dtype float32 or float64, got int64"),
        ({"x": scipy.sparse.csr_array(np.eye(10, dtype=np.int64))}, TypeError, r"x: expected dtype float32, got int64"),
        ({"x": scipy.sparse.csc_array(np.eye(10))}, TypeError, r"x: expected a CSR matrix"),
        ({"x": np.zeros((0, 3)), "y": Y[:0]}, ValueError, r"x: expected \(N, \.\.\.\) with at least one row"),
        ({"x": np.zeros(10)}, ValueError, r"x: expected \(N, \.\.\.\) with at least one row of numbers, got \(10,\)"),
        ({"x": np.full((10, 2), np.nan)}, ValueError, r"x: expected finite numbers, got nan at index \(0, 0\)"),
        ({"x": scipy.sparse.csr_array(np.full((10, 2), np.inf))}, ValueError, r"x: expected finite numbers"),
        ({"x": np.full((10, 2), 1e300)}, ValueError, r"x: expected numbers that fit float32, got 1e\+300"),
        ({"y": Y[:9]}, ValueError, r"y: expected shape \(10,\), got \(9,\)"),
        ({"y": Y.astype("float16")}, TypeError, r"y: expected integer labels or float targets, got dtype float16"),
        ({"y": Y.tolist()}, TypeError, r"y: expected a NumPy array of labels or targets, got list"),
        ({"y": np.zeros((9, 2))}, ValueError, r"y: expected shape \(10, \.\.\.\), got \(9, 2\); one target per row"),
        ({"y": np.full((10, 2), np.nan)}, ValueError, r"y: expected finite numbers, got nan at index \(0, 0\)"),
        ({"y": np.full(10, 1e300)}, ValueError, r"y: expected numbers that fit float32, got 1e\+300"),
        ({"x": np.ma.masked_array(np.zeros((10, 2), np.uint8))}, TypeError, r"x: expected a NumPy array, got Masked"),
        ({"batch_size": 0}, ValueError, r"batch_size: expected an integer >= 1, got 0"),
        ({"batch_size": 2.0}, TypeError, r"batch_size: expected an integer, got 2.0"),
        ({"seed": -1}, ValueError, r"seed: expected an integer >= 0"),
        ({"seed": 2**64}, ValueError, r"seed: expected an integer below 2\*\*64"),
        ({"epoch": -1}, ValueError, r"epoch: expected an integer >= 0"),
        ({"start": -1}, ValueError, r"start: expected an integer >= 0"),
        ({"start": 2}, ValueError, r"start: expected at most 1, the batches of an epoch, got 2"),
        ({"dtype": "float16"}, ValueError, r"dtype: expected one of float32, float64, got 'float16'"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_first_batch(change, error, message):
    with pytest.raises(error, match=message):
        batches(**{"x": X, "y": Y, **change})


@pytest.mark.parametrize("rows", [1, 4096, 4097, 8193, 9000])
def test_nan_is_found_wherever_it_is(rows):
    x = np.zeros((rows, 2))
    x[-1, 1] = np.nan
    with pytest.raises(ValueError, match=rf"got nan at index \({rows - 1}, 1\)"):
        batches(x, np.zeros(rows, np.int64))


def test_scale_takes_held_out_rows():
    pixels = np.arange(8, dtype=np.uint8).reshape(4, 2)
    rows = Rows(pixels, np.array([2, 0]))
    assert np.array_equal(scale(rows), scale(pixels[[2, 0]]))


def test_scale_takes_pixels_only():
    with pytest.raises(TypeError, match="expected a uint8 array of pixels, got float64"):
        scale(np.zeros(3))
    with pytest.raises(TypeError, match="got list"):
        scale([1, 2])


# --- held-out parts --------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    labels=st.lists(st.integers(0, 4), min_size=2, max_size=80),
    fraction=st.floats(0.02, 0.98),
    seed=st.integers(0, 1000),
)
def test_hold_out_parts_the_rows_by_class(labels, fraction, seed):
    y = np.array(labels)
    x = np.arange(len(y), dtype=np.uint8)[:, None]
    count = round(fraction * len(y))
    if count in (0, len(y)):
        with pytest.raises(ValueError, match="hold_out: fraction: expected one that leaves rows in both parts"):
            hold_out(Split(x, y), fraction, seed)
        return
    train, validation = hold_out(Split(x, y), fraction, seed)
    assert (len(train), len(validation)) == (len(y) - count, count)
    rows = np.concatenate([np.asarray(train.x), np.asarray(validation.x)])[:, 0]
    np.testing.assert_array_equal(np.sort(rows), np.arange(len(y)))
    for part in (train, validation):
        np.testing.assert_array_equal(part.y, y[np.asarray(part.x)[:, 0]])
    for label in set(labels):
        share = (y == label).sum() * count / len(y)
        assert abs((validation.y == label).sum() - share) < 1


def test_hold_out_is_fixed_by_its_seed_and_shares_the_images():
    split = Split(X, np.arange(10) % 2)
    parts = [np.asarray(hold_out(split, 0.4, seed)[1].x).tobytes() for seed in (0, 0, 1)]
    assert parts[0] == parts[1] != parts[2]
    train, validation = hold_out(split, 0.4)
    assert train.x.array.base is X and validation.x.array.base is X
    assert train.x.shape == (6, 2, 3, 1) and train.x.dtype == np.uint8 and len(train.x) == 6


def test_the_largest_remainder_gets_the_row_that_is_left():
    """.3 of 7 is 2.1, .3 of 3 is .9."""
    _, validation = hold_out(Split(X, np.repeat([0, 1], [7, 3])), 0.3)
    assert sorted(validation.y) == [0, 0, 1]


def test_hold_out_of_a_held_out_part():
    first, _ = hold_out(Split(X, Y % 2), 0.2)
    second, rest = hold_out(first, 0.5)
    assert np.shares_memory(second.x.array, X)
    rows = {i.tobytes() for part in (second, rest) for i in np.asarray(part.x)}
    assert rows == {i.tobytes() for i in np.asarray(first.x)}


def test_hold_out_of_text():
    dense = np.eye(10, dtype=np.float32)
    train, validation = hold_out(Split(scipy.sparse.csr_array(dense), Y), 0.3)
    assert train.x.format == "csr" and validation.x.shape == (3, 10)
    np.testing.assert_array_equal(validation.x.toarray(), dense[validation.y])


@pytest.mark.parametrize("fraction", [0, 1, -0.1, float("nan"), "half"])
def test_hold_out_refuses_other_fractions(fraction):
    with pytest.raises((ValueError, TypeError), match="hold_out: fraction: expected"):
        hold_out(Split(X, Y), fraction)


def test_rows_read_like_an_array():
    rows = Rows(X, np.array([3, 1, 1]))
    np.testing.assert_array_equal(rows[0], X[3])
    np.testing.assert_array_equal(rows[1:], X[[1, 1]])
    np.testing.assert_array_equal(rows[np.array([2, 0])], X[[1, 3]])
    assert np.asarray(rows, dtype=np.float32).dtype == np.float32
    with pytest.raises(ValueError, match="copy=False"):
        np.array(rows, copy=False)


def test_batches_of_held_out_rows():
    train, validation = hold_out(Split(X, Y), 0.3)
    x, y = joined(batches(train.x, train.y, 2, seed=1))
    np.testing.assert_array_equal(x, scale(X[y]))
    assert sorted(y.tolist() + validation.y.tolist()) == list(range(10))
    with pytest.raises(ValueError, match="got nan"):
        batches(Rows(np.full((3, 2), np.nan), np.array([1])), Y[:1])
    with pytest.raises(ValueError, match="at least one row"):
        batches(Rows(X, np.array([], int)), Y[:0])


# --- memory ----------------------------------------------------------------------------------------------------------


def forms():
    """name -> rows of each kind that batches takes, 10 of them."""
    rng = np.random.default_rng(1)
    sparse = scipy.sparse.random_array((10, 30), density=0.3, format="csr", rng=rng, dtype=np.float32)
    return {
        "pixels": X,
        "strided pixels": np.repeat(X, 2, axis=0)[::2],
        "held-out pixels": Rows(np.concatenate([X[:3], X]), np.arange(3, 13)),
        "rows counted from the end": Rows(X, np.arange(-10, 0)),
        "float32": rng.standard_normal((10, 7)).astype(np.float32),
        "float64": rng.standard_normal((10, 2, 3)),
        "held-out floats": Rows(rng.standard_normal((20, 7)), np.arange(19, 9, -1)),
        "sparse": sparse,
        "sparse float64": sparse.astype(np.float64),
    }


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("reuse", [False, True])
@pytest.mark.parametrize("name", forms())
def test_every_form_gives_its_rows(name, reuse, dtype):
    x = forms()[name]
    seen = []
    for xb, yb in batches(x, Y, 4, seed=2, dtype=dtype, reuse=reuse):
        want = x[yb]
        want = scale(want, dtype) if want.dtype == np.uint8 else want.astype(dtype)
        assert xb.dtype == dtype and yb.dtype == np.int64
        if scipy.sparse.issparse(want):
            assert type(xb) is type(want) and xb.indices.dtype == want.indices.dtype
            xb, want = xb.toarray(), want.toarray()
        np.testing.assert_array_equal(xb, want)
        seen += yb.tolist()
    assert sorted(seen) == list(range(10))


def test_reused_memory_is_the_same_and_fresh_memory_is_not():
    for name in ("pixels", "float32", "sparse"):
        for reuse in (False, True):
            found = list(batches(forms()[name], Y, 5, reuse=reuse))
            (first, first_y), (second, second_y) = found
            if name == "sparse":
                first, second = first.indptr, second.indptr
            assert np.shares_memory(first, second) == reuse
            assert np.shares_memory(first_y, second_y) == reuse


def test_large_batches_are_gathered_by_many_threads_into_the_same_bits():
    x = np.random.default_rng(0).integers(0, 256, (400, 32, 32), dtype=np.uint8)
    y = np.arange(400)
    xb, yb = next(batches(x, y, 300, seed=1))
    np.testing.assert_array_equal(xb, scale(x[yb]))


@pytest.mark.parametrize(("index", "got"), [([3, 10], "3 to 10"), ([-11, 0], "-11 to 0")])
def test_rows_beyond_the_array_are_an_error(index, got):
    with pytest.raises(ValueError, match=f"batches: x: expected Rows of an array of 10, got indices from {got}"):
        batches(Rows(X, np.array(index)), Y[:2])


def test_rows_that_leave_bad_ones_out_are_good():
    x = np.ones((3, 2), np.float32)
    x[0] = np.nan
    for xb, _ in batches(Rows(x, np.array([1, 2])), Y[:2], 2):
        np.testing.assert_array_equal(xb, x[1:])
    with pytest.raises(ValueError, match=r"got nan at index \(1, 0\)"):
        batches(Rows(x, np.array([2, 0])), Y[:2])


def test_a_foreign_byte_order_in_csr_is_refused():
    x = scipy.sparse.csr_matrix(np.eye(4, dtype="float32"))
    x.data = x.data.astype(">f4")
    with pytest.raises(TypeError, match=r"batches: x: expected dtype float32, got >f4; convert it with"):
        batches(x, np.zeros(4, np.int64), 2)


def test_a_pair_is_no_split():
    with pytest.raises(TypeError, match=r"hold_out: split: expected a Split, got tuple; make one with Split\(x, y\)"):
        hold_out((np.eye(4), np.zeros(4, np.int64)), 0.5)


def test_csr_that_changes_between_batches_is_noticed():
    x = scipy.sparse.random_array((10, 50), density=0.5, format="csr", dtype=np.float32, rng=np.random.default_rng(0))
    for part in ("data", "indices"):
        changed = x.copy()
        cut = batches(changed, Y, 2, shuffle=False)
        next(cut)
        setattr(changed, part, getattr(changed, part)[:3].copy())
        with pytest.raises(ValueError, match="expected a CSR matrix that stays as it is while batches are cut"):
            list(cut)


def test_rows_and_hold_out_refuse_what_does_not_fit():
    for index in (np.zeros((2, 2), int), [0, 1], np.array([0.5])):
        with pytest.raises(TypeError, match="Rows: index: expected a 1-D array of integers"):
            Rows(X, index)
    with pytest.raises(ValueError, match=r"one label per row, got x \(10, 2, 3, 1\) and y \(9,\)"):
        hold_out(Split(X, Y[:-1]), 0.5)


def test_a_negative_number_that_does_not_fit_is_refused():
    for change in ({"x": np.full((10, 2), -1e300)}, {"y": np.full(10, -1e300)}):
        with pytest.raises(ValueError, match=r"expected numbers that fit float32, got 1e\+300"):
            batches(**{"x": X, "y": Y, **change})


@pytest.mark.parametrize(("place", "value"), [(2, -5), (3, 0)])
def test_indptr_that_changes_between_batches_is_noticed(place, value):
    x = scipy.sparse.random_array((10, 50), density=0.5, format="csr", dtype=np.float32, rng=np.random.default_rng(0))
    cut = batches(x, Y, 2, shuffle=False)
    next(cut)
    x.indptr[place] = value
    with pytest.raises(ValueError, match="expected a CSR matrix that stays as it is while batches are cut"):
        list(cut)


@pytest.mark.parametrize("name", ["foreign byte order", "unaligned"])
def test_rows_that_no_kernel_can_read_are_gathered_without_one(name):
    x = np.random.default_rng(0).standard_normal((10, 3))
    odd = x.astype(">f8")
    if name == "unaligned":
        odd = np.zeros(x.nbytes + 1, np.uint8)[1:].view(np.float64).reshape(x.shape)
        odd[...] = x
    for xb, yb in batches(odd, Y, 4, dtype="float64"):
        assert xb.dtype.isnative
        np.testing.assert_array_equal(xb, x[yb])

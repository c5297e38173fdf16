"""Losses: their definitions, extreme logits, sample weights, reductions, gradients by finite differences, bad input."""

from __future__ import annotations

import math

import numba
import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchnet import kernels, reference
from scratchnet.losses import binary_cross_entropy, gaussian_kl, l2_penalty, mse, softmax_cross_entropy

FLOORS = pytest.mark.parametrize("ops", [reference, kernels], ids=["reference", "kernels"])
DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])
BIG = 3.4e38
EXTREMES = (0.0, 1e-45, -1e-45, 88.7, -88.7, 1e4, -1e4, BIG, -BIG)


def example(name, rows=6, dtype="float64", seed=0):
    """(loss function, the arrays it takes) with random numbers."""
    rng = np.random.default_rng(seed)
    values, others = (rng.standard_normal((rows, 5)).astype(dtype) for _ in range(2))
    return {
        "softmax_cross_entropy": (softmax_cross_entropy, (values, rng.integers(0, 5, rows))),
        "binary_cross_entropy": (binary_cross_entropy, (values, rng.random((rows, 5)).astype(dtype))),
        "mse": (mse, (values, others)),
        "gaussian_kl": (gaussian_kl, (values, others)),
    }[name]


ALL = pytest.mark.parametrize("name", ["softmax_cross_entropy", "binary_cross_entropy", "mse", "gaussian_kl"])
REDUCTIONS = pytest.mark.parametrize("reduction", ["mean", "sum", "batchmean"])


def gradients(result):
    """The gradient arrays of a loss's result, as a tuple."""
    return result[1] if isinstance(result[1], tuple) else (result[1],)


def softmax(logits):
    """softmax_cross_entropy's probabilities, read off its gradient."""
    rows = np.arange(len(logits))
    _, dlogits = softmax_cross_entropy(logits, np.zeros(len(logits), int), reduction="sum")
    dlogits[rows, 0] += 1
    return dlogits


# --- definitions ---------------------------------------------------------------------------------------------------


@FLOORS
@given(st.integers(1, 6), st.integers(1, 7), st.integers(0, 999))
@settings(max_examples=20, deadline=None)
def test_cross_entropy_is_the_loop(ops, rows, classes, seed):
    rng = np.random.default_rng(seed)
    logits, labels, weight = rng.standard_normal((rows, classes)) * 3, rng.integers(0, classes, rows), rng.random(rows)
    losses, dlogits = np.empty(rows), np.empty((rows, classes))
    ops.softmax_cross_entropy(losses, dlogits, logits, labels, weight)
    want_losses, want_dlogits = oracles.softmax_cross_entropy(logits, labels, weight)
    assert np.abs(losses - want_losses).max() <= 1e-14 * max(1, np.abs(want_losses).max())
    assert np.abs(dlogits - want_dlogits).max() <= 1e-15


@FLOORS
def test_binary_cross_entropy_is_its_definition(ops):
    _, (logits, targets) = example("binary_cross_entropy")
    p = 1 / (1 + np.exp(-logits))
    want = -(targets * np.log(p) + (1 - targets) * np.log(1 - p))
    loss, dlogits = binary_cross_entropy(logits, targets, ops=ops)
    assert abs(loss - want.mean()) <= 1e-15
    assert np.abs(dlogits - (p - targets) / logits.size).max() <= 1e-16


@FLOORS
def test_mse_and_gaussian_kl_by_hand(ops):
    loss, gradient = mse(np.array([[1.0, 2.0], [3.0, 5.0]]), np.array([[1.0, 0.0], [0.0, 1.0]]), ops=ops)
    assert loss == (0 + 4 + 9 + 16) / 4
    np.testing.assert_array_equal(gradient, [[0, 1], [1.5, 2]])
    mean, log_variance = np.array([[0.0, 1.0], [2.0, 0.0]]), np.log([[1.0, 1.0], [1.0, 4.0]])
    loss, (dmean, dlog_variance) = gaussian_kl(mean, log_variance, ops=ops)
    assert loss == pytest.approx((0.5 + 2 + (4 - 1 - math.log(4)) / 2) / 2, rel=1e-15)
    np.testing.assert_allclose(dmean, mean / 2, rtol=1e-15)
    np.testing.assert_allclose(dlog_variance, [[0, 0], [0, 0.75]], rtol=1e-15)


def test_gaussian_kl_is_the_integral():
    mean, log_variance = 0.7, -0.4
    x = np.linspace(-12, 12, 100_001)
    q = np.exp(-((x - mean) ** 2) / (2 * math.exp(log_variance))) / math.sqrt(2 * math.pi * math.exp(log_variance))
    log_p = -(x**2) / 2 - math.log(math.sqrt(2 * math.pi))
    with np.errstate(divide="ignore", invalid="ignore"):
        integrand = np.where(q > 0, q * (np.log(q) - log_p), 0)
    loss, _ = gaussian_kl(np.array([[mean]]), np.array([[log_variance]]))
    assert abs(loss - integrand.sum() * (x[1] - x[0])) <= 1e-9


@ALL
@FLOORS
@DTYPES
def test_types_and_untouched_inputs(name, ops, dtype):
    function, arrays = example(name, dtype=dtype)
    copies = [a.copy() for a in arrays]
    result = function(*arrays, ops=ops)
    assert type(result[0]) is float
    for gradient in gradients(result):
        assert gradient.dtype == dtype and gradient.shape == arrays[0].shape
        assert not any(np.shares_memory(gradient, a) for a in arrays)
    for array, copy in zip(arrays, copies):
        np.testing.assert_array_equal(array, copy)


@ALL
def test_each_call_returns_a_new_gradient(name):
    function, arrays = example(name)
    first, second = gradients(function(*arrays)), gradients(function(*arrays))
    assert not any(np.shares_memory(a, b) for a, b in zip(first, second))


def test_loss_is_summed_in_float64():
    rng = np.random.default_rng(0)
    predictions = rng.random((100_000, 1)).astype("float32")
    loss, _ = mse(predictions, np.zeros_like(predictions))
    assert abs(loss - np.square(predictions, dtype=np.float64).mean()) <= 1e-14


# --- extreme numbers -----------------------------------------------------------------------------------------------


@FLOORS
@DTYPES
def test_cross_entropy_of_extreme_logits(ops, dtype):
    logits = np.array([[a, b, c] for a in EXTREMES for b in EXTREMES for c in EXTREMES], dtype)
    for label in range(3):
        labels = np.full(len(logits), label)
        losses, dlogits = np.empty(len(logits)), np.empty_like(logits)
        with np.errstate(over="ignore"):
            ops.softmax_cross_entropy(losses, dlogits, logits, labels, np.ones(len(logits)))
        assert np.isfinite(losses).all() and (losses >= 0).all()
        assert np.abs(dlogits.sum(axis=1, dtype=np.float64)).max() <= 2**-22
        assert (np.abs(dlogits) <= 1).all()
        expected = logits.astype(float).max(axis=1) - logits[:, label]  # up to log(3)
        assert ((losses - expected >= -1e-9 * expected) & (losses - expected <= math.log(3) + 1e-9 * expected)).all()


@FLOORS
@pytest.mark.parametrize("value", EXTREMES)
@pytest.mark.parametrize("classes", [1, 2, 10, 1000 if numba.config.DISABLE_JIT else 100_000])
def test_cross_entropy_of_equal_logits_is_log_k(ops, value, classes):
    logits = np.full((2, classes), value, "float32")
    loss, dlogits = softmax_cross_entropy(logits, np.array([0, classes - 1]), ops=ops)
    assert abs(loss - math.log(classes)) <= 1e-6
    assert np.abs(dlogits.sum(axis=1, dtype=np.float64)).max() <= 2**-22


def test_softmax_rows_sum_to_one():
    logits = (np.random.default_rng(0).standard_normal((50, 1000)) * 20).astype("float32")
    assert np.abs(softmax(logits).sum(axis=1, dtype=np.float64) - 1).max() <= 2**-22


@FLOORS
def test_a_confident_prediction_keeps_its_digits(ops):
    """In float32, 1 - p is 0 for a logit of 20; the gradient is not."""
    q = math.exp(-20) / (1 + math.exp(-20))
    _, dlogits = softmax_cross_entropy(np.array([[20, 0]], "float32"), np.array([0]), ops=ops)
    np.testing.assert_allclose(dlogits, [[-q, q]], rtol=1e-6)
    loss, dlogits = binary_cross_entropy(np.array([20, -20], "float32"), np.array([1, 0], "float32"), ops=ops)
    np.testing.assert_allclose(dlogits, [-q / 2, q / 2], rtol=1e-6)
    assert loss == pytest.approx(math.log1p(math.exp(-20)), rel=1e-6)


@FLOORS
@DTYPES
@pytest.mark.parametrize("target", [0.0, 1e-30, 0.25, 1.0])
def test_binary_cross_entropy_of_extreme_logits(ops, dtype, target):
    for z in EXTREMES:
        loss, dlogits = binary_cross_entropy(np.array([z], dtype), np.array([target], dtype), ops=ops)
        want = max(z, 0) - z * target + math.log1p(math.exp(-abs(z)))
        assert abs(loss - want) <= 1e-6 * max(want, 1e-4)
        assert abs(float(dlogits[0]) - (0.5 * (1 + math.tanh(z / 2)) - target)) <= 1e-6


@FLOORS
def test_a_class_can_be_ruled_out(ops):
    logits = np.array([[0, -np.inf, 0]])
    loss, dlogits = softmax_cross_entropy(logits, np.array([0]), ops=ops)
    assert loss == pytest.approx(math.log(2), rel=1e-15)
    np.testing.assert_allclose(dlogits, [[-0.5, 0, 0.5]], rtol=1e-15)


@FLOORS
@DTYPES
@ALL
@pytest.mark.parametrize("special", [np.nan, np.inf])
@pytest.mark.parametrize("place", [(0, 0), (3, 2), (5, 4)])
def test_nan_and_inf_show(name, ops, dtype, special, place):
    function, arrays = example(name, dtype=dtype)
    arrays[0][place] = special
    loss, *_ = result = function(*arrays, ops=ops)
    assert not math.isfinite(loss)
    if name != "binary_cross_entropy" or np.isnan(special):  # sigmoid(inf) is 1, and so the gradient finite
        assert not np.isfinite(gradients(result)[0][place])


@FLOORS
def test_nan_loss_raises_and_warns_nothing(ops):
    loss, _ = softmax_cross_entropy(np.full((2, 3), np.nan, "float32"), np.array([0, 1]), ops=ops)
    assert math.isnan(loss)
    loss, _ = gaussian_kl(np.zeros((1, 1), "float32"), np.full((1, 1), 1e4, "float32"), ops=ops)
    assert loss == math.inf


# --- reductions and sample weights ---------------------------------------------------------------------------------


@ALL
@FLOORS
def test_reductions_differ_by_their_divisors(name, ops):
    function, arrays = example(name)
    rows, elements = arrays[0].shape
    elements = 1 if name == "softmax_cross_entropy" else elements
    total = function(*arrays, reduction="sum", ops=ops)
    for reduction, divisor in (("batchmean", rows), ("mean", rows * elements)):
        result = function(*arrays, reduction=reduction, ops=ops)
        assert result[0] == pytest.approx(total[0] / divisor, rel=1e-14)
        for got, want in zip(gradients(result), gradients(total)):
            np.testing.assert_allclose(got, want / divisor, rtol=1e-13)


def test_defaults_of_reduction():
    for name in ("softmax_cross_entropy", "binary_cross_entropy", "mse"):
        function, arrays = example(name)
        assert function(*arrays)[0] == function(*arrays, reduction="mean")[0]
    function, arrays = example("gaussian_kl")
    assert function(*arrays)[0] == function(*arrays, reduction="batchmean")[0]


@ALL
@REDUCTIONS
@FLOORS
def test_a_weight_is_worth_that_many_copies(name, reduction, ops):
    function, arrays = example(name)
    copies = np.array([1, 0, 3, 2, 1, 5])
    repeated = function(*[np.repeat(a, copies, axis=0) for a in arrays], reduction=reduction, ops=ops)
    weighted = function(*arrays, sample_weight=copies.astype(float), reduction=reduction, ops=ops)
    assert weighted[0] == pytest.approx(repeated[0], rel=1e-13)
    for got, want in zip(gradients(weighted), gradients(repeated)):
        starts = np.cumsum(copies) - copies
        for n, count in enumerate(copies):
            expected = want[starts[n] : starts[n] + count].sum(axis=0)
            np.testing.assert_allclose(got[n], expected, rtol=1e-12, atol=1e-16)


@ALL
@REDUCTIONS
def test_equal_weights_change_only_a_sum(name, reduction):
    function, arrays = example(name)
    plain = function(*arrays, reduction=reduction)
    weighted = function(*arrays, sample_weight=np.full(6, 2.0, "float32"), reduction=reduction)
    assert weighted[0] == pytest.approx(plain[0] * (2 if reduction == "sum" else 1), rel=1e-14)


def test_large_weights_do_not_overflow():
    loss, gradient = mse(np.ones((6, 3)), np.zeros((6, 3)), sample_weight=np.full(6, 1e307))
    assert loss == pytest.approx(1, rel=1e-14)
    np.testing.assert_allclose(gradient, np.full((6, 3), 2 / 18), rtol=1e-14)


@ALL
@REDUCTIONS
@FLOORS
def test_gradients_are_derivatives(name, reduction, ops):
    function, arrays = example(name)
    weight = np.array([0.5, 0, 1, 2, 1, 3])
    result = function(*arrays, sample_weight=weight, reduction=reduction, ops=ops)
    h = 1e-5
    for array, gradient in zip(arrays, gradients(result)):
        numeric = np.empty_like(array)
        for place in np.ndindex(array.shape):
            at = array[place]
            array[place] = at + h
            up = function(*arrays, sample_weight=weight, reduction=reduction, ops=ops)[0]
            array[place] = at - h
            down = function(*arrays, sample_weight=weight, reduction=reduction, ops=ops)[0]
            array[place] = at
            numeric[place] = (up - down) / (2 * h)
        assert np.abs(numeric - gradient).max() <= 1e-8 * np.abs(gradient).max()


@pytest.mark.parametrize("shape", [(7,), (7, 1), (2, 3, 4, 5)])
@pytest.mark.parametrize("function", [binary_cross_entropy, mse])
def test_any_shape_of_example(function, shape):
    rng = np.random.default_rng(0)
    values, targets = rng.standard_normal(shape), rng.random(shape)
    for reduction in ("mean", "sum", "batchmean"):
        loss, gradient = function(values, targets, reduction=reduction)
        flat_loss, flat_gradient = function(
            values.reshape(shape[0], -1), targets.reshape(shape[0], -1), reduction=reduction
        )
        assert loss == flat_loss and gradient.shape == shape
        np.testing.assert_array_equal(gradient.reshape(flat_gradient.shape), flat_gradient)


def test_arrays_of_another_layout():
    function, (logits, labels) = example("softmax_cross_entropy")
    wide = np.zeros((6, 10))
    wide[:, ::2] = logits
    assert function(wide[:, ::2], labels.astype(np.uint8))[0] == function(logits, labels)[0]


def test_l2_penalty():
    weight = np.array([[1, -2], [3, 0]], "float32")
    loss, gradient = l2_penalty(weight, 0.5)
    assert loss == 0.25 * 14 and type(loss) is float
    np.testing.assert_array_equal(gradient, 0.5 * weight)
    assert gradient.dtype == "float32"
    assert l2_penalty(np.zeros(0), 1.0)[0] == 0


# --- bad input -----------------------------------------------------------------------------------------------------

Z = np.zeros((4, 3), "float32")
Y = np.array([0, 1, 2, 0])


@pytest.mark.parametrize("bad", [-1, 3, 255, 2**31, 2**63 - 1])
@given(st.integers(1, 9), st.data())
@settings(max_examples=20, deadline=None)
def test_a_bad_label_is_named_by_index_value_and_classes(bad, rows, data):
    labels = np.zeros(rows, np.int64)
    place = data.draw(st.integers(0, rows - 1))
    labels[place] = bad
    message = rf"labels: expected labels from 0 to 2 \(3 classes\), got {bad} at index {place} \(1 bad"
    with pytest.raises(ValueError, match=message):
        softmax_cross_entropy(np.zeros((rows, 3), "float32"), labels)


W = np.ones(4)

BAD = [
    (lambda: softmax_cross_entropy([[0.0]], Y), TypeError, "logits: expected a NumPy array, got list"),
    (
        lambda: softmax_cross_entropy(Z.astype(int), Y),
        TypeError,
        "logits: expected dtype float32 or float64, got int64",
    ),
    (lambda: softmax_cross_entropy(Z[0], Y), ValueError, r"logits: expected shape \(N, \*\), got \(3,\)"),
    (lambda: softmax_cross_entropy(Z[:0], Y[:0]), ValueError, r"every size >= 1, got \(0, 3\)"),
    (lambda: softmax_cross_entropy(Z[:, :0], Y), ValueError, r"every size >= 1, got \(4, 0\)"),
    (lambda: softmax_cross_entropy(Z, Y[:3]), ValueError, r"labels: expected shape \(4,\), got \(3,\)"),
    (lambda: softmax_cross_entropy(Z, Y[:, None]), ValueError, r"labels: expected shape \(4,\), got \(4, 1\)"),
    (lambda: softmax_cross_entropy(Z, Y.astype(float)), TypeError, "expected integer labels, got dtype float64"),
    (lambda: softmax_cross_entropy(Z, [0, 1, 2, 0]), TypeError, "labels: expected a NumPy array .* got list"),
    (lambda: softmax_cross_entropy(Z, Y, reduction="meen"), ValueError, "reduction: .* did you mean 'mean'"),
    (lambda: softmax_cross_entropy(Z, Y, W[:3]), ValueError, r"sample_weight: expected shape \(4,\), got \(3,\)"),
    (lambda: softmax_cross_entropy(Z, Y, W.astype(int)), TypeError, "sample_weight: expected dtype float32 or float64"),
    (lambda: softmax_cross_entropy(Z, Y, W * 0 + 1e308), ValueError, "sample_weight: expected a finite sum, got inf"),
    (lambda: mse(Z, Z, ops="kernels"), TypeError, "mse: ops: expected the module scratchnet.kernels"),
    (lambda: softmax_cross_entropy(Z, Y, W * 0), ValueError, "at least one weight above 0, got 4 zeros"),
    (lambda: mse(Z, Z, W * [1, 1, -2, 1]), ValueError, r"sample_weight: .* got -2.0 at index \(2,\)"),
    (
        lambda: mse(Z, Z, W * [1, np.nan, 1, 1]),
        ValueError,
        r"sample_weight: .* got nan at index \(1,\)",
    ),
    (
        lambda: mse(Z, Z, W * [np.inf, 1, 1, 1]),
        ValueError,
        r"sample_weight: .* got inf at index \(0,\)",
    ),
    (lambda: mse(Z, Z.astype("float64")), TypeError, "targets: expected dtype float32, got float64"),
    (lambda: mse(Z, Z[:, :1]), ValueError, r"targets: expected the shape of predictions, \(4, 3\), got \(4, 1\)"),
    (lambda: mse(np.float32(1), Z), TypeError, "predictions: expected a NumPy array, got float32"),
    (lambda: mse(np.array(1.0), np.array(1.0)), ValueError, r"predictions: .* got \(\)"),
    (
        lambda: mse(Z, Z + np.float32(np.nan)),
        ValueError,
        r"targets: expected finite .* got nan at index \(0, 0\)",
    ),
    (
        lambda: binary_cross_entropy(Z, Z + 2),
        ValueError,
        r"targets: .* from 0 to 1, got 2.0 at index \(0, 0\)",
    ),
    (lambda: binary_cross_entropy(Z, Z - 1), ValueError, r"targets: expected numbers from 0 to 1, got -1.0"),
    (lambda: binary_cross_entropy(Z, Z + np.float32(np.nan)), ValueError, r"from 0 to 1, got nan at index \(0, 0\)"),
    (lambda: binary_cross_entropy(Z, Y), TypeError, "targets: expected dtype float32, got int64"),
    (lambda: binary_cross_entropy(Z[:0], Z[:0]), ValueError, r"logits: .* got \(0, 3\)"),
    (lambda: gaussian_kl(Z, Z[:2]), ValueError, r"log_variance: expected the shape of mean, \(4, 3\), got"),
    (
        lambda: gaussian_kl(Z, Z, reduction=None),
        ValueError,
        "reduction: expected one of batchmean, mean, sum",
    ),
    (lambda: l2_penalty(Z, -1.0), ValueError, r"coefficient: expected a finite number in \[0, inf\), got -1"),
    (lambda: l2_penalty(Y, 1.0), TypeError, "weight: expected dtype float32 or float64, got int64"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD)
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


# --- memory ----------------------------------------------------------------------------------------------------------


@ALL
@FLOORS
@DTYPES
def test_out_takes_the_gradient(name, ops, dtype):
    function, arrays = example(name, dtype=dtype)
    want = function(*arrays, ops=ops)
    out = tuple(np.full_like(gradient, 7) for gradient in gradients(want))
    loss, got = function(*arrays, ops=ops, out=out if name == "gaussian_kl" else out[0])
    assert loss == want[0]
    for array, same, gradient in zip(out, got if name == "gaussian_kl" else (got,), gradients(want)):
        assert same is array
        np.testing.assert_array_equal(array, gradient)


@ALL
def test_out_that_does_not_fit_is_refused(name):
    function, arrays = example(name)
    good = np.empty_like(arrays[0])
    frozen = good.copy()
    frozen.flags.writeable = False
    for bad, error, message in (
        (good.astype(np.float32), TypeError, "expected dtype float64, got float32"),
        (good[:3], ValueError, r"expected shape \(6, 5\), got \(3, 5\)"),
        (frozen, ValueError, "got a read-only one"),
        (np.empty((6, 10))[:, ::2], ValueError, "got a strided"),
        (arrays[0], ValueError, "expected memory of its own"),
        (arrays[0].tolist(), TypeError, "expected a NumPy array, got list"),
    ):
        with pytest.raises(error, match=f"{name}: out.*{message}"):
            function(*arrays, out=(good, bad) if name == "gaussian_kl" else bad)
    if name == "gaussian_kl":
        with pytest.raises(ValueError, match=r"out\[1\]: expected memory of its own"):
            function(*arrays, out=(good, good))
        with pytest.raises(TypeError, match="out: expected two arrays"):
            function(*arrays, out=good)


def test_a_short_batch_after_a_long_one():
    """Row losses stand in memory that is kept: what an earlier, longer batch left there must not count."""
    function, (logits, labels) = example("softmax_cross_entropy")
    want = function(logits[:2], labels[:2])[0]
    function(logits, labels)
    assert function(logits[:2], labels[:2])[0] == want


def test_a_gradient_can_not_be_written_over_the_labels():
    labels = np.zeros(8, np.int64)
    with pytest.raises(ValueError, match="expected memory of its own"):
        softmax_cross_entropy(np.ones((8, 2), "float32"), labels, out=labels.view("float32").reshape(8, 2))


LONG_ROWS = {  # a large element, and two that a float32 sum would lose (beyond the 64 that a kernel adds up in float32)
    binary_cross_entropy: ([2.0**24, *[200] * 63, 1, 1], [0.0, *[1] * 65], 2**24 + 2 * math.log1p(math.exp(-1))),
    mse: ([4096.0, 1, 1], [0.0, 0, 0], 2**24 + 2),
    gaussian_kl: ([4096.0, 1, 1], [0.0, 0, 0], 2**23 + 1),
}


@FLOORS
@pytest.mark.parametrize("function", LONG_ROWS)
def test_the_sum_inside_a_row_is_in_float64(function, ops):
    *rows, want = LONG_ROWS[function]
    loss, _ = function(*(np.array([row], "float32") for row in rows), reduction="sum", ops=ops)
    assert abs(loss - want) <= 1e-3


@FLOORS
def test_squares_beyond_float32_are_summed_in_float64(ops):
    loss, _ = mse(np.full((2, 3), 1e30, "float32"), np.zeros((2, 3), "float32"), ops=ops)
    assert loss == pytest.approx(1e60, rel=1e-6)
    assert l2_penalty(np.full(3, 1e30, "float32"), 2.0)[0] == pytest.approx(3e60, rel=1e-6)


@FLOORS
def test_a_variance_near_1_keeps_its_digits(ops):
    log_variance = np.array([[1e-4]], "float32")
    _, (_, gradient) = gaussian_kl(np.zeros((1, 1), "float32"), log_variance, ops=ops)
    assert gradient.item() == pytest.approx(math.expm1(log_variance.item()) / 2, rel=1e-6)


@pytest.mark.parametrize("name", ["binary_cross_entropy", "mse", "gaussian_kl"])
def test_a_gradient_can_not_be_written_over_any_argument(name):
    function, (values, others) = example(name)
    new = np.empty_like(values)
    pairs = [(values, new), (others, new), (new, values), (new, others)]
    for out in pairs if name == "gaussian_kl" else (values, others):
        with pytest.raises(ValueError, match="expected memory of its own"):
            function(values, others, out=out)

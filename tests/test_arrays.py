"""The validators: what they let through, and that every refusal says what was expected, what came, what to do."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from scratchnet import arrays


def test_good_arrays_pass_through_unchanged():
    x = np.ones((2, 3), np.float32)
    assert arrays.check_array("x", x) is x
    assert arrays.check_array("x", x, np.float32, (None, 3)) is x


@pytest.mark.parametrize(
    "odd",
    [
        np.ones((3, 2), np.float32).T,
        np.ones((2, 6), np.float32)[:, ::2],
        np.asfortranarray(np.ones((2, 3), np.float32)),
    ],
)
def test_odd_layouts_become_contiguous_copies(odd):
    good = arrays.check_array("x", odd, np.float32, (2, 3))
    assert good.flags.c_contiguous and np.array_equal(good, odd)


def test_unaligned_and_swapped_arrays_become_native_copies():
    unaligned = np.zeros(13, np.uint8)[1:].view(np.float32)
    assert not unaligned.flags.aligned
    assert arrays.check_array("x", unaligned).flags.aligned
    swapped = np.ones(3, np.dtype("f4").newbyteorder())
    assert arrays.check_array("x", swapped).dtype.isnative


BAD_ARRAYS = [
    ([1.0], {}, TypeError, "x: expected a NumPy array, got list; convert it with np.asarray"),
    (np.ma.masked_array(np.ones(3)), {}, TypeError, "got MaskedArray"),
    (np.ones(3, np.int64), {}, TypeError, "expected dtype float32 or float64, got int64"),
    (np.ones(3, complex), {}, TypeError, "got complex128"),
    (np.ones(3, object), {}, TypeError, "got object"),
    (np.ones(3), {"dtype": np.float32}, TypeError, r"expected dtype float32, got float64; .*astype\(np\.float32\)"),
    (np.ones((2, 3)), {"shape": (None, 4)}, ValueError, r"expected shape \(N, 4\), got \(2, 3\)"),
    (np.ones(3), {"shape": (3, 1)}, ValueError, r"expected shape \(3, 1\), got \(3,\)"),
]


@pytest.mark.parametrize(("array", "want", "kind", "message"), BAD_ARRAYS)
def test_bad_arrays(array, want, kind, message):
    with pytest.raises(kind, match=message):
        arrays.check_array("x", array, **want)


def test_same_shape():
    arrays.check_same_shape("targets", np.ones((2, 3)), "logits", np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"targets: expected the shape of logits, \(2, 3\), got \(3, 2\)"):
        arrays.check_same_shape("targets", np.ones((3, 2)), "logits", np.ones((2, 3)))


@given(st.sampled_from([-1, 10, 255, 2**31, 2**40, 2**63 - 1, -(2**63)]), st.integers(0, 6))
def test_a_bad_label_is_named_with_its_index(value, index):
    labels = np.zeros(7, np.int64)
    labels[index] = value
    with pytest.raises(ValueError, match=rf"from 0 to 9 \(10 classes\), got {value} at index {index} \(1 bad in all\)"):
        arrays.check_labels("labels", labels, 7, 10)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint64"])
def test_labels_of_any_integer_type(dtype):
    labels = arrays.check_labels("labels", np.array([0, 9], dtype), 2, 10)
    assert labels.dtype == np.int64 and labels.tolist() == [0, 9]


BAD_LABELS = [
    (np.ma.masked_array([0, 99], mask=[0, 1]), TypeError, "got MaskedArray"),
    ([0, 1], TypeError, "expected a NumPy array of integers, got list"),
    (np.array([0.0, 1.0]), TypeError, r"expected integer labels, got dtype float64; .*astype\(np\.int64\)"),
    (np.array([True, False]), TypeError, "got dtype bool"),
    (np.array([0, 1, 1]), ValueError, r"expected shape \(2,\), got \(3,\); one label per row"),
    (np.array([[0], [1]]), ValueError, r"got \(2, 1\)"),
    (np.eye(10, dtype="float32")[:2], ValueError, r"got \(2, 10\), .* of one-hot rows, take labels.argmax\(axis=1\)"),
    (np.eye(10, dtype="int64")[:2], ValueError, r"of one-hot rows, take labels.argmax\(axis=1\)"),
]


@pytest.mark.parametrize(("labels", "kind", "message"), BAD_LABELS)
def test_labels_of_the_wrong_kind(labels, kind, message):
    with pytest.raises(kind, match=message):
        arrays.check_labels("labels", labels, 2, 10)


def test_finite():
    arrays.check_finite("x", np.ones((2, 2)))
    bad = np.ones((2, 3))
    bad[1, 2] = math.nan
    with pytest.raises(ValueError, match=r"x: expected finite numbers, got nan at index \(1, 2\) \(1 in all\)"):
        arrays.check_finite("x", bad)


def damaged(**parts):
    matrix = scipy.sparse.csr_matrix(np.eye(3, dtype=np.float32))
    for name, value in parts.items():
        setattr(matrix, name, value)
    return matrix


BAD_CSR = [
    (scipy.sparse.csc_matrix(np.eye(3, dtype=np.float32)), TypeError, "expected a CSR matrix, got format 'csc'"),
    (scipy.sparse.csr_matrix(np.eye(3)), TypeError, "expected dtype float32, got float64"),
    (scipy.sparse.csr_matrix(np.ones((2, 4), np.float32)), ValueError, r"expected shape \(N, 3\)"),
    (scipy.sparse.csr_matrix((0, 3), dtype=np.float32), ValueError, r"N >= 1, got \(0, 3\)"),
    (damaged(indptr=np.array([1, 1, 2, 3])), ValueError, "indptr to rise from 0"),
    (damaged(indptr=np.array([0, 2, 1, 3])), ValueError, "indptr to rise from 0"),
    (damaged(indptr=np.array([0, 1, 2])), ValueError, "indptr to rise from 0 over 3 rows"),
    (damaged(indptr=np.array([0, 1, 2, 9])), ValueError, "expected 9 indices and values.* got 3 and 3"),
    (damaged(data=np.ones(2, np.float32)), ValueError, "got 3 and 2"),
    (damaged(indptr=np.array([0, 100000, 3, 3], np.uint32)), TypeError, "expected indptr as a 1-D array"),
    (damaged(indices=np.array([0.0, 1.0, 2.0])), TypeError, "expected indices as a 1-D array"),
    (damaged(data=np.ones((3, 1), np.float32)), TypeError, "expected data as a 1-D array"),
    (damaged(indices=[0, 1, 2]), TypeError, "expected indices as a 1-D array"),
    (damaged(indices=np.array([0, 1, 3])), ValueError, "column indices from 0 to 2, got 0 to 3"),
    (damaged(indices=np.array([0, -1, 2])), ValueError, "got -1 to 2"),
]


@pytest.mark.parametrize(("matrix", "kind", "message"), BAD_CSR)
def test_a_bad_sparse_matrix(matrix, kind, message):
    with pytest.raises(kind, match=message):
        arrays.check_csr("x", matrix, np.float32, 3)


def test_a_good_sparse_matrix():
    matrix = scipy.sparse.csr_array(np.eye(3, dtype=np.float32))
    assert arrays.check_csr("x", matrix, np.float32, 3) is matrix


NUMBERS = [
    (lambda: arrays.check_integer("n", 2.0, 1), TypeError, r"n: expected an integer, got 2\.0 \(float\)"),
    (lambda: arrays.check_integer("n", True, 1), TypeError, "expected an integer, got True"),
    (lambda: arrays.check_integer("n", 0, 1), ValueError, "n: expected an integer >= 1, got 0"),
    (lambda: arrays.check_number("p", 1, 0, 1), ValueError, r"p: expected a finite number in \[0, 1\), got 1"),
    (lambda: arrays.check_number("lr", 0, 0, include_low=False), ValueError, r"in \(0, inf\), got 0"),
    (lambda: arrays.check_number("lr", math.nan, 0), ValueError, "got nan"),
    (lambda: arrays.check_number("lr", math.inf, 0), ValueError, "got inf"),
    (lambda: arrays.check_number("lr", "1"), TypeError, "expected a number, got '1'"),
    (lambda: arrays.check_number("q", 2, 0, 1, include_high=True), ValueError, r"in \[0, 1\], got 2"),
    (lambda: arrays.check_pair("k", (1, 2, 3), 1), ValueError, r"expected an integer or a pair \(height, width\)"),
    (lambda: arrays.check_pair("k", (1, 0), 1), ValueError, r"k\[1\]: expected an integer >= 1, got 0"),
    (lambda: arrays.check_pair("k", "3", 1), TypeError, "k: expected an integer"),
    (
        lambda: arrays.check_choice("model", "cn", ["cnn", "mlp"]),
        ValueError,
        "one of cnn, mlp, got 'cn'; did you mean 'cnn'",
    ),
    (lambda: arrays.check_choice("model", "zzz", ["cnn", "mlp"]), ValueError, "got 'zzz'$"),
    (lambda: arrays.check_choice("model", None, ["cnn"]), ValueError, "got None"),
]


@pytest.mark.parametrize(("call", "kind", "message"), NUMBERS)
def test_bad_numbers_and_names(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


def test_good_numbers_and_names():
    assert arrays.check_integer("n", np.int32(3), 1) == 3
    assert arrays.check_number("p", np.float32(0.5), 0, 1) == 0.5
    assert arrays.check_pair("k", 3, 1) == (3, 3) and arrays.check_pair("k", [1, 2], 1) == (1, 2)
    assert arrays.check_choice("model", "cnn", ["cnn"]) == "cnn"
    assert arrays.show_shape((None, 28, 28)) == "(N, 28, 28)" and arrays.show_shape((3,)) == "(3,)"

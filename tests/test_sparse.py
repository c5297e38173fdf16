"""Sparse batches: equal to dense ones, whatever the CSR looks like; through Dense and Dropout as first layers."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from scratchnet import Sequential, kernels, reference
from scratchnet.layers import Dense, Dropout, ReLU, Residual

FLOORS = pytest.mark.parametrize("ops", [reference, kernels], ids=["reference", "kernels"])


def random_csr(rng, rows, features, most, index="int32", dtype="float32"):
    """Whole numbers from -3 to 3 in unsorted columns, some named twice: indptr, indices, data, and the dense matrix."""
    indptr = np.concatenate([[0], np.cumsum(rng.integers(0, most + 1, rows))]).astype(index)
    indices = rng.integers(0, features, indptr[-1]).astype(index)
    data = rng.integers(-3, 4, indptr[-1]).astype(dtype)
    dense = np.zeros((rows, features), dtype)
    for n in range(rows):
        for j in range(indptr[n], indptr[n + 1]):
            dense[n, indices[j]] += data[j]
    return indptr, indices, data, dense


@FLOORS
@given(
    rows=st.integers(0, 9),
    features=st.integers(1, 9),
    units=st.sampled_from([1, 2, 7, 8, 19, 128]),
    most=st.integers(0, 6),
    index=st.sampled_from(["int32", "int64"]),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_whole_numbers_give_the_dense_result_exactly(ops, rows, features, units, most, index, seed):
    rng = np.random.default_rng(seed)
    *csr, dense = random_csr(rng, rows, features, most, index)
    weight = rng.integers(-3, 4, (features, units)).astype("float32")
    bias = rng.integers(-3, 4, units).astype("float32")
    dy = rng.integers(-3, 4, (rows, units)).astype("float32")
    y = np.full((rows, units), np.nan, "float32")
    ops.csr_dense_forward(y, *csr, weight, bias)
    np.testing.assert_array_equal(y, dense @ weight + bias)
    dweight, dbias = np.full_like(weight, np.nan), np.full_like(bias, np.nan)
    ops.csr_dense_backward_weight(dweight, dbias, *csr, dy)
    np.testing.assert_array_equal(dweight, dense.T @ dy)
    np.testing.assert_array_equal(dbias, dy.sum(axis=0))


@pytest.mark.parametrize("units", [1, 3, 20, 150])
def test_a_batch_worth_threads(units):
    rng = np.random.default_rng(0)
    *csr, dense = random_csr(rng, 600, 2000, 40)
    dy = rng.integers(-3, 4, (600, units)).astype("float32")
    dweight, dbias = np.empty((2000, units), "float32"), np.empty(units, "float32")
    kernels.csr_dense_backward_weight(dweight, dbias, *csr, dy)
    np.testing.assert_array_equal(dweight, dense.T @ dy)
    y = np.empty((600, units), "float32")
    kernels.csr_dense_forward(y, *csr, dweight, dbias)
    np.testing.assert_allclose(y, dense.astype(float) @ dweight + dbias, rtol=1e-5)


@FLOORS
@pytest.mark.parametrize("kind", [scipy.sparse.csr_matrix, scipy.sparse.csr_array])
def test_a_net_takes_a_sparse_batch(ops, kind):
    rng = np.random.default_rng(1)
    *_, dense = random_csr(rng, 12, 30, 5, dtype="float64")
    net = Sequential([Dense(4), ReLU(), Dense(2)], (30,), dtype="float64", ops=ops)
    dy = rng.standard_normal((12, 2))
    want = net.forward(dense, train=True).copy()
    net.backward(dy)
    grads = net.grads.copy()
    got = net.forward(kind(dense), train=True)
    net.backward(dy)
    np.testing.assert_allclose(got, want, rtol=1e-12)
    np.testing.assert_allclose(net.grads, grads, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(net.predict(kind(dense), batch_size=5), want, rtol=1e-12)


def test_dropout_before_dense_trains_on_a_sparse_batch():
    x = scipy.sparse.random(40, 50, 0.2, format="csr", random_state=0, dtype=np.float64)
    net = Sequential([Dropout(0.5), Dense(3)], (50,), dtype="float64")
    y = net.forward(x, train=True)
    dropped = net.layers[1]._kept[0]
    np.testing.assert_array_equal(dropped.indices, x.indices)
    kept = dropped.data != 0
    assert 0 < kept.sum() < kept.size
    np.testing.assert_allclose(dropped.data[kept], 2 * x.data[kept])
    np.testing.assert_allclose(y, dropped.toarray() @ net.layers[1].weight, atol=1e-14)
    dy = np.random.default_rng(0).standard_normal(y.shape)
    net.backward(dy)
    np.testing.assert_allclose(net.layers[1].dweight, dropped.toarray().T @ dy, atol=1e-14)


X = scipy.sparse.csr_array(np.eye(4, dtype="float32"))


def damaged(**parts):
    x = X.copy()
    for name, values in parts.items():
        setattr(x, name, np.array(values, getattr(x, name).dtype))
    return x


@pytest.mark.parametrize("layers", [[Dense], [Dropout, Dense]], ids=["dense", "dropout"])
@pytest.mark.parametrize(
    ("batch", "error", "message"),
    [
        (X.tocsc(), TypeError, r"expected a CSR matrix, got format 'csc'; convert it with .tocsr"),
        (X.astype("float64"), TypeError, "expected dtype float32, got float64"),
        (X[:, :3], ValueError, r"expected shape \(N, 4\) with N >= 1, got \(4, 3\)"),
        (X[:0], ValueError, r"N >= 1, got \(0, 4\)"),
        (damaged(indices=[0, 1, 2, 4]), ValueError, "column indices from 0 to 3, got 0 to 4"),
        (damaged(indices=[0, -1, 2, 3]), ValueError, "column indices from 0 to 3, got -1 to 3"),
        (damaged(indptr=[0, 2, 1, 3, 4]), ValueError, "indptr to rise from 0"),
        (damaged(indptr=[0, 1, 2, 3, 9]), ValueError, "expected 9 indices and values"),
    ],
)
def test_a_bad_sparse_batch_is_refused(layers, batch, error, message):
    net = Sequential([Dropout() if kind is Dropout else Dense(2) for kind in layers], (4,))
    with pytest.raises(error, match=message):
        net.forward(batch, train=True)


def test_a_sparse_batch_is_refused_where_it_has_no_meaning():
    for layers, shape in (([ReLU(), Dense(2)], (4,)), ([Residual([Dense(4)])], (4,)), ([Dropout()], (2, 2, 1))):
        with pytest.raises(TypeError, match="expected a NumPy array, got csr_array"):
            Sequential(layers, shape).forward(X)


@pytest.mark.parametrize("make", [lambda: Dense(4), Dropout])
def test_a_sparse_batch_has_no_input_gradient(make):
    net = Sequential([make()], (4,))
    net.forward(X, train=True)
    with pytest.raises(ValueError, match="a sparse batch has no input gradient; pass input_gradient=False"):
        net.backward(np.ones((4, 4), "float32"), input_gradient=True)
    net.forward(X, train=True)
    assert net.backward(np.ones((4, 4), "float32")) is None


@pytest.mark.parametrize("units", [1, 3, 16, 130])
def test_a_batch_that_changed_between_forward_and_backward_is_noticed(units):
    net = Sequential([Dense(units)], (4,))
    x = X.copy()
    y = net.forward(x, train=True).copy()
    x.indices[1] = 10**8
    with pytest.raises(ValueError, match=r"the batch of the last forward: expected column indices from 0 to 3"):
        net.backward(y)
    x = X.copy()
    net.forward(x, train=True)
    x.indptr[:] = x.indptr * 1000
    with pytest.raises(ValueError, match="the batch of the last forward: expected 4000 indices"):
        net.backward(y)
    x = X.copy()
    net.forward(x, train=True)
    x.resize((2, 4))
    with pytest.raises(ValueError, match=r"the batch of the last forward: expected shape \(4, 4\).*got \(2, 4\)"):
        net.backward(y)
    x = X.copy()
    net.forward(x, train=True)
    x.data = x.data.astype("float64")
    with pytest.raises(TypeError, match="the batch of the last forward: expected dtype float32, got float64"):
        net.backward(y)


def test_a_longer_sparse_batch_after_a_short_one():
    net = Sequential([Dropout(0.0), Dense(2)], (4,))
    for x in (X[:1], X, scipy.sparse.csr_array(np.ones((4, 4), "float32"))):
        np.testing.assert_allclose(net.forward(x, train=True), x.toarray() @ net.layers[1].weight, rtol=1e-6)


def test_a_sparse_batch_has_no_input_gradient_of_a_chain_either():
    net = Sequential([Dense(3), ReLU(), Dense(2)], (4,))
    net.forward(X, train=True)
    with pytest.raises(ValueError, match="a sparse batch has no input gradient"):
        net.backward(np.ones((4, 2), "float32"), input_gradient=True)

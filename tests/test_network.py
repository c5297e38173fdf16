"""Sequential: flat arrays and their views, what comes out of forward and backward, names, summary, refusals."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.sparse

from scratchnet import Adam, Sequential, kernels, reference, save_checkpoint
from scratchnet.initializers import he_normal
from scratchnet.layers import (
    BatchNorm1d,
    BatchNorm2d,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    MaxPool2d,
    ReLU,
    Residual,
    Tanh,
)
from scratchnet.layers.base import Layer
from scratchnet.network import walk


def small_net(**options):
    return Sequential([Dense(5), ReLU(), Dense(3)], (4,), **options)


def images_net(**options):
    layers = [Conv2d(4, 3), BatchNorm2d(), ReLU(), MaxPool2d(2), Flatten(), Dropout(0.2), Dense(3)]
    return Sequential(layers, (8, 8, 2), **options)


def test_layers_look_into_the_flat_arrays():
    net = small_net()
    assert net.params.shape == net.grads.shape == (4 * 5 + 5 + 5 * 3 + 3,)
    for layer in (net.layers[0], net.layers[2]):
        for name in ("weight", "bias"):
            assert np.shares_memory(getattr(layer, name), net.params)
            assert np.shares_memory(getattr(layer, f"d{name}"), net.grads)
    net.params[...] = np.arange(net.params.size)
    assert net.layers[0].weight[0, 1] == 1 and net.layers[2].bias[-1] == net.params.size - 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("input_shape", (400,)), ("output_shape", (6,)), ("dtype", np.dtype("float64")), ("ops", reference)],
)
def test_a_layer_in_a_net_stays_what_it_was_made_as(name, value):
    """Kernels trust these: a wider input would be read past the end of the weights."""
    layer = Dense(3)
    assert [layer.build((size,)) for size in (5, 4)] == [(3,), (3,)]
    net = Sequential([layer], (4,))
    with pytest.raises(AttributeError, match=rf"Dense\.{name}: expected to stay .* make another layer"):
        setattr(net.layers[0], name, value)


@pytest.mark.parametrize("name", ["weight", "bias", "dweight", "dbias"])
def test_assigning_a_parameter_is_refused(name):
    net = small_net()
    with pytest.raises(AttributeError, match=rf"Dense\.{name} is a view .* write layer\.{name}\[\.\.\.\] = value"):
        setattr(net.layers[0], name, np.zeros(3))
    getattr(net.layers[0], name)[...] = 1


def test_layers_of_a_class_differ_in_what_they_train():
    """Parameters are properties of the class: a layer without a bias must find its zeros there, whoever came first."""
    without, _ = Sequential([Dense(3, bias=False)], (2,)), small_net()
    assert not without.layers[0].bias.any() and list(without.parameters()) == ["0.weight"]
    assert np.array_equal(without.forward(np.ones((1, 2), np.float32))[0], without.layers[0].weight.sum(axis=0))
    with pytest.raises(AttributeError, match="write layer"):
        without.layers[0].bias = np.ones(3, np.float32)


def test_a_layer_may_assign_its_parameters_before_it_is_in_a_net():
    class Scale(Layer):
        def __init__(self):
            super().__init__()
            self.factor = None

        def build(self, input_shape):
            self.parameter_shapes = {"factor": (1,)}
            self.input_shape = self.output_shape = input_shape
            return input_shape

        def initialize(self, rng):
            self.factor[...] = 2

        def _forward(self, x, train):
            return x * self.factor

    for net in (Sequential([Scale()], (2,)), Sequential([Scale()], (2,))):
        assert np.array_equal(net.forward(np.ones((1, 2), np.float32)), [[2, 2]])


def test_parameters_given_before_there_is_a_net_are_refused():
    """The net writes the first values: these would be lost without a word."""
    small_net()  # from then on the class knows the names as properties; one of the user's own does not yet

    class Fresh(Dense):
        pass

    for kind in (Dense, Fresh):
        layer = kind(3)
        layer.weight = np.ones((2, 3), np.float32)
        with pytest.raises(AttributeError, match=rf"{kind.__name__}\.weight: expected no value .* write layer\.weight"):
            Sequential([layer], (2,))


def test_names_reach_into_layers():
    net = Sequential([Dense(4), Residual([Dense(4), Tanh(), BatchNorm1d()]), Dense(2)], (3,))
    assert list(net.parameters()) == [
        *("0.weight", "0.bias", "1.0.weight", "1.0.bias", "1.2.weight", "1.2.bias", "2.weight", "2.bias")
    ]
    assert list(net.gradients()) == list(net.parameters())
    assert list(net.state()) == ["1.2.running_mean", "1.2.running_var"]
    assert sum(p.size for p in net.parameters().values()) == net.params.size


def test_the_seed_decides_the_weights():
    assert np.array_equal(small_net(seed=3).params, small_net(seed=3).params)
    assert not np.array_equal(small_net(seed=3).params, small_net(seed=4).params)


def test_float32_and_float64_start_alike():
    single, double = small_net(dtype="float32"), small_net(dtype="float64")
    np.testing.assert_array_equal(single.params, double.params.astype(np.float32))


def test_both_floors_compute_one_function():
    x = np.random.default_rng(0).standard_normal((6, 8, 8, 2))
    dy = np.random.default_rng(1).standard_normal((6, 3))
    outputs = []
    for ops in (reference, kernels):
        net = images_net(dtype="float64", ops=ops)
        y = net.forward(x, train=True).copy()
        outputs.append((y, net.backward(dy, input_gradient=True).copy(), net.grads.copy(), net.forward(x)))
    for ours, theirs in zip(*outputs):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-13)


def test_outputs_without_train_are_the_callers():
    net, x = small_net(), np.ones((2, 4), np.float32)
    first = net.forward(x)
    kept = first.copy()
    net.forward(-x)
    np.testing.assert_array_equal(first, kept)


def test_outputs_with_train_are_a_buffer():
    net, x = small_net(), np.ones((2, 4), np.float32)
    assert np.shares_memory(net.forward(x, train=True), net.forward(-x, train=True))


def test_a_short_batch_uses_the_same_buffers_and_gives_the_same_rows():
    net = images_net()
    x = np.random.default_rng(0).standard_normal((5, 8, 8, 2)).astype(np.float32)
    whole = net.forward(x)
    np.testing.assert_allclose(net.forward(x[:2]), whole[:2], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(net.forward(x), whole)


def test_gradients_are_overwritten_not_added():
    net, x = small_net(), np.ones((2, 4), np.float32)
    results = []
    for _ in range(2):
        net.backward(np.ones_like(net.forward(x, train=True)))
        results.append(net.grads.copy())
    np.testing.assert_array_equal(*results)
    net.grads[...] = np.nan
    net.backward(np.ones_like(net.forward(x, train=True)))
    np.testing.assert_array_equal(net.grads, results[0])


def test_backward_needs_its_own_forward():
    net, x = small_net(), np.ones((2, 4), np.float32)
    dy = np.ones((2, 3), np.float32)
    with pytest.raises(RuntimeError, match="expected a forward"):
        net.backward(dy)
    net.forward(x, train=True)
    net.backward(dy)
    with pytest.raises(RuntimeError, match="each training forward serves one backward"):
        net.backward(dy)
    net.forward(x, train=True)
    net.forward(x)  # reuses the buffers, so the kept ones are void
    with pytest.raises(RuntimeError, match="expected a forward"):
        net.backward(dy)


def test_the_input_gradient_is_computed_only_when_asked_for():
    net, x = small_net(), np.ones((2, 4), np.float32)
    dy = np.ones_like(net.forward(x, train=True))
    assert net.backward(dy) is None
    net.forward(x, train=True)
    assert net.backward(dy, input_gradient=True).shape == (2, 4)


def test_layers_before_the_first_parameters_are_skipped():
    net = Sequential([Flatten(), ReLU(), Dense(3)], (2, 2))
    net.forward(np.ones((2, 2, 2), np.float32), train=True)
    assert net.backward(np.ones((2, 3), np.float32)) is None
    assert "dx" not in net.layers[1]._buffers and "dx" not in net.layers[2]._buffers


def test_a_sparse_batch_equals_its_dense_twin():
    dense = (np.random.default_rng(0).random((6, 40)) < 0.2).astype(np.float32)
    net = Sequential([Dense(8), ReLU(), Dense(3)], (40,))
    y = net.forward(scipy.sparse.csr_matrix(dense), train=True).copy()
    net.backward(np.ones_like(y))
    grads = net.grads.copy()
    np.testing.assert_allclose(net.forward(dense, train=True), y, rtol=1e-5, atol=1e-6)
    net.backward(np.ones_like(y))
    np.testing.assert_allclose(net.grads, grads, rtol=1e-5, atol=1e-5)


def test_predict_equals_forward_in_pieces():
    net = small_net()
    x = np.random.default_rng(0).standard_normal((11, 4)).astype(np.float32)
    np.testing.assert_allclose(net.predict(x, batch_size=4), net.forward(x), rtol=1e-6)


def test_summary_counts_parameters_and_memory():
    net = images_net()
    text = str(net)
    assert "(N, 6, 6, 4)" in text and "Conv2d" in text and f"{net.params.size:,}" in text
    assert "batch 128" in text and "batch 7" in net.summary(7)
    rows = net.summary(64)
    net.forward(np.zeros((64, 8, 8, 2), np.float32), train=True)
    net.backward(np.zeros((64, 3), np.float32))
    held = sum(b.nbytes for one in {*net.layers, *net._steps} for b in one._buffers.values()) + 2 * net.params.nbytes
    total = rows.splitlines()[-1].split()
    unit = {"KiB": 1024, "MiB": 1024**2}[total[-1]]
    assert abs(float(total[-2]) * unit - held) <= 0.05 * unit


def test_a_gradient_that_comes_back_as_a_batch_is_copied():
    """The next backward writes its own dx over it, maybe before it has read all of x."""
    net = Sequential([Dense(4)], (4,))
    x = np.ones((3, 4), np.float32)
    net.forward(x, train=True)
    dx = net.backward(x, input_gradient=True)
    net.forward(dx, train=True)
    assert not np.may_share_memory(net.layers[0]._kept[0], dx)


def test_many_threads_may_predict():
    net = Sequential([Dense(64), ReLU(), Dense(3)], (16,))
    batches = [np.full((rows, 16), rows, np.float32) for rows in (3, 5, 9, 17)]
    expected = [net.predict(x) for x in batches]

    def work(i: int) -> bool:
        return all(np.array_equal(net.predict(batches[i]), expected[i]) for _ in range(300))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))


def test_what_a_layer_was_made_with_stays():
    conv, pool, norm, dropout = Conv2d(2, 3), MaxPool2d(2), BatchNorm2d(), Dropout(0.5)
    Sequential([conv, norm, pool, dropout], (8, 8, 1))
    for layer, name, value in (
        (conv, "stride", (2, 2)), (conv, "kernel_size", (5, 5)), (conv, "padding", (1, 1)), (pool, "stride", (1, 1)),
    ):  # fmt: skip
        with pytest.raises(AttributeError, match=rf"\.{name}: expected to stay what the layer was made with"):
            setattr(layer, name, value)
    for layer, name in ((norm, "running_mean"), (norm, "running_var"), (dropout, "step")):
        with pytest.raises(AttributeError, match=rf"write layer\.{name}\[\.\.\.\] = value"):
            setattr(layer, name, np.zeros(1))


def test_a_batch_that_is_reshaped_before_backward_keeps_its_shape_there():
    for net in (Sequential([Dense(5)], (8,)), small_net()):
        x = np.ones((4, *net.input_shape), np.float32)
        dy = np.ones_like(net.forward(x, train=True))
        net.backward(dy)
        expected = net.grads.copy()
        net.forward(x, train=True)
        x.shape = (x.size // 2, 2)
        net.backward(dy)
        np.testing.assert_array_equal(net.grads, expected)


REFUSED = [
    (lambda: Sequential([], (4,)), ValueError, "expected at least one layer"),
    (lambda: Sequential([Dense], (4,)), TypeError, r"got the class Dense as layer 0; write e\.g\. ReLU\(\)"),
    (lambda: Sequential([3], (4,)), TypeError, "expected layer objects, got 3"),
    (lambda: Sequential([Dense(3)], (0,)), ValueError, "input_shape: expected an integer >= 1, got 0"),
    (lambda: Sequential([Dense(3)], (4.0,)), TypeError, "input_shape: expected an integer"),
    (lambda: Sequential([Dense(3)], (4,), seed=-1), ValueError, "seed: expected an integer >= 0, got -1"),
    (lambda: Sequential([Dense(3)], (4,), dtype="float16"), ValueError, "dtype: expected one of float32, float64"),
    (lambda: Sequential([Dense(3)], (4,), dtype="float3"), ValueError, "did you mean 'float32'"),
    (lambda: Sequential([Dense(3)], (4,), dtype=None), ValueError, "dtype: expected one of float32, float64, got None"),
    (lambda: Sequential([Dense(3)], (4,), ops="kernels"), TypeError, "expected the module scratchnet.kernels"),
    (lambda: Sequential(Dense(3), (4,)), TypeError, r"write Sequential\(\[\.\.\.\]\)"),
    (lambda: Sequential([Dense(3)], 4), TypeError, r"expected a tuple such as \(784,\), got 4"),
    (lambda: Residual(Dense(3)), TypeError, r"write Residual\(\[\.\.\.\]\)"),
    (lambda: Dense(3, init="he"), TypeError, "init: expected a function such as initializers.he_normal, got 'he'"),
    (lambda: Conv2d(3, 3, init="he"), TypeError, "Conv2d: init: expected a function"),
    (lambda: small_net().predict([[1, 2, 3, 4]]), TypeError, "predict: x: expected a NumPy array"),
    (lambda: small_net().predict(scipy.sparse.coo_matrix(np.eye(4))), TypeError, r"got format 'coo'; .*\.tocsr\(\)"),
    (
        lambda: Sequential([Tanh()], (4,)).predict(scipy.sparse.csr_array(np.eye(4, dtype=np.float32))),
        TypeError,
        r"takes sparse batches is Dense or Dropout .*\.toarray\(\)",
    ),
    (lambda: small_net().forward(np.ma.masked_invalid(np.ones((2, 4)))), TypeError, r"\.filled\(value\)"),
    (lambda: Sequential([ReLU()], ()), ValueError, "input_shape: expected at least one size"),
    (lambda: Sequential([Dense(3)], (4, 4)), ValueError, r"\(4, 4\); put Flatten\(\) before it \(layer 0"),
    (lambda: Sequential([ReLU(), Conv2d(3, 5)], (4, 4, 1)), ValueError, r"kernel \(5, 5\) is larger .*\(layer 1"),
    (lambda: small_net().forward(np.ones((2, 5), np.float32)), ValueError, r"expected shape \(N, 4\), got \(2, 5\)"),
    (lambda: small_net().forward(np.ones((0, 4), np.float32)), ValueError, "at least one row"),
    (
        lambda: small_net().predict(np.ones((2, 4), "u1")),
        TypeError,
        r'uint8 pixels; .* scratchnet.data.scale\(x, "float32"',
    ),
    (lambda: small_net().forward(np.ones((2, 4))), TypeError, "expected dtype float32, got float64"),
    (lambda: small_net().forward([[1, 2, 3, 4]]), TypeError, "expected a NumPy array, got list"),
    (lambda: small_net().predict(np.ones((2, 4), np.float32), batch_size=0), ValueError, "batch_size"),
    (lambda: small_net().summary(0), ValueError, "batch_size"),
]


@pytest.mark.parametrize(("call", "kind", "message"), REFUSED)
def test_refusals_say_what_was_expected(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


def test_a_batch_in_any_layout_gives_the_same_outputs():
    x = np.random.default_rng(0).standard_normal((6, 8), dtype=np.float32)
    net, plain = small_net(), np.ascontiguousarray(x[:, ::2])
    read_only = plain.copy()
    read_only.flags.writeable = False
    for batch in (x[:, ::2], np.asfortranarray(plain), read_only):
        np.testing.assert_array_equal(net.forward(batch), net.forward(plain))


def test_a_layer_of_the_users_must_have_been_made_as_one():
    class Bare(ReLU):
        def __init__(self):
            self.slope = 0

    with pytest.raises(TypeError, match=r"layer 1: expected Bare.__init__ to call super\(\).__init__\(\) first"):
        Sequential([Dense(4), Bare()], (4,))


class Returns(Layer):
    """A layer of a user's, which gives back what it is told."""

    def __init__(self, forward=lambda x: x, backward=lambda dy: dy):
        super().__init__()
        self.calls = forward, backward

    def build(self, input_shape):
        self.input_shape = self.output_shape = input_shape
        return input_shape

    def _forward(self, x, train):
        self._kept = (x,)
        return self.calls[0](x)

    def _backward(self, dy, kept, input_gradient):
        return self.calls[1](dy)


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (lambda a: a[:1].copy(), ValueError, r"expected shape \(6, 4\), got \(1, 4\)"),
        (lambda a: a[:, :2], ValueError, r"expected shape \(6, 4\), got \(6, 2\)"),
        (lambda a: a.astype("f8"), TypeError, "expected dtype float32, got float64"),
        (lambda a: None, TypeError, "expected a NumPy array, got NoneType"),
    ],
)
def test_what_a_layer_of_the_users_returns_is_checked_before_a_kernel_reads_it(wrong, error, message, inside):
    def net(layer):
        return Sequential([Dense(4), Residual([layer]) if inside else layer, ReLU()], (4,))

    x = np.ones((6, 4), np.float32)
    with pytest.raises(error, match=r"Returns\._forward: what it returned: " + message):
        net(Returns(forward=wrong)).predict(x)
    good = net(Returns(backward=wrong))
    y = good.forward(x, train=True)
    with pytest.raises(error, match=r"Returns\._backward: what it returned: " + message):
        good.backward(y)


@pytest.mark.parametrize("value", [3, np.float64(3), np.zeros(2, ">f8")])
def test_state_that_no_checkpoint_could_restore_is_refused(value, tmp_path):
    class Keeps(Returns):
        def state(self):
            return {"count": value}

    net = Sequential([Dense(4), Keeps()], (4,))
    with pytest.raises(
        TypeError, match=r"layer 1, Keeps\(\): expected state count as a NumPy array in native byte order, got"
    ):
        save_checkpoint(tmp_path / "c.safetensors", net)
    assert not list(tmp_path.iterdir())


def test_a_layer_belongs_to_one_place():
    layer = Dense(4)
    with pytest.raises(ValueError, match=r"layer 1, Dense\(4\), is used already"):
        Sequential([layer, layer], (4,))
    Sequential([layer], (4,))
    with pytest.raises(ValueError, match="is used already"):
        Sequential([layer], (4,))


def test_a_layer_outside_a_net_says_so():
    with pytest.raises(RuntimeError, match="a layer works inside a net"):
        Dense(3).forward(np.ones((2, 4), np.float32))


def test_a_wrong_gradient_shape_is_refused_and_uses_nothing_up():
    net = small_net()
    net.forward(np.ones((2, 4), np.float32), train=True)
    with pytest.raises(ValueError, match=r"Dense\.backward: dy: expected shape \(2, 3\), got \(3, 3\)"):
        net.backward(np.ones((3, 3), np.float32))
    net.backward(np.ones((2, 3), np.float32))


def test_the_dtype_may_be_numpys():
    for dtype in (np.float64, np.dtype("float64"), "float64"):
        assert small_net(dtype=dtype).params.dtype == np.float64


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_copy_whose_layers_would_be_detached_is_refused(duplicate):
    net = Sequential([Dense(2)], (3,))
    with pytest.raises(TypeError, match=r"best = net\.params\.copy\(\)"):
        duplicate(net)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_copy_of_a_part_of_a_net_is_refused(duplicate):
    net = Sequential([Dense(2)], (3,))
    with pytest.raises(TypeError, match="Dense: expected to stay one object, which is in a net; make another layer"):
        duplicate(net.layers[0])
    with pytest.raises(TypeError, match=r"Adam: expected to stay one object, .* saved = optimizer.state_dict\(\)"):
        duplicate(Adam(net.params))


def test_a_layer_in_no_net_may_be_copied():
    layer = copy.deepcopy(Dense(2, bias=False))
    assert Sequential([layer, pickle.loads(pickle.dumps(ReLU()))], (3,)).output_shape == (2,)


@pytest.mark.parametrize("name", ["params", "grads"])
def test_the_flat_arrays_stay_the_ones_that_layers_share(name):
    net = small_net()
    held = getattr(net, name)
    with pytest.raises(AttributeError, match=rf"Sequential\.{name}: .*write net\.{name}\[\.\.\.\] = value"):
        setattr(net, name, held - 1)
    held[...] = 2
    net.params -= net.grads  # in place: the same arrays are assigned again
    net.layers[0].weight += 1
    assert getattr(net, name) is held
    with pytest.raises(AttributeError, match=r"write layer\.weight\[\.\.\.\] = value"):
        net.layers[0].weight = np.zeros((4, 5), "float32")


@pytest.mark.parametrize("name", ["layers", "input_shape", "output_shape", "seed", "dtype", "ops"])
def test_a_net_stays_what_it_was_made_as(name):
    net = small_net()
    with pytest.raises(AttributeError, match=rf"Sequential\.{name}: .* make another net"):
        setattr(net, name, reference if name == "ops" else 7)


@pytest.mark.parametrize("layers", [[Dense(4)], [Dense(4), ReLU(), Dense(4)], [Dense(4), Tanh()]], ids=str)
def test_a_net_may_be_fed_what_it_returned(layers):
    net = Sequential(layers, (4,))
    x = np.random.default_rng(0).standard_normal((3, 4)).astype("float32")
    results = []
    for apart in (True, False):
        h = net.forward(x, train=True)
        y = net.forward(h.copy() if apart else h[:], train=True)
        dx = net.backward(x, input_gradient=True)
        net.forward(x, train=True)
        dx = net.backward(dx.copy() if apart else dx, input_gradient=True)
        results.append((y.copy(), dx.copy(), net.grads.copy()))
    for want, got in zip(*results):
        np.testing.assert_array_equal(got, want)


def test_an_initializer_that_returns_is_refused():
    with pytest.raises(TypeError, match="Dense: init: expected a function that writes into its first argument"):
        Sequential([Dense(3, init=lambda weight, rng: np.ones_like(weight))], (4,))


def test_a_number_is_no_batch():
    with pytest.raises(TypeError, match="predict: x: expected a NumPy array or a CSR batch, got a single number"):
        small_net().predict(np.array(3, "float32"))


def test_a_layer_that_was_run_as_part_of_a_chain_says_so():
    net = Sequential([Dense(5), ReLU(), Dense(3)], (4,))
    net.forward(np.ones((2, 4), np.float32), train=True)
    with pytest.raises(RuntimeError, match=r"layers that a net runs as one keep nothing .*join=False"):
        net.layers[2].backward(np.ones((2, 3), np.float32))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Dense(64, 128), r"Dense: bias: expected True or False, got 128; .*write Dense\(units\)"),
        (lambda: Dense(10, bias=None), "Dense: bias: expected True or False, got None"),
        (lambda: Conv2d(3, 32, bias=5), "Conv2d: bias: expected True or False, got 5"),
        (lambda: Conv2d(3, 32, 3), "positional arguments"),
        (lambda: Adam(small_net()), "Adam: params: expected a NumPy array, got Sequential; of a net, pass net.params"),
        (
            lambda: save_checkpoint(small_net(), "x"),
            "save_checkpoint: net: expected a Sequential as second argument, got str",
        ),
        (lambda: Sequential([BuildsNothing()], (3,)), "expected build to return a shape, got None"),
        (lambda: Sequential([small_net(), Dense(2)], (4,)), "as layer 0; put its layers in this list"),
    ],
)
def test_slips_of_those_who_come_from_elsewhere_are_named(make, message):
    with pytest.raises(TypeError, match=message):
        make()


class BuildsNothing(ReLU):
    def build(self, input_shape):
        super().build(input_shape)


@pytest.mark.parametrize("first", [BatchNorm1d, lambda: Residual([Tanh(), Dense(4)])], ids=["norm", "residual"])
def test_the_summary_counts_what_a_first_layer_holds(first):
    """Batch norm writes its dx in any case; of a block the first layer alone goes without."""
    net = Sequential([first(), Dense(3)], (4,))
    net.forward(np.zeros((64, 4), np.float32), train=True)
    net.backward(np.zeros((64, 3), np.float32))
    held = sum(b.nbytes for _, layer in walk(net.layers) for b in layer._buffers.values())
    assert net._memory(64)[0] == held + 2 * net.params.nbytes


def test_a_shorter_batch_asks_for_no_new_buffer():
    net, x = small_net(join=False), np.ones((5, 4), np.float32)
    whole = net.forward(x, train=True)
    for rows in (2, 5):
        assert np.shares_memory(net.forward(x[:rows], train=True), whole)


def test_no_rows_are_no_batch_to_predict():
    with pytest.raises(ValueError, match="at least one row"):
        small_net().predict(np.ones((0, 4), np.float32))


def test_seed_and_place_decide_the_first_weights():
    """Of any version: a run is repeated from its seed."""
    want = np.empty((5, 3))
    he_normal(want, np.random.Generator(np.random.Philox(np.random.SeedSequence([7, 2]))))
    np.testing.assert_array_equal(small_net(seed=7, dtype="float64").layers[2].weight, want)


def test_a_backward_waits_for_its_turn():
    net, dy = small_net(), np.ones((2, 3), np.float32)
    net.forward(np.ones((2, 4), np.float32), train=True)
    with ThreadPoolExecutor(1) as pool:
        with net._turn:
            waiting = pool.submit(net.backward, dy)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.2)
        waiting.result()

"""The loop: it learns, weights the last batch right, stops where asked, resumes bit for bit, and shows divergence."""

from __future__ import annotations

import csv
import itertools
import json
import math

import numpy as np
import pytest

from scratchnet import Sequential, kernels, optimizers, reference, schedules
from scratchnet.layers import BatchNorm1d, Dense, Dropout, ReLU
from scratchnet.losses import binary_cross_entropy, mse, softmax_cross_entropy
from scratchnet.training import DivergenceError, History, Progress, count_right, evaluate, train

RNG = np.random.default_rng(0)
X = RNG.standard_normal((50, 6)).astype(np.float32)
Y = (X[:, 0] + X[:, 1] > 0).astype(np.int64)


def make(lr=0.01, dropout=0.2):
    net = Sequential([Dense(16), BatchNorm1d(), ReLU(), Dropout(dropout), Dense(2)], (6,))
    return net, optimizers.Adam(net.params, lr=schedules.warmup(schedules.cosine(lr, 90), 3))


def fresh(progress):
    """A copy as a checkpoint would bring it back."""
    return Progress.from_json(json.loads(json.dumps(progress.to_json())))


def without_seconds(history):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history.rows]


def test_it_learns():
    net, adam = make()
    progress = train(net, adam, X, Y, epochs=12, batch_size=8)
    losses = [row["loss"] for row in progress.history.rows]
    assert len(losses) == 12 and losses[-1] < 0.5 * losses[0]
    loss, accuracy = evaluate(net, X, Y)
    assert accuracy >= 0.9 and loss < 0.4


def test_the_loop_is_the_one_in_its_docstring():
    from scratchnet.data import batches

    net, adam = make()
    train(net, adam, X, Y, epochs=2, batch_size=8, seed=5)
    other, other_adam = make()
    for epoch in range(2):
        for xb, yb in batches(X, Y, batch_size=8, seed=5, epoch=epoch):
            _, dlogits = softmax_cross_entropy(other.forward(xb, train=True), yb)
            other.backward(dlogits)
            other_adam.step(other.grads)
    np.testing.assert_array_equal(net.params, other.params)


@pytest.mark.parametrize("rows", [1, 2, 7, 8, 9, 15, 16, 17])
def test_any_number_of_rows(rows):
    """The last batch may hold 1 to batch_size rows, and every row counts once."""
    net, _ = make(dropout=0.0)
    still = optimizers.SGD(net.params, lr=1e-30)
    progress = train(net, still, X[:rows], Y[:rows], epochs=1, batch_size=8)
    (row,) = progress.history.rows
    assert math.isfinite(row["loss"]) and 0 <= row["accuracy"] <= 1
    assert round(row["accuracy"] * rows, 9) % 1 == 0


def test_the_epoch_mean_weights_rows_not_batches():
    net = Sequential([Dense(2)], (6,))
    still = optimizers.SGD(net.params, lr=1e-30)
    progress = train(net, still, X[:9], Y[:9], epochs=1, batch_size=8)
    expected = softmax_cross_entropy(net.forward(X[:9]), Y[:9])[0]
    assert progress.history.rows[0]["loss"] == pytest.approx(expected, rel=1e-6)
    assert evaluate(net, X[:9], Y[:9], batch_size=8)[0] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("stop_after", [1, 6, 7, 8, 13, 20])
def test_stopped_anywhere_it_resumes_bit_for_bit(tmp_path, stop_after):
    from scratchnet.checkpoint import load_checkpoint, restore, save_checkpoint

    net, adam = make()
    whole = train(net, adam, X, Y, epochs=3, batch_size=8, seed=1, validation=(X, Y))
    part, part_adam = make()
    asked = iter(range(10**6))
    stopped = train(
        part, part_adam, X, Y, 3, 8, 1, validation=(X, Y), should_stop=lambda: next(asked) >= stop_after - 1
    )
    assert stopped.epoch * 7 + stopped.batch == part_adam.t
    save_checkpoint(tmp_path / "c.safetensors", part, part_adam, stopped.to_json())
    checkpoint = load_checkpoint(tmp_path / "c.safetensors")
    other, other_adam = make()
    other.params[...] = 0
    restore(checkpoint, other, other_adam)
    progress = Progress.from_json(checkpoint.progress)
    progress = train(other, other_adam, X, Y, 3, 8, 1, validation=(X, Y), progress=progress)
    np.testing.assert_array_equal(other.params, net.params)
    assert without_seconds(progress.history) == without_seconds(whole.history)


def test_resumed_at_the_very_end_of_an_epoch():
    net, adam = make()
    progress = train(net, adam, X, Y, 1, 8, progress=Progress(batch=7, loss_sum=5.0, correct=10, seen=50))
    assert progress.epoch == 1 and adam.t == 0 and progress.history.rows[0]["loss"] == 0.1


@pytest.mark.parametrize("show", [False, True])
def test_resumed_between_the_last_batch_and_validation(show, capsys):
    """As after an interrupt while the validation set was measured: nothing is left to train, the row is to be made."""
    rows = []
    for interrupted in (False, True):
        net, adam = make()
        progress = Progress()
        if interrupted:
            train(net, adam, X, Y, 1, 8, progress=progress)
            progress = Progress(batch=7, loss_sum=progress.history.rows[0]["loss"] * 50, seen=50)
        train(net, adam, X, Y, 1, 8, progress=progress, validation=(X, Y), show=show)
        rows.append(progress.history.rows[0])
    assert rows[0]["validation_loss"] == rows[1]["validation_loss"] and rows[0]["lr"] == rows[1]["lr"] == adam.lr(7)
    assert (f"validation loss {rows[0]['validation_loss']:.4f}" in capsys.readouterr().err) == show


def test_validation_is_measured_not_trained_on():
    net, adam = make()
    with_validation = train(net, adam, X, Y, 2, 8, validation=(X[:10], Y[:10]))
    other, other_adam = make()
    train(other, other_adam, X, Y, 2, 8)
    np.testing.assert_array_equal(net.params, other.params)
    last = with_validation.history.rows[-1]
    assert (last["validation_loss"], last["validation_accuracy"]) == evaluate(net, X[:10], Y[:10])


def test_after_epoch_sees_each_epoch():
    seen = []
    net, adam = make()
    train(net, adam, X, Y, 3, 8, after_epoch=lambda progress: seen.append((progress.epoch, progress.batch)))
    assert seen == [(1, 0), (2, 0), (3, 0)]


def test_clipping_bounds_the_step():
    net = Sequential([Dense(2)], (6,))
    before = net.params.copy()
    train(net, optimizers.SGD(net.params, lr=1.0), 100 * X, Y, 1, batch_size=50, clip_norm=0.5)
    assert np.linalg.norm(net.params - before) == pytest.approx(0.5, rel=1e-5)


@pytest.mark.parametrize("special", [np.nan, np.inf])
@pytest.mark.parametrize("part", ["0.weight", "4.bias"])
def test_a_bad_parameter_stops_the_run_and_is_named(part, special):
    net, adam = make()
    net.parameters()[part].reshape(-1)[0] = special
    with (
        np.errstate(all="ignore"),
        pytest.raises(DivergenceError, match=rf"epoch 1, batch 1: .*parameter {part} was not"),
    ):
        train(net, adam, X, Y, 1, 8)
    assert adam.t == 0


def test_divergence_leaves_the_weights_and_names_the_layer():
    net = Sequential([Dense(4), ReLU(), Dense(2)], (6,))
    sgd = optimizers.SGD(net.params, lr=0.1)
    net.layers[0].weight[...] = 1e38
    before = net.params.copy()
    with np.errstate(all="ignore"), pytest.raises(DivergenceError, match=r"first at the output of layer 0, Dense\(4\)"):
        train(net, sgd, 100 * np.abs(X), Y, 1, 8)
    np.testing.assert_array_equal(net.params, before)


def test_a_gradient_that_diverges_alone_is_named():
    net = Sequential([Dense(2)], (6,))

    def bad(outputs, labels, ops):
        value, gradient = softmax_cross_entropy(outputs, labels, ops=ops)
        gradient[0, 0] = np.nan
        return value, gradient

    with pytest.raises(DivergenceError, match=r"first in the gradient of 0\.bias"):
        train(net, optimizers.SGD(net.params, lr=0.1), X, Y, 1, 8, loss=bad)


def test_history_is_a_csv_with_all_digits(tmp_path):
    net, adam = make()
    history = train(net, adam, X, Y, 2, 8, validation=(X, Y)).history
    history.write_csv(tmp_path / "h.csv")
    with open(tmp_path / "h.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["epoch", "loss", "accuracy", "validation_loss", "validation_accuracy", "lr", "seconds"]
    assert [float(row["loss"]) for row in rows] == [row["loss"] for row in history.rows]
    History().write_csv(tmp_path / "empty.csv")
    assert (tmp_path / "empty.csv").read_text() == ""


def test_a_progress_bar_goes_to_stderr(capsys):
    net, adam = make()
    train(net, adam, X, Y, 1, 8, show=True)
    captured = capsys.readouterr()
    assert captured.out == "" and "epoch 1/1" in captured.err and "loss" in captured.err and "/s" in captured.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": -1}, "epochs: expected an integer >= 0"),
        ({"clip_norm": 0}, "clip_norm: expected a finite number"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_refusals(options, message):
    net, adam = make()
    with pytest.raises(ValueError, match=message):
        train(net, adam, X, Y, **{"epochs": 1, **options})


def test_an_optimizer_of_other_parameters_is_refused():
    net, _ = make()
    with pytest.raises(ValueError, match=r"train: optimizer: expected one over this net's params"):
        train(net, optimizers.Adam(net.params.copy()), X, Y)
    with pytest.raises(TypeError, match="train: optimizer: expected one such as"):
        train(net, None, X, Y)


def test_one_output_is_the_logit_of_class_1():
    net = Sequential([Dense(1)], (6,))

    def loss(outputs, labels, ops):
        return binary_cross_entropy(outputs, labels[:, None].astype("float32"), ops=ops)

    progress = train(net, optimizers.Adam(net.params, lr=0.1), X, Y, epochs=30, loss=loss)
    right = np.mean((net.predict(X)[:, 0] > 0) == Y)
    assert progress.history.rows[-1]["accuracy"] > 0.95
    assert evaluate(net, X, Y, loss=loss)[1] == pytest.approx(right)


def test_an_epoch_goes_on_with_the_batch_size_it_began_with():
    net, adam = make()
    stopped = train(net, adam, X, Y, epochs=1, batch_size=10, should_stop=lambda: True)
    with pytest.raises(ValueError, match="stopped after 10 examples in 1 batches, got 5"):
        train(net, adam, X, Y, epochs=1, batch_size=5, progress=stopped)


def test_divergence_leaves_running_statistics_alone():
    net, adam = make()
    train(net, adam, X, Y)
    before = {name: value.copy() for name, value in net.state().items()}
    bad = X.copy()
    bad[3] = 3e38
    with pytest.raises(DivergenceError):
        train(net, adam, bad, Y, batch_size=50)
    for name, value in net.state().items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize("ops", [kernels, reference])
def test_numbers_too_large_for_batch_norm_are_divergence(ops):
    """Their variance is infinite, their gradient 0, and the loss as good as any: only the statistics show it."""
    net = Sequential([BatchNorm1d(), Dense(2)], (6,), ops=ops)
    bad = X.copy()
    bad[3, 0] = 1e30
    with pytest.raises(DivergenceError, match=r"first in 0.running_var, which the numbers .* too large for float32"):
        train(net, optimizers.SGD(net.params, lr=0.1), bad, Y, batch_size=8)
    assert np.isfinite(net.predict(X)).all()


def test_history_takes_a_column_that_begins_late(tmp_path):
    History([{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0, "validation_loss": 3.0}]).write_csv(
        tmp_path / "h.csv"
    )
    assert (tmp_path / "h.csv").read_text() == "epoch,loss,validation_loss\n1,2.0,\n2,1.0,3.0\n"


@pytest.mark.parametrize("validated", [1, 2])
def test_a_curve_of_some_epochs_is_drawn(validated, tmp_path):
    plots = pytest.importorskip("scratchnet.plots")
    rows = [{"epoch": epoch, "loss": 1.0} for epoch in (1, 2)]
    rows[validated - 1]["validation_loss"] = 2.0
    plots.plot_history(History(rows), tmp_path / "curves.svg", "validated once")
    assert "validation" in (tmp_path / "curves.svg").read_text()


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (X.tolist(), {}, "train: x: expected a NumPy array or CSR, got list"),
        (X, {"y": Y.tolist()}, "train: y: expected a NumPy array, got list"),
        (X, {"y": Y[0]}, "train: y: expected a NumPy array, got a single number"),
        (X, {"batch_size": None}, "train: batch_size: expected an integer, got None"),
        (X, {"validation": X}, r"train: validation: expected a pair \(x, y\), got ndarray"),
    ],
)
def test_what_is_no_data_is_refused(x, options, message):
    net, adam = make()
    with pytest.raises(TypeError, match=message):
        train(net, adam, x, **{"y": Y, **options})


def test_float_targets_are_learnt_and_have_no_accuracy(tmp_path):
    rng = np.random.default_rng(0)
    slopes = rng.standard_normal((6, 2))
    targets = X @ slopes + 1  # float64: batches give the net's dtype
    net = Sequential([Dense(2)], (6,))
    adam = optimizers.Adam(net.params, lr=0.05)
    progress = train(net, adam, X, targets, epochs=60, batch_size=8, loss=mse, validation=(X, targets))
    np.testing.assert_allclose(net.layers[0].weight, slopes, atol=0.05)
    row = progress.history.rows[-1]
    assert list(row) == ["epoch", "loss", "validation_loss", "lr", "seconds"] and row["validation_loss"] < 1e-2
    loss, accuracy = evaluate(net, X, targets, loss=mse)
    assert loss == row["validation_loss"] and math.isnan(accuracy)
    assert json.loads(json.dumps(progress.to_json(), allow_nan=False)) == progress.to_json()
    plots = pytest.importorskip("scratchnet.plots")
    plots.plot_history(progress.history, tmp_path / "curves.png", "regression")
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_float_targets_need_the_shape_of_the_outputs():
    net = Sequential([Dense(1)], (6,))
    with pytest.raises(ValueError, match=r"mse: targets: expected the shape of predictions, \(50, 1\), got \(50,\)"):
        train(net, optimizers.Adam(net.params), X[:50], X[:50, 0], loss=mse)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"validation": (X, Y[:-1])},
            ValueError,
            r"train: validation: batches: y: expected shape \(50,\), got \(49,\)",
        ),
        ({"validation": (X[:, :3], Y)}, ValueError, r"train: validation: x: expected shape \(N, 6\), got \(50, 3\)"),
        ({"validation": (X.tolist(), Y)}, TypeError, "train: validation: batches: x: expected a NumPy array, got list"),
        (
            {"validation": (X, np.where(np.arange(50) == 41, 7, Y))},
            ValueError,
            r"train: validation: y: .* from 0 to 1 .*, got 7 at index 41",
        ),
        (
            {"validation": (X, Y.astype(np.float32))},
            ValueError,
            r"validation: y: expected what y is, int64 of shape \(N,\), got float32 of shape \(N,\)",
        ),
        (
            {"y": X[:, :2], "loss": mse, "validation": (X, X[:, :3])},
            ValueError,
            r"float32 of shape \(N, 2\), got float32 of shape \(N, 3\)",
        ),
        ({"y": np.where(np.arange(50) == 41, 7, Y)}, ValueError, r"train: y: .* from 0 to 1 .*, got 7 at index 41"),
        ({"after_epoch": None}, TypeError, "train: after_epoch: expected a function such as lambda progress: None"),
        ({"loss": "mse"}, TypeError, "train: loss: expected a function such as softmax_cross_entropy, got 'mse'"),
        ({"loss": lambda *a, ops: 1.0}, TypeError, r"train: loss: expected one that returns \(loss, gradient\)"),
        (
            {"loss": lambda outputs, y: (outputs, 1.0)},
            TypeError,
            r"train: loss: .* a number and an array, got \(ndarray, float\)",
        ),
        ({"should_stop": True}, TypeError, "train: should_stop: expected a function"),
        ({"progress": {}}, TypeError, "train: progress: expected a Progress, got dict; .*Progress.from_json"),
    ],
)
def test_arguments_are_looked_at_before_training(options, error, message):
    net, adam = make()
    before = net.params.copy()
    with pytest.raises(error, match=message):
        train(net, adam, X, **{"y": Y, **options})
    np.testing.assert_array_equal(net.params, before)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"net": "x"}, TypeError, "evaluate: net: expected a Sequential, got str"),
        ({"loss": "mse"}, TypeError, "evaluate: loss: expected a function such as softmax_cross_entropy, got 'mse'"),
        (
            {"loss": lambda *a: 1.0},
            TypeError,
            r"evaluate: loss: expected one that returns \(loss, gradient\), got float",
        ),
        ({"loss": lambda outputs, y: (outputs, 1.0)}, TypeError, r"a number and an array, got \(ndarray, float\)"),
        ({"y": np.where(np.arange(50) == 41, 7, Y)}, ValueError, "evaluate: y: .* got 7 at index 41"),
    ],
)
def test_arguments_are_looked_at_before_evaluating(options, error, message):
    with pytest.raises(error, match=message):
        evaluate(**{"net": make()[0], "x": X, "y": Y, "batch_size": 8, **options})


def test_a_loss_may_return_any_kind_of_number():
    for kind in (np.float32, np.array):
        net, adam = make()

        def loss(outputs, labels, ops, kind=kind):
            value, gradient = softmax_cross_entropy(outputs, labels, ops=ops)
            return kind(value), gradient

        progress = train(net, adam, X, Y, batch_size=8, loss=loss)
        assert type(progress.history.rows[0]["loss"]) is float
        json.dumps(progress.to_json())


def test_accuracy_counts_every_batch():
    net = Sequential([Dense(2)], (6,))
    progress = train(net, optimizers.SGD(net.params, lr=1e-30), X, Y, batch_size=8)
    assert progress.history.rows[0]["accuracy"] == count_right(net.forward(X), Y) / 50


def test_parameters_spoilt_before_a_stop_are_not_saved():
    net = Sequential([Dense(2)], (6,))
    with pytest.raises(DivergenceError, match="after batch 1 parameter"):
        train(net, optimizers.SGD(net.params, lr=3e38), 1e3 * X, Y, batch_size=8, should_stop=lambda: True)


def test_parameters_spoilt_by_the_last_batch_are_not_saved():
    net = Sequential([Dense(2)], (6,))
    sgd = optimizers.SGD(net.params, lr=3e38)
    saved = []
    with pytest.raises(
        DivergenceError, match=r"after batch 1 parameter 0\.weight is not finite; go on from an earlier"
    ):
        train(net, sgd, 1e3 * X, Y, batch_size=50, after_epoch=saved.append)
    assert not saved


def test_an_empty_progress_has_no_loss():
    assert math.isnan(Progress().loss) and math.isnan(Progress().accuracy)


def test_the_row_holds_the_rate_of_its_last_step():
    net, adam = make()
    rows = train(net, adam, X, Y, epochs=2, batch_size=8).history.rows
    assert [row["lr"] for row in rows] == [adam.lr(7), adam.lr(14)]


def test_each_epoch_counts_its_own_seconds(monkeypatch):
    """The clock goes on by a second whenever it is looked at: once at the end of a batch, once at the start."""
    monkeypatch.setattr("scratchnet.training.time.perf_counter", itertools.count().__next__)
    net, adam = make()
    assert [row["seconds"] for row in train(net, adam, X, Y, epochs=2, batch_size=8).history.rows] == [7, 7]


def test_a_stop_at_the_last_batch_of_an_epoch_trains_no_other():
    net, adam = make()
    stopped = train(net, adam, X, Y, epochs=3, batch_size=8, should_stop=lambda: adam.t >= 7)
    assert (stopped.epoch, stopped.batch, adam.t) == (1, 0, 7)


def test_a_stop_that_is_asked_for_once_is_heard_at_the_last_batch():
    net, adam = make()
    answers = iter([False] * 6 + [True])
    stopped = train(net, adam, X, Y, epochs=3, batch_size=8, should_stop=lambda: next(answers))
    assert (stopped.epoch, stopped.batch, adam.t) == (1, 0, 7)


def test_a_logit_of_0_is_class_0():
    assert count_right(np.zeros((3, 1)), np.array([0, 0, 1])) == 2


def test_an_optimizer_of_some_of_the_parameters_is_refused():
    net, _ = make()
    with pytest.raises(ValueError, match=r"train: optimizer: expected one over this net's params"):
        train(net, optimizers.Adam(net.params[:5]), X, Y)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("correct", "1", TypeError),
        ("batch", -1, ValueError),
        ("seen", 1.5, TypeError),
        ("loss_sum", "1", TypeError),
        ("seconds", math.nan, ValueError),
        ("history", {"rows": [1]}, ValueError),
    ],
)
def test_a_progress_of_another_form_is_refused(name, value, error):
    with pytest.raises(error, match=f"progress: {name}: expected"):
        Progress.from_json(Progress().to_json() | {name: value})


def test_a_net_on_the_reference_floor_is_trained_there(monkeypatch):
    net = Sequential([Dense(4), ReLU(), Dense(2)], (6,), ops=reference)
    adam = optimizers.Adam(net.params, ops=reference)
    for name in reference.__dict__.keys() & kernels.__dict__.keys():
        if callable(getattr(reference, name)):
            monkeypatch.setattr(kernels, name, None)
    train(net, adam, X, Y, batch_size=8, validation=(X, Y), clip_norm=1.0)

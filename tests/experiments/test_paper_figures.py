"""The figures of the Adam paper: their scripts run and go on where they stopped, and wrong curves fail their checks."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace

import cifar10_cnn
import imdb_logistic
import mnist_logistic
import mnist_mlp
import numpy as np
import pytest
import whitening
from paper import curves, options, picture
from paper.checks import conclude, holds, within
from paper.curves import Curve, Task, series, train_curves
from paper.digitised import paper_curves
from paper.figure import check_smoke
from paper.nesterov import SutskeverNesterov
from paper.search import COLUMNS as SEARCH_COLUMNS
from paper.search import KEY as SEARCH_KEY
from paper.search import grid, search
from paper.table import Table
from processes import ROOT, import_path, run_experiment

from scratchnet import Sequential, evaluate, threads, train
from scratchnet.data import load
from scratchnet.files import locked
from scratchnet.layers import Conv2d, Dense, Dropout, Flatten, ReLU
from scratchnet.models import logistic
from scratchnet.optimizers import SGD, Adam
from scratchnet.schedules import inverse_square_root

SCRIPTS = {"mnist_logistic": "1a", "imdb_logistic": "1b", "mnist_mlp": "2a", "cifar10_cnn": "3"}
MODULES = {module.__name__: module for module in (mnist_logistic, imdb_logistic, mnist_mlp, cifar10_cnn)}


# --- the scripts ---------------------------------------------------------------------------------------------------


@pytest.mark.jit_only
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_figure_runs_small(script, tmp_path):
    shown = run_experiment(script, "--smoke", "--out", tmp_path).stdout
    assert "FAIL" not in shown
    assert (tmp_path / "checks.md").read_text() in shown
    assert (tmp_path / f"{script}.png").stat().st_size > 20_000
    record = json.loads((tmp_path / "run.json").read_text())
    names = {curve.name for curve in MODULES[script].CURVES}
    assert record["settings"].keys() == names == {row["curve"] for row in figure_table(script, tmp_path)}
    assert record["cpu_seconds"] > 0


def figure_table(script, folder):
    return Table(folder / f"{script}.csv", curves.COLUMNS, curves.KEY)


@pytest.mark.jit_only
def test_a_figure_that_was_killed_goes_on(tmp_path):
    run_experiment("mnist_logistic", "--smoke", "--out", tmp_path)
    path = tmp_path / "mnist_logistic.csv"
    whole = sorted(row["cost"] for row in figure_table("mnist_logistic", tmp_path))
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:4]) + "\n" + lines[4][:9])  # cut in the middle of a row
    searched = (tmp_path / "search.csv").read_text()
    run_experiment("mnist_logistic", "--smoke", "--out", tmp_path)
    assert sorted(row["cost"] for row in figure_table("mnist_logistic", tmp_path)) == whole
    assert (tmp_path / "search.csv").read_text() == searched
    refused = run_experiment("mnist_logistic", "--short", "--out", tmp_path, status=2)
    assert "holds the rows of a smoke run of mnist_logistic, and this is a short run of" in refused.stderr
    refused = run_experiment("mnist_mlp", "--smoke", "--out", tmp_path, status=2)
    assert "holds the rows of a smoke run of mnist_logistic, and this is a smoke run of mnist_mlp" in refused.stderr
    (tmp_path / "run.json").write_text("")
    refused = run_experiment("mnist_logistic", "--smoke", "--out", tmp_path, status=2)
    assert "run.json can't be read; remove it" in refused.stderr


ENDLESS = """
    import sys
    from pathlib import Path
    from paper.curves import Curve, train_curves
    from scratchnet.optimizers import Adam
    from test_paper_figures import digits_task, new_table

    two = [Curve("Adam", Adam, []), Curve("RMSProp", Adam, [])]
    settings = dict.fromkeys(("Adam", "RMSProp"), {"lr": 0.001})
    train_curves(digits_task(10**6), two, settings, [0], new_table(Path(sys.argv[1])), 2)
"""


@pytest.mark.jit_only
@pytest.mark.skipif(os.name == "nt", reason="Windows tells no process that its parent is gone")
def test_the_processes_of_a_killed_run_end_with_it(tmp_path):
    """Or they would write the epochs that the next run trains again."""
    command = [sys.executable, "-c", textwrap.dedent(ENDLESS), str(tmp_path)]
    paths = import_path(ROOT / "tests", ROOT / "tests" / "experiments")
    run = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": paths}, stderr=subprocess.DEVNULL)
    rows = tmp_path / "curves.csv"
    wait_until(lambda: rows.exists() and all(name in rows.read_text() for name in ("Adam", "RMSProp")))
    run.kill()
    run.wait()
    lengths = [-1, rows.stat().st_size]

    def at_rest():
        lengths.append(rows.stat().st_size)
        return lengths[-1] == lengths[-2] == lengths[-3]

    wait_until(at_rest, every=1.0)


def wait_until(true, every=0.1, seconds=120):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(every)


# --- the checks ----------------------------------------------------------------------------------------------------


def as_in_the_paper(script):
    """(costs, accuracies) of every epoch, between the paper's points on straight lines of the logarithm."""
    module, figure = MODULES[script], paper_curves(SCRIPTS[script])
    epochs = np.arange(module.EPOCHS["full"])
    costs = {name: np.exp(np.interp(epochs, x, np.log(y)))[None] for name, (x, y) in figure.items()}
    if "AdaGrad, own decay" in {curve.name for curve in module.CURVES}:
        costs["AdaGrad, own decay"] = costs["AdaGrad"] if script == "imdb_logistic" else np.full((1, len(epochs)), 0.28)
    if script == "cifar10_cnn":
        costs |= {falling: costs[name] for name, falling in module.FALLING.items()}
    return costs, {name: np.full((1, len(epochs)), 0.99) for name in costs}


def failed(checks):
    return [check.statement for check in checks if check.hard and not check.held]


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_papers_own_curves_pass_the_hard_checks(script):
    costs, accuracies = as_in_the_paper(script)
    assert failed(MODULES[script].check(costs, accuracies)) == []
    assert failed(MODULES[script].check_short(costs, accuracies)) == []


@pytest.mark.parametrize(
    ("script", "curve", "factor"),
    [
        ("mnist_logistic", "Adam", 1.1),
        ("mnist_logistic", "Adam", 0.9),
        ("mnist_logistic", "SGDNesterov", 1.15),
        ("mnist_logistic", "AdaGrad", 0.5),
        ("imdb_logistic", "Adam", 1.1),
        ("imdb_logistic", "SGDNesterov", 0.75),
        ("imdb_logistic", "RMSProp", 0.9),
        ("imdb_logistic", "AdaGrad, own decay", 1.2),
        ("mnist_mlp", "Adam", 3.0),
        ("mnist_mlp", "Adam", 0.3),
        ("mnist_mlp", "AdaGrad", 0.3),
        ("cifar10_cnn", "AdaGrad", 1e-3),
        ("cifar10_cnn", "SGDNesterov", 1e3),
        ("cifar10_cnn", "Adam + dropout", 1e-2),
        ("cifar10_cnn", "AdaGrad", float("nan")),
        ("mnist_logistic", "Adam", float("nan")),
        ("mnist_mlp", "Adam", float("nan")),
        ("imdb_logistic", "RMSProp", float("nan")),
    ],
)
def test_a_wrong_curve_fails_a_hard_check(script, curve, factor):
    costs, accuracies = as_in_the_paper(script)
    assert failed(MODULES[script].check(costs | {curve: costs[curve] * factor}, accuracies))


@pytest.mark.parametrize(
    ("script", "curve", "factor"),
    [
        ("mnist_logistic", "Adam", 3.0),
        ("mnist_logistic", "Adam", 0.8),
        ("mnist_logistic", "AdaGrad", 0.3),
        ("imdb_logistic", "Adam", 1.2),
        ("imdb_logistic", "SGDNesterov", 0.5),
        ("mnist_mlp", "Adam", 1.1),
        ("mnist_mlp", "Adam", float("nan")),
        ("cifar10_cnn", "AdaGrad", 0.3),
        ("cifar10_cnn", "AdaGrad + dropout", 0.3),
        ("cifar10_cnn", "SGDNesterov + dropout", 3.0),
        ("cifar10_cnn", "Adam", float("nan")),
    ],
)
def test_a_wrong_curve_fails_a_hard_check_of_a_short_run(script, curve, factor):
    costs, accuracies = as_in_the_paper(script)
    assert failed(MODULES[script].check_short(costs | {curve: costs[curve] * factor}, accuracies))


def test_the_better_of_two_rates_counts():
    costs, accuracies = as_in_the_paper("mnist_mlp")
    slower = {curve.name: costs[curve.name.split(",")[0]] * 1.5 for curve in mnist_mlp.SLOWER}
    poor = {name: share - 0.2 for name, share in accuracies.items()}
    assert mnist_mlp.better(costs | slower) == {name: name for name in costs}
    checks = mnist_mlp.check(costs | slower, accuracies | {name: poor[name.split(",")[0]] for name in slower})
    assert checks == mnist_mlp.check(costs, accuracies)
    faster = {name: cost / 2 for name, cost in slower.items()}
    assert mnist_mlp.better(costs | faster)["Adam"] == "Adam, lr 1e-4"
    lost = {"Adam, lr 1e-4": costs["Adam"] * np.nan}
    assert mnist_mlp.better(costs | lost)["Adam"] == "Adam"
    assert failed(mnist_mlp.check(costs | {"AdaGrad, lr 0.003": costs["Adam"] / 2}, accuracies))


@pytest.mark.parametrize("script", ["mnist_logistic", "imdb_logistic", "mnist_mlp"])
def test_a_net_that_classifies_badly_fails_a_hard_check(script):
    costs, accuracies = as_in_the_paper(script)
    poor = {name: share - 0.2 for name, share in accuracies.items()}
    assert failed(MODULES[script].check(costs, poor))
    assert failed(MODULES[script].check_short(costs, poor))


def test_a_check_holds_for_every_seed_or_not_at_all(tmp_path, capsys):
    assert within("x", [1.0, 2.0], 1, 2).held
    assert not within("x", [1.0, 2.1], 1, 2).held
    assert not within("x", float("nan")).held
    assert not within("x", []).held
    checks = [within("a", 1.0, 2, hard=False), holds("b", True, "so")]
    assert conclude(checks, tmp_path) == 0
    assert "| soft | a >= 2 | 1 | differs |" in capsys.readouterr().out
    assert conclude([*checks, within("c", 1.0, 2)], tmp_path) == 1
    assert "| HARD | c >= 2 | 1 | FAIL |" in (tmp_path / "checks.md").read_text()


# --- the parts -----------------------------------------------------------------------------------------------------


def digits_task(epochs=2):
    data = load("digits")
    return Task(data.train, data.test, lambda dropout: logistic(data.input_shape, 10, 0.0), data.input_shape, epochs)


def new_table(path):
    return Table(path / "curves.csv", curves.COLUMNS, curves.KEY)


def test_all_optimizers_start_from_the_same_weights_and_see_the_same_order(tmp_path):
    settings = {"lr": 1e-30}  # hardly moves: then cost depends on weights and order alone
    two = [Curve("Adam", Adam, [settings]), Curve("SGDNesterov", SGD, [settings])]
    table = new_table(tmp_path)
    train_curves(digits_task(1), two, {curve.name: settings for curve in two}, [0, 1], table, 1)
    costs = series(table, "cost", 1)
    assert np.array_equal(costs["Adam"], costs["SGDNesterov"])
    assert not list(tmp_path.glob("*.safetensors"))


def test_a_curve_goes_on_from_its_checkpoint_with_the_same_bits(tmp_path, monkeypatch):
    curve, settings = Curve("Adam", Adam, []), {"lr": 0.01}
    whole = new_table(tmp_path)
    train_curves(digits_task(4), [curve], {"Adam": settings}, [3], whole, 1)
    (tmp_path / "again").mkdir()
    broken = new_table(tmp_path / "again")
    add, added = Table.add, []

    def add_two(self, row):
        added.append(row)
        if len(added) == 3:
            raise KeyboardInterrupt  # after the checkpoint, before the row
        add(self, row)

    monkeypatch.setattr(Table, "add", add_two)
    with pytest.raises(KeyboardInterrupt):
        train_curves(digits_task(4), [curve], {"Adam": settings}, [3], broken, 1)
    monkeypatch.setattr(Table, "add", add)
    with pytest.raises(ValueError, match="remove it to train this curve anew"):
        train_curves(digits_task(4), [curve], {"Adam": {"lr": 0.02}}, [3], broken, 1)
    train_curves(digits_task(4), [curve], {"Adam": settings}, [3], broken, 1)
    assert [row["cost"] for row in broken] == [row["cost"] for row in whole]
    assert [row["test_accuracy"] for row in broken] == [row["test_accuracy"] for row in whole]


def test_a_curve_that_diverges_is_shown_as_nan_and_not_trained_again(tmp_path, capsys):
    curve, settings, table = Curve("SGDNesterov", SGD, []), {"SGDNesterov": {"lr": 1e38}}, new_table(tmp_path)
    with np.errstate(all="ignore"):
        train_curves(digits_task(3), [curve], settings, [0], table, 1)
    assert "diverged" in capsys.readouterr().err
    rows = list(table)
    assert np.isnan(rows[-1]["cost"])
    assert [row["epoch"] for row in rows] == [0]
    train_curves(digits_task(3), [curve], settings, [0], table, 1)
    assert "diverged" not in capsys.readouterr().err
    assert len(list(table)) == len(rows)
    assert np.isnan(series(table, "cost", 3)["SGDNesterov"]).any()


def test_what_a_curve_measures_stands_at_the_end_of_its_epoch(tmp_path):
    counted = Curve("Adam", Adam, [], measures={"steps": lambda net, optimizer: optimizer.t})
    task, settings = digits_task(2), {name: {"lr": 0.01} for name in ("Adam", "SGDNesterov")}
    train_curves(task, [counted, Curve("SGDNesterov", SGD, [])], settings, [0], new_table(tmp_path), 1)
    steps = -(-len(task.train.y) // task.batch_size)
    (name, found), *others = series(curves.measured(tmp_path, [counted]), "steps", 3).items()
    assert (name, others) == ("Adam", [])
    np.testing.assert_array_equal(found, [[np.nan, steps, 2 * steps]])


def test_the_second_moment_is_that_of_the_convolutions():
    net = Sequential([Conv2d(2, 3), ReLU(), Flatten(), Dense(3)], (5, 5, 1))
    adam = Adam(net.params)
    net.grads[:] = np.where(np.arange(net.grads.size) < 2 * (9 + 1), 0.5, 100)
    adam.step(net.grads)
    root = cifar10_cnn.root_of_second_moment(net, adam)
    np.testing.assert_allclose(root, np.full(20, 0.5), rtol=1e-5)
    assert cifar10_cnn.MEASURES["share below eps"](net, adam) == 0


def test_a_second_moment_that_stays_differs_from_the_paper():
    names = ("Adam", cifar10_cnn.FALLING["Adam"])
    falls = np.geomspace(10, 1e-3, 47)[None]
    found = {"median sqrt(v)": dict.fromkeys(names, falls)}
    assert [check.held for check in cifar10_cnn.check_second_moment(found)] == [True, True]
    found["median sqrt(v)"] = {names[0]: falls**0.1}
    assert [check.held for check in cifar10_cnn.check_second_moment(found)] == [False, False]


def test_the_search_finds_the_lowest_cost_and_tries_nothing_twice(tmp_path):
    searched = Table(tmp_path / "search.csv", SEARCH_COLUMNS, SEARCH_KEY)
    curve = Curve("SGDNesterov", SGD, grid(lr=[1e-4, 0.1, 1e38], momentum=[0.5]))
    with np.errstate(all="ignore"):
        assert search(digits_task(), [curve], searched, 1) == {"SGDNesterov": {"lr": 0.1, "momentum": 0.5}}
    assert [np.isinf(row["cost"]) for row in searched] == [False, False, True]
    written = searched.path.read_text()
    search(digits_task(), [curve], Table(searched.path, SEARCH_COLUMNS, SEARCH_KEY), 1)
    assert searched.path.read_text() == written
    hopeless = Curve("SGDNesterov", SGD, [curve.grid[2]])
    with pytest.raises(ArithmeticError, match="all settings of SGDNesterov diverge"):
        search(digits_task(), [hopeless], searched, 1)


@pytest.mark.parametrize("lr", [0.1, inverse_square_root(0.1)])
def test_nesterov_is_that_of_sutskever(lr):
    rng = np.random.default_rng(0)
    params = rng.standard_normal(5)
    theirs, velocity = params.copy(), np.zeros(5)
    optimizer = SutskeverNesterov(params, lr, momentum=0.9)
    for t in range(1, 50):
        g, rate = rng.standard_normal(5), lr(t) if callable(lr) else lr
        optimizer.step(g)
        velocity = 0.9 * velocity - rate * g
        theirs += 0.9 * velocity - rate * g
    assert np.allclose(params, theirs, rtol=0, atol=1e-13)


def test_a_table_with_other_columns_is_refused(tmp_path):
    Table(tmp_path / "a.csv", ["x", "y"], ["x"]).add({"x": 1, "y": 2.5})
    assert list(Table(tmp_path / "a.csv", ["x", "y"], ["x"])) == [{"x": 1, "y": 2.5}]
    with pytest.raises(ValueError, match=r"expected the columns x, z, got x, y; choose another --out"):
        Table(tmp_path / "a.csv", ["x", "z"], ["x"])


@pytest.mark.skipif(os.name != "posix", reason="POSIX locks")
def test_who_adds_a_row_waits_for_another_process(tmp_path):
    """Two that find the file empty at the same time would both write its header."""
    table = Table(tmp_path / "a.csv", ["x"], ["x"])
    writer = threading.Thread(target=table.add, args=({"x": 1},))
    with locked(tmp_path, wait=False):
        writer.start()
        writer.join(0.2)
        assert writer.is_alive() and not table.path.exists()
    writer.join()
    assert table.path.read_text() == "x\n1\n"


def test_the_papers_values_are_those_it_states():
    assert paper_curves("1a")["Adam"][1][-1] == 0.2571
    assert paper_curves("2b")["SFO"][0].tolist() == [0, 1, 2, 3, 5, 7, 10, 12, 15, 20, 25]
    assert len(paper_curves("4-10")) == 11
    with pytest.raises(ValueError, match="expected one of 1a, 1b"):
        paper_curves("5")


def test_options_say_what_is_wrong(tmp_path, capsys):
    parser = options.make_parser("mnist_mlp", "")
    for arguments in (["--threads", "0"], ["--seed", "-1"], ["--smoke", "--short"]):
        with pytest.raises(SystemExit):
            options.parse(parser, ["--out", str(tmp_path), *arguments])
        assert "expected" in (shown := capsys.readouterr().err) or "not allowed" in shown


def test_curves_of_one_setting_are_trained_without_a_search(tmp_path):
    figure = mnist_logistic.FIGURE
    slow = Curve("Adam, lr 1e-5", Adam, grid(lr=[1e-5]))
    tasks = digits_task(1), digits_task(2)
    one = replace(figure, make_tasks=lambda args: tasks, more=[slow])
    assert one.main(["--out", str(tmp_path), "--threads", "1", "--curves", slow.name]) == 0
    assert {row["curve"] for row in figure_table("mnist_logistic", tmp_path)} == {slow.name}
    assert not (tmp_path / "search.csv").exists()


def test_curves_of_the_full_setting_are_refused_elsewhere(tmp_path, capsys):
    with pytest.raises(SystemExit):
        mnist_mlp.FIGURE.main(["--smoke", "--out", str(tmp_path), "--curves", "Adam, lr 1e-4"])
    assert "got ['Adam, lr 1e-4']" in capsys.readouterr().err


def test_a_name_outside_the_legend_is_an_error(tmp_path):
    with pytest.raises(KeyError):
        picture.draw(tmp_path / "a.png", "", [picture.Panel({"Unknown": []})])


def test_a_rate_that_falls_with_the_epoch():
    rate = cifar10_cnn.by_epoch(0.1)
    assert [rate(t) for t in (1, 391, 392, 782, 783)] == [0.1, 0.1, 0.1 / 2**0.5, 0.1 / 2**0.5, 0.1 / 3**0.5]


def test_whitened_images_have_neither_scale_nor_correlation():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4000, 4, 4, 1), dtype=np.uint8)
    images[:, 1:] = images[:, :1] // 2 + images[:, 1:] // 2  # correlated
    rows = whitening.normalize_contrast(images)
    assert np.allclose(rows.mean(axis=1), 0, atol=1e-5)
    assert np.allclose(rows.std(axis=1), 1, atol=1e-5)
    mean, matrix = whitening.zca(rows)
    covariance = np.cov(((rows - mean) @ matrix).T)
    values = np.linalg.eigvalsh(np.cov(rows.T))
    assert np.allclose(np.linalg.eigvalsh(covariance), values / (values + whitening.RAISED), atol=1e-3)
    assert abs(covariance - np.diag(np.diag(covariance))).max() < 0.3 * abs(np.cov(rows.T)).max()


def test_a_curve_is_what_its_task_and_settings_say(tmp_path):
    """Trained once more by hand: weights and order from the seed, rate, penalty and dropout of the curve."""

    def layers(dropout):
        return [Flatten(), *([Dropout(0.5)] if dropout else []), Dense(10)]

    task = replace(digits_task(1), make_layers=layers, weight_decay=0.1, clean_rows=100)
    curve = Curve("Adam", Adam, [], schedule=inverse_square_root, dropout=True)
    table = new_table(tmp_path)
    train_curves(task, [curve], {"Adam": {"lr": 0.1}}, [1], table, 1)
    x, y = task.train.x, task.train.y
    net = Sequential(layers(True), task.input_shape, seed=1)
    (row,) = train(net, Adam(net.params, inverse_square_root(0.1), weight_decay=0.1), x, y, 1, 128, 1).history.rows
    (found,) = table
    assert found["cost"] == row["loss"]
    assert found["clean_cost"] == evaluate(net, x[:100], y[:100])[0]
    assert found["test_accuracy"] == evaluate(net, task.test.x, task.test.y)[1]


def test_a_search_looks_at_the_trials_of_its_task_alone(tmp_path):
    """And each begins at the weights of seed 0."""
    task = replace(digits_task(1), make_layers=lambda dropout: [Flatten(), Dense(10)])
    curve = Curve("Adam", Adam, grid(lr=[1e-5, 0.01]))
    searched = Table(tmp_path / "search.csv", SEARCH_COLUMNS, SEARCH_KEY)
    assert search(task, [curve], searched, 1) == {"Adam": {"lr": 0.01}}
    slow = next(row for row in searched if "1e-05" in row["settings"])
    net = Sequential(task.make_layers(False), task.input_shape, seed=0)
    assert slow["cost"] == train(net, Adam(net.params, 1e-5), task.train.x, task.train.y).history.rows[0]["loss"]
    for other in ({"epochs": 2}, {"rows": 7}):
        searched.add(slow | {"cost": -1.0} | other)
    assert search(task, [curve], searched, 1) == {"Adam": {"lr": 0.01}}


def test_a_row_that_is_too_short_is_refused_and_one_that_is_there_not_added(tmp_path):
    path = tmp_path / "a.csv"
    table = Table(path, ["x", "y"], ["x"])
    for _ in range(2):
        table.add({"x": 1, "y": 2})
    assert path.read_text() == "x,y\n1,2\n"
    for line in ("2", "2,3,4"):
        path.write_text(f"x,y\n{line}\n")
        with pytest.raises(ValueError, match="line 2: expected 2 cells"):
            Table(path, ["x", "y"], ["x"])


@pytest.mark.skipif(threads.available_threads() < 2, reason="needs two threads")
def test_the_caller_gets_its_threads_back():
    before = threads.get_threads()
    with curves.same_threads_after():
        threads.set_threads(1 if before > 1 else 2)
    assert threads.get_threads() == before


def test_a_smoke_run_fails_with_any_seed_whose_cost_rises():
    costs, accuracies = {"Adam": np.array([[2.0, 1.0], [1.0, 2.0]])}, {"Adam": np.ones((2, 2))}
    assert not check_smoke(costs, accuracies)[0].held
    assert check_smoke({"Adam": costs["Adam"][:1]}, accuracies)[0].held


def test_a_record_adds_up_both_kinds_of_seconds(tmp_path):
    args = argparse.Namespace(out=tmp_path, mode="full", seed=[0], threads=1)
    options.write_record(args, "mnist_mlp", [{"seconds": 1.0, "cpu_seconds": 2.0}] * 3, epochs=4)
    record = json.loads((tmp_path / "run.json").read_text())
    assert (record["seconds"], record["cpu_seconds"], record["epochs"]) == (3, 6, 4)


def test_what_is_measured_is_checked_in_a_full_run(tmp_path):
    counted = Curve("Adam", Adam, grid(lr=[0.01]), measures={"steps": lambda net, optimizer: optimizer.t})
    figure = replace(
        mnist_logistic.FIGURE,
        curves=[counted],
        more=[],
        make_tasks=lambda args: (digits_task(1), digits_task(1)),
        check=lambda costs, accuracies: [],
        draw=lambda path, costs: None,
        check_measures=lambda found: [within("steps", float(found["steps"]["Adam"][0, -1]), 13)],
    )
    assert figure.main(["--out", str(tmp_path), "--threads", "1"]) == 1  # it has 12

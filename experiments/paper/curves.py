"""The lines of a figure: one net, from the same weights on the same batches, trained by several optimizers."""

from __future__ import annotations

import contextlib
import math
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from tqdm import tqdm

from paper.table import Row, Table
from scratchnet import Sequential, evaluate, load_checkpoint, restore, save_checkpoint, threads, train
from scratchnet.data import Split
from scratchnet.layers.base import Layer
from scratchnet.optimizers import Optimizer
from scratchnet.optimizers.base import LearningRate
from scratchnet.training import DivergenceError, Progress

COLUMNS = ("curve", "seed", "epoch", "cost", "clean_cost", "test_accuracy", "seconds", "cpu_seconds")
KEY = ("curve", "seed", "epoch")

Measure = Callable[[Sequential, Optimizer], float]
Settings = Mapping[str, float]  # an optimizer's arguments by name, "lr" among them


@dataclass(frozen=True)
class Curve:
    """One line of a figure.

    Attributes:
        name: what legend and tables call it; it begins with the optimizer's name in the paper.
        optimizer: called with the parameters and with settings.
        grid: the settings that the search tries.
        schedule: makes of the number lr what the optimizer gets.
        dropout: whether the net has the figure's dropout.
        measures: name -> what else is looked at after each epoch; it gets the net and the optimizer.
    """

    name: str
    optimizer: Callable[..., Optimizer]
    grid: Sequence[Settings]
    schedule: Callable[[float], LearningRate] = float
    dropout: bool = False
    measures: Mapping[str, Measure] = field(default_factory=dict)

    def make_optimizer(self, params: np.ndarray, settings: Settings, weight_decay: float) -> Optimizer:
        """Make the optimizer over `params`; `weight_decay` is the coupled one, an L2 penalty."""
        others = {name: value for name, value in settings.items() if name != "lr"}
        return self.optimizer(params, lr=self.schedule(settings["lr"]), weight_decay=weight_decay, **others)


@dataclass(frozen=True)
class Task:
    """What is trained, and for how long.

    Attributes:
        train, test: the data.
        make_layers: dropout or not -> the layers of a net.
        input_shape: of one example.
        epochs: passes over the data.
        weight_decay: of an L2 penalty; in no cost that is reported.
        clean_rows: the cost without dropout is measured on so many of the first training examples.
    """

    train: Split
    test: Split
    make_layers: Callable[[bool], list[Layer]]
    input_shape: tuple[int, ...]
    epochs: int
    batch_size: int = 128
    weight_decay: float = 0.0
    clean_rows: int = 10_000

    def start(self, curve: Curve, settings: Settings, seed: int) -> tuple[Sequential, Optimizer]:
        """Make the net, whose weights depend on the seed alone, and the optimizer of a curve."""
        net = Sequential(self.make_layers(curve.dropout), self.input_shape, seed=seed)
        return net, curve.make_optimizer(net.params, settings, self.weight_decay)


def train_curves(
    task: Task, curves: Sequence[Curve], chosen: Mapping[str, Settings], seeds: Sequence[int], table: Table, cores: int
) -> None:
    """Train what `table` does not hold yet, with a bar that shows the time left.

    Curves are trained side by side, each in a process of its own with its share of the cores: two steps on one thread
    each take less time than one after the other on two, and the bits are the same for any number of threads.

    Args:
        chosen: the settings of each curve, by its name.
        table: gets a row per epoch, of COLUMNS: the cost of pass k + 1, as its minibatches were trained on (dropout on,
            no penalty), stands at epoch k. A curve that diverges ends with a row of NaN. Beside the table lies a
            checkpoint of each curve that is being trained: a run that was killed goes on from there. What curves
            measure after pass k stands in measures.csv at epoch k.
    """
    wanted = [(curve, seed) for seed in seeds for curve in curves]
    todo = [(curve, seed) for curve, seed in wanted if not _finished(table, curve.name, seed, task.epochs)]
    processes = max(1, min(cores, len(todo)))
    names = {(curve.name, seed) for curve, seed in wanted}
    others = sum((row["curve"], row["seed"]) not in names for row in table)
    with _bar(table, others, len(wanted) * task.epochs), same_threads_after():
        Parallel(n_jobs=processes)(
            delayed(_train_curve)(
                task, curve, chosen[curve.name], seed, table.path, max(1, cores // processes), os.getpid()
            )
            for curve, seed in todo
        )
    table.read()


@contextlib.contextmanager
def same_threads_after() -> Iterator[None]:
    """Give the caller its number of threads back: where one process is asked for, joblib works in the caller's own."""
    count = threads.get_threads()
    try:
        yield
    finally:
        threads.set_threads(count)


@contextlib.contextmanager
def _bar(table: Table, others: int, total: int) -> Iterator[None]:
    """Show how many epochs of `total` are trained, by looking at the file that all processes write to.

    So many of its rows are of other curves.
    """

    def count() -> int:
        return max(0, table.path.read_text().count("\n") - 1 - others) if table.path.exists() else 0

    def follow() -> None:
        while not over.wait(1.0):
            bar.update(count() - bar.n)

    over, follower = threading.Event(), threading.Thread(target=follow)
    with tqdm(total=total, initial=count(), unit=" epochs", dynamic_ncols=True) as bar:
        follower.start()
        try:
            yield
        finally:
            over.set()
            follower.join()
            bar.update(count() - bar.n)


def measured(folder: Path, curves: Sequence[Curve]) -> Table:
    """The table of what these curves measure, in the folder of their costs; they measure the same, or nothing."""
    names = dict.fromkeys(name for curve in curves for name in curve.measures)
    return Table(folder / "measures.csv", (*KEY, *names), KEY)


def series(table: Table, column: str, epochs: int) -> dict[str, np.ndarray]:
    """Return curve -> (seeds, epochs) numbers of a column; NaN where a curve has no row."""
    found: dict[str, dict[int, np.ndarray]] = {}
    for row in table:
        if row["epoch"] < epochs:
            seeds = found.setdefault(row["curve"], {})
            seeds.setdefault(row["seed"], np.full(epochs, math.nan))[row["epoch"]] = row[column]
    return {curve: np.array([seeds[seed] for seed in sorted(seeds)]) for curve, seeds in found.items()}


def _finished(table: Table, name: str, seed: int, epochs: int) -> bool:
    rows = [row for row in table if (row["curve"], row["seed"]) == (name, seed)]
    return len({row["epoch"] for row in rows}) >= epochs or any(math.isnan(row["cost"]) for row in rows)


def _train_curve(task: Task, curve: Curve, settings: Settings, seed: int, path: Path, cores: int, run: int) -> None:
    """Train one line; `run` is the process that asked for it, perhaps this one."""
    threads.set_threads(cores)
    table = Table(path, COLUMNS, KEY)
    net, optimizer = task.start(curve, settings, seed)
    saved = path.with_name(f"{re.sub('[^a-z0-9]+', '-', curve.name.lower())}-{seed}.safetensors")
    progress = _resume(saved, net, optimizer, settings)
    for row in progress.history.rows:  # the last may have been saved and not yet written
        table.add(_row(curve, seed, row))
    clean = Split(task.train.x[: task.clean_rows], task.train.y[: task.clean_rows])
    began = time.perf_counter(), time.process_time()

    def after_epoch(progress: Progress) -> None:
        nonlocal began
        if run not in (os.getpid(), os.getppid()):  # it was killed, and another may have gone on from the checkpoint
            os._exit(1)
        row = progress.history.rows[-1]
        row["clean_cost"], _ = evaluate(net, clean.x, clean.y)
        _, row["test_accuracy"] = evaluate(net, task.test.x, task.test.y)
        now = time.perf_counter(), time.process_time()
        row["seconds"], row["cpu_seconds"] = now[0] - began[0], now[1] - began[1]
        began = now
        if curve.measures:
            found = {name: measure(net, optimizer) for name, measure in curve.measures.items()}
            measured(path.parent, [curve]).add({"curve": curve.name, "seed": seed, "epoch": row["epoch"]} | found)
        save_checkpoint(saved, net, optimizer, progress.to_json(), dict(settings))
        table.add(_row(curve, seed, row))

    try:
        train(
            net, optimizer, task.train.x, task.train.y, task.epochs, task.batch_size, seed,
            progress=progress, after_epoch=after_epoch,
        )  # fmt: skip
    except DivergenceError as error:
        print(f"{curve.name}, seed {seed}: {error}", file=sys.stderr)
        nothing = {"loss": math.nan, "clean_cost": math.nan, "test_accuracy": math.nan, "seconds": 0, "cpu_seconds": 0}
        table.add(_row(curve, seed, nothing | {"epoch": progress.epoch + 1}))
    saved.unlink(missing_ok=True)


def _resume(path: Path, net: Sequential, optimizer: Optimizer, settings: Settings) -> Progress:
    """Bring net and optimizer to where a killed run left them, if one with these settings did."""
    if not path.exists():
        return Progress()
    checkpoint = load_checkpoint(path)
    if checkpoint.config != dict(settings):
        raise ValueError(
            f"{path}: expected the checkpoint of a run with {dict(settings)}, got one with {checkpoint.config}; "
            "remove it to train this curve anew"
        )
    restore(checkpoint, net, optimizer)
    return Progress.from_json(checkpoint.progress)


def _row(curve: Curve, seed: int, row: Mapping[str, Any]) -> Row:
    """A row of COLUMNS from one of the training's history."""
    rounded = {name: round(row[name], 3) for name in ("seconds", "cpu_seconds")}
    costs = {"cost": row["loss"], "clean_cost": row["clean_cost"], "test_accuracy": row["test_accuracy"]}
    return {"curve": curve.name, "seed": seed, "epoch": row["epoch"] - 1, **costs, **rounded}

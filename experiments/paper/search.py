"""The grid behind a figure: every setting tried, its cost recorded, the best one chosen."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from itertools import product

from joblib import Parallel, delayed
from tqdm import tqdm

from paper.curves import Curve, Settings, Task, same_threads_after
from paper.table import Row, Table
from scratchnet import threads, train
from scratchnet.training import DivergenceError

COLUMNS = ("curve", "settings", "epochs", "rows", "cost", "seconds", "cpu_seconds")
KEY = ("curve", "settings", "epochs", "rows")


def grid(**values: Sequence[float]) -> list[Settings]:
    """All combinations: grid(lr=[1, 2], momentum=[0.9]) -> [{lr: 1, momentum: 0.9}, {lr: 2, momentum: 0.9}]."""
    return [dict(zip(values, combination)) for combination in product(*values.values())]


def search(task: Task, curves: Sequence[Curve], table: Table, processes: int) -> dict[str, Settings]:
    """Train every curve with every setting of its grid, and return those with the lowest cost, by the curve's name.

    Every trial starts from the same weights, seed 0, and takes one thread in one of `processes`; its row, of COLUMNS,
    is written when it is done, and skipped when it is there already. The cost is that of the last pass; one that
    diverges costs infinity.

    Raises:
        ArithmeticError: all settings of a curve diverge.
    """
    trials = [(curve, settings) for curve in curves for settings in curve.grid]
    todo = [(curve, settings) for curve, settings in trials if _key(task, curve, settings) not in table]
    with (
        tqdm(total=len(trials), initial=len(trials) - len(todo), unit=" trials", dynamic_ncols=True) as bar,
        same_threads_after(),
    ):
        for row in Parallel(n_jobs=processes, return_as="generator_unordered")(
            delayed(_try)(task, curve, settings) for curve, settings in todo
        ):
            table.add(row)
            bar.update()
    found = {row["curve"] + row["settings"]: row["cost"] for row in rows_of(table, task)}
    return {curve.name: _best(curve, found) for curve in curves}


def rows_of(table: Table, task: Task) -> list[Row]:
    """The rows of trials on this task; a table may hold those of shorter ones as well."""
    return [row for row in table if (row["epochs"], row["rows"]) == (task.epochs, len(task.train))]


def _try(task: Task, curve: Curve, settings: Settings) -> Row:
    threads.set_threads(1)
    began = time.perf_counter(), time.process_time()
    net, optimizer = task.start(curve, settings, seed=0)
    try:
        cost = train(net, optimizer, task.train.x, task.train.y, task.epochs, task.batch_size).history.rows[-1]["loss"]
    except DivergenceError:
        cost = math.inf
    spent = {"seconds": time.perf_counter() - began[0], "cpu_seconds": time.process_time() - began[1]}
    return _key(task, curve, settings) | {"cost": cost} | {name: round(value, 3) for name, value in spent.items()}


def _key(task: Task, curve: Curve, settings: Settings) -> Row:
    return {
        "curve": curve.name,
        "settings": json.dumps(settings),
        "epochs": task.epochs,
        "rows": len(task.train),
    }


def _best(curve: Curve, costs: dict[str, float]) -> Settings:
    best = min(curve.grid, key=lambda settings: costs[curve.name + json.dumps(settings)])
    if math.isinf(costs[curve.name + json.dumps(best)]):
        raise ArithmeticError(f"search: all settings of {curve.name} diverge; widen its grid to smaller rates")
    return best

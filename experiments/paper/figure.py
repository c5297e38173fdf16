"""From a figure's curves to its CSV, picture and checks: what the scripts of figures 1 to 3 do alike."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from paper import curves as training
from paper import search as searching
from paper.checks import Check, conclude, holds
from paper.curves import Curve, Task, series, train_curves
from paper.digitised import Line, paper_curves
from paper.options import make_parser, parse, write_record
from paper.picture import Panel, draw
from paper.search import search
from paper.table import Table

Numbers = dict[str, np.ndarray]  # curve -> (seeds, epochs)


@dataclass(frozen=True)
class Figure:
    """What makes a figure.

    Attributes:
        script: the name of its file without .py. description: that file's docstring.
        curves: its lines.
        make_tasks: arguments of the command line -> the task of the search, and that of the curves.
        check: costs and test accuracies -> the checks of the full setting. check_short: of the short one.
        draw: writes the picture: path, costs.
        more: lines of the full setting alone. What has one setting is not searched for.
        check_measures: what the curves measure, by its name -> more checks of the full setting.
    """

    script: str
    description: str | None
    curves: Sequence[Curve]
    make_tasks: Callable[[argparse.Namespace], tuple[Task, Task]]
    check: Callable[[Numbers, Numbers], list[Check]]
    check_short: Callable[[Numbers, Numbers], list[Check]]
    draw: Callable[[Path, Numbers], None]
    more: Sequence[Curve] = ()
    check_measures: Callable[[dict[str, Numbers]], list[Check]] | None = None

    def main(self, arguments: list[str] | None = None) -> int:
        """Search, train, draw and check; returns the exit status."""
        parser = make_parser(self.script, self.description)
        every = [curve.name for curve in (*self.curves, *self.more)]
        parser.add_argument(
            "--curves", nargs="+", choices=every, metavar="NAME", help=f"train these alone and stop there; of: {every}"
        )
        args = parse(parser, arguments)
        trial, task = self.make_tasks(args)
        curves = [*self.curves, *(self.more if args.mode == "full" else ())]
        names = [curve.name for curve in curves]
        if foreign := [name for name in args.curves or () if name not in names]:
            parser.error(f"argument --curves: expected some of {names} for --{args.mode}, got {foreign}")
        wanted = [curve for curve in curves if curve.name in (args.curves or names)]
        chosen = self.choose(wanted, trial, args)
        table = Table(args.out / f"{self.script}.csv", training.COLUMNS, training.KEY)
        train_curves(task, wanted, chosen, args.seed, table, args.threads)
        if args.curves:
            print(f"trained: {', '.join(args.curves)}; without --curves all are drawn and checked", file=sys.stderr)
            return 0
        costs, accuracies = (
            {name: found[name] for name in names}  # in this order in legends and checks
            for found in (series(table, column, task.epochs) for column in ("cost", "test_accuracy"))
        )
        searched = self.searched(args)
        write_record(args, self.script, [*table, *searched], epochs=task.epochs, settings=chosen)
        self.draw(args.out / f"{self.script}.png", costs)
        check = {"full": self.check, "short": self.check_short, "smoke": check_smoke}[args.mode]
        checks = check(costs, accuracies)
        if self.check_measures and args.mode == "full":
            measures = training.measured(args.out, curves)
            found = {name: series(measures, name, task.epochs + 1) for name in measures.columns[len(training.KEY) :]}
            checks += self.check_measures(found)
        return conclude(checks, args.out)

    def choose(self, curves: Sequence[Curve], trial: Task, args: argparse.Namespace) -> dict[str, searching.Settings]:
        """Find the settings of these curves, in processes of one thread each; --smoke tries two."""
        smoke = args.mode == "smoke"
        grids = [replace(curve, grid=curve.grid[:2]) if smoke else curve for curve in curves if len(curve.grid) > 1]
        given = {curve.name: curve.grid[0] for curve in curves if len(curve.grid) == 1}
        return given | search(trial, grids, self.searched(args), processes=1 if smoke else args.threads)

    def searched(self, args: argparse.Namespace) -> Table:
        """The table of the search."""
        return Table(args.out / "search.csv", searching.COLUMNS, searching.KEY)


def check_smoke(costs: Numbers, accuracies: Numbers) -> list[Check]:
    """All that a few steps can show: everything is a number, and costs fall."""
    return [
        holds(
            f"{name}: cost falls",
            bool((cost[:, -1] < cost[:, 0]).all() and np.isfinite(accuracies[name]).all()),
            f"{cost[0, 0]:.4g} to {cost[0, -1]:.4g}",
        )
        for name, cost in costs.items()
    ]


def one_panel(figure: str, title: str, **axes: Any) -> Callable[[Path, Numbers], None]:
    """Make what draws all curves over those of a figure of the paper: `figure` as paper_curves, `axes` as Panel."""

    def picture(path: Path, costs: Numbers) -> None:
        draw(path, title, [Panel(lines(costs), paper_curves(figure), {"xlabel": "epoch"} | axes)], width=8)

    return picture


def lines(costs: Numbers) -> dict[str, list[Line]]:
    """The costs of each curve as lines over the epoch, one of each seed."""
    return {name: [(np.arange(len(cost)), cost) for cost in seeds] for name, seeds in costs.items()}

"""A claim: what the paper says, the runs that give numbers for it, and the checks of those numbers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from paper.checks import Check
from paper.table import Table
from tqdm import tqdm

COLUMNS = ("claim", "setting", "seed", "number", "seconds", "cpu_seconds")
KEY = ("claim", "setting", "seed")

Numbers = Mapping[str, Sequence[float]]  # setting -> one number of each seed


@dataclass(frozen=True)
class Run:
    """What the command line asked for: "smoke", "short" or "full"; a seed; the mirror of the data, if any."""

    mode: str = "full"
    seed: int = 0
    data_dir: str | None = None

    def pick(self, smoke: int, short: int, full: int) -> int:
        """A size by the mode."""
        return {"smoke": smoke, "short": short, "full": full}[self.mode]


@dataclass(frozen=True)
class Task:
    """What is run in one go, and started anew when it was interrupted.

    Attributes:
        settings: a name for each number.
        measure: yields the numbers, in the order of the settings.
    """

    settings: tuple[str, ...]
    measure: Callable[[], Iterable[float]]


@dataclass(frozen=True)
class Claim:
    """One statement of the paper.

    Attributes:
        name: as it stands in the table.
        tasks: run -> what to measure.
        check: (setting -> numbers, mode) -> checks.
    """

    name: str
    tasks: Callable[[Run], list[Task]]
    check: Callable[[Numbers, str], list[Check]]


def measure(table: Table, claims: Sequence[Claim], runs: Sequence[Run]) -> None:
    """Run what the table has no rows of, with a bar that says how long the rest will take."""
    todo = [(claim, run, task) for claim in claims for run in runs for task in claim.tasks(run)]
    with tqdm(todo, unit="task", dynamic_ncols=True) as bar:
        for claim, run, task in bar:
            bar.set_postfix_str(claim.name)
            rows = [{"claim": claim.name, "setting": setting, "seed": run.seed} for setting in task.settings]
            if not all(row in table for row in rows):
                for row, measured in zip(rows, timed(task.measure), strict=True):
                    table.add(row | measured)


def timed(measured: Callable[[], Iterable[float]]) -> Iterator[dict[str, float]]:
    """Each number of a task, and the time since the one before: of the clock, and of all cores."""
    began, cpu_began = time.perf_counter(), time.process_time()
    for number in measured():
        now, cpu_now = time.perf_counter(), time.process_time()
        yield {
            "number": float(f"{number:.8g}"),
            "seconds": round(now - began, 4),
            "cpu_seconds": round(cpu_now - cpu_began, 4),
        }
        began, cpu_began = time.perf_counter(), time.process_time()


def numbers_of(table: Iterable[Mapping], name: str) -> dict[str, list[float]]:
    """Setting -> one number of each seed, of one claim."""
    found: dict[str, list[float]] = {}
    for row in table:
        if row["claim"] == name:
            found.setdefault(row["setting"], []).append(float(row["number"]))
    return found

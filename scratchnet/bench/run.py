"""One run of the bench: the machine and its limits first, then what was asked for, line by line as it is measured."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba

from scratchnet import threads
from scratchnet.arrays import check_number
from scratchnet.bench import report
from scratchnet.bench.cases import all_cases
from scratchnet.bench.ladder import Ladder, climb, problems
from scratchnet.bench.limits import Limits
from scratchnet.bench.operations import Row, time_case
from scratchnet.bench.steps import NETS, StepTimes, time_steps
from scratchnet.doctor import examine
from scratchnet.kernels.jit import count_kept

# Folders of one user: no part of a result that is shown around.
PLACES = ("kernel cache", "data cache", "SCRATCHNET_DATA")
KINDS = {
    "operations": lambda: [case.name for case in all_cases()],
    "ladder": lambda: [problem.name for problem in problems()],
    "steps": lambda: [net.name for net in NETS],
}


@dataclasses.dataclass
class Bench:
    """What is to be measured, and then what was.

    Args:
        kinds: of "operations", "ladder" and "steps".
        wanted: says of a name whether to measure it.
        seconds: for each measurement, > 0.

    Raises:
        ValueError: nothing is wanted, seconds is out of range, or kernels are not compiled here.
    """

    kinds: list[str]
    wanted: Callable[[str], bool]
    seconds: float = 0.1
    machine: dict[str, Any] = dataclasses.field(default_factory=dict)
    rows: list[Row] = dataclasses.field(default_factory=list)
    ladders: list[Ladder] = dataclasses.field(default_factory=list)
    steps: list[StepTimes] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        check_number("--seconds", self.seconds, 0, include_low=False)
        if numba.config.DISABLE_JIT:
            raise ValueError("bench: kernels run as plain Python here; unset NUMBA_DISABLE_JIT")
        names = [name for kind in self.kinds for name in KINDS[kind]()]
        if not any(map(self.wanted, names)):
            raise ValueError(f"--only: expected a part of a name, or a pattern with *, among: {'; '.join(names)}")

    def lines(self) -> Iterator[str]:
        """Measure, and yield the tables line by line."""
        self.threads, began, before = threads.get_threads(), time.perf_counter(), report.load()
        self.kept = count_kept()
        threads.set_threads(self.threads)  # NumPy's BLAS, too
        facts = dict(examine())
        public = {name: fact for name, fact in facts.items() if name not in PLACES}
        self.machine = {**public, "cores": os.cpu_count(), "threads": self.threads, "load_average": before}
        self.limits = Limits(self.threads, self.seconds)
        with threads.LOCK:  # no other Python thread launches a kernel meanwhile
            yield from report.header(facts, self.limits, before)
            for kind in self.kinds:
                yield ""
                yield from {"operations": self._operations, "ladder": self._ladder, "steps": self._steps}[kind]()
        yield f"Measured in {time.perf_counter() - began:.0f} s."

    def results(self) -> dict[str, Any]:
        """All that was measured, fit for JSON."""
        return report.to_json(self.machine, self.limits, self.rows, self.ladders, self.steps)

    def plot(self, path: str | Path) -> None:
        """Draw the roofline of the operations."""
        from scratchnet.plots import Point, plot_roofline

        points = []
        for i, row in enumerate(self.rows, start=1):
            intensity, rate = row.flops / row.bytes, row.flops / row.all.median
            points.append(Point(i, f"{row.operation} {row.size}", intensity, rate, row.bound == "compute"))
        memory, cache = (self.limits.bandwidth(size, self.threads) for size in (report.IN_MEMORY, report.IN_CACHE))
        title = (
            f"{self.machine['processor'].split(';')[0]}; scratchnet on {report.count_threads(self.threads)}, float32"
        )
        plot_roofline(path, points, self.limits.peak[self.threads], memory, cache, title)

    def _operations(self) -> Iterator[str]:
        yield from report.operations_head(self.threads)
        for case in all_cases():
            if self.wanted(case.name):
                self.rows.append(time_case(case, self.limits, self.seconds))
                yield report.operations_line(len(self.rows), self.rows[-1])
        compiled = None if self.kept is None else (count_kept() or 0) - self.kept
        yield from report.operations_notes(self.rows, self.limits, compiled)

    def _ladder(self) -> Iterator[str]:
        for ladder in climb(self.limits, self.seconds, self.wanted):
            self.ladders.append(ladder)
            yield from report.ladder_lines(ladder)

    def _steps(self) -> Iterator[str]:
        for step in time_steps(self.threads, self.seconds, self.wanted):
            self.steps.append(step)
            yield from report.steps_lines(step, self.threads)

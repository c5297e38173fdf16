"""How a time is taken here, so that two times can be compared.

What is compared is measured in turns, so that a neighbour who wakes up disturbs all of it and not one. Each variant
runs for a share of its time, then the next one does, and so on, round by round. A turn begins without the clock: one
call to warm the caches, and for a parallel variant as many as SETTLE takes. For when only one thread has run for a
while, or the threads of another pool have, the system may wake ours on one core, and takes its time to part them: on a
virtual machine a product on 2 threads was no faster than on 1 for up to 100 ms, and 1.9 times as fast from then on.
A time is the median of its calls; the quartiles say how far to trust it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from scratchnet import threads

ROUNDS = 3
SETTLE = 0.15  # seconds
LEAST = 3  # calls of a variant, however long one takes


class Timing(NamedTuple):
    """Seconds per call: the median, the quartiles, the shortest; and the number of calls."""

    median: float
    lower: float
    upper: float
    best: float
    repetitions: int

    @property
    def spread(self) -> float:
        """The distance of the quartiles, as a share of the median."""
        return (self.upper - self.lower) / self.median


class Variant(NamedTuple):
    """What is timed, the number of threads it runs on, and what is to be called after each call that counts."""

    run: Callable[[], object]
    threads: int
    counted: Callable[[], object] = lambda: None


def first_call(variant: Variant) -> float:
    """Seconds of a call that may have to compile, or to load what was compiled."""
    threads.set_threads(variant.threads)
    return _clock(variant.run)


def measure(variants: Mapping[str, Variant], seconds: float) -> dict[str, Timing]:
    """Time variants in turns.

    Args:
        variants: name -> what to run; each has been called before, so that nothing is left to compile.
        seconds: to spend on each variant, about; a long call takes what it needs.

    Returns:
        name -> Timing.
    """
    times: dict[str, list[float]] = {name: [] for name in variants}
    waiting, before = dict(variants), threads.get_threads()
    while waiting:
        for name, variant in tuple(waiting.items()):
            threads.set_threads(variant.threads)
            _run_a_turn(variant, times[name], seconds / ROUNDS)
            if sum(times[name]) >= seconds and len(times[name]) >= LEAST:
                del waiting[name]
    threads.set_threads(before)
    return {name: _summary(taken) for name, taken in times.items()}


def _run_a_turn(variant: Variant, times: list[float], seconds: float) -> None:
    """Add the times of one turn; a call that is longer than the turn and its warm-up is its own warm-up."""
    settle = SETTLE if variant.threads > 1 else 0.0
    if not times or times[-1] < max(settle, seconds):
        spent = _clock(variant.run)
        while spent < settle:
            spent += _clock(variant.run)
    spent = 0.0
    while spent < seconds:
        times.append(_clock(variant.run))
        variant.counted()
        spent += times[-1]


def _clock(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def _summary(times: list[float]) -> Timing:
    lower, median, upper = statistics.quantiles(times, n=4, method="inclusive")
    return Timing(median, lower, upper, min(times), len(times))

"""Tables and files of what was measured: plain text within 120 columns, and JSON."""

from __future__ import annotations

import os
import statistics
import textwrap
from collections.abc import Iterator
from typing import Any

from scratchnet.bench.ladder import Ladder
from scratchnet.bench.limits import Limits
from scratchnet.bench.operations import Row
from scratchnet.bench.steps import StepTimes
from scratchnet.bench.timing import Timing

WIDTH = 120
IN_CACHE, IN_MEMORY = 1 << 19, 1 << 28  # bytes of the copies that stand for the two
DISTURBED = 0.2  # spread of the row in the middle
BUSY = 0.5  # processes per core that want to run before we start
FACTS = ("python", "packages", "processor", "tile", "convolutions", "NumPy's BLAS", "thread layer", "wait policy")


def load() -> float | None:
    """Processes that wanted to run in the last minute, where the system tells."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def header(facts: dict[str, str], limits: Limits, before: float | None) -> Iterator[str]:
    """What the figures below were measured on, and the machine's own limits."""
    for name in FACTS:
        yield from textwrap.wrap(f"{name:<14} {facts[name]}", WIDTH, subsequent_indent=" " * 15)
    cores = os.cpu_count() or 1
    verdict = "unknown here" if before is None else f"{before:.1f} on {cores} cores"
    if before is not None:
        verdict += ", busy: do not trust these times" if before > BUSY * cores else ", quiet"
    yield f"{'load average':<14} {verdict}"
    counts = sorted(limits.peak)
    peaks = ", ".join(f"{limits.peak[n] / 1e9:.0f} GFLOP/s on {count_threads(n)}" for n in counts)
    yield f"{'peak':<14} {peaks}: multiply-adds on registers, float32"
    for size, place in ((IN_CACHE, "512 KiB"), (IN_MEMORY, "256 MiB")):
        copies = ", ".join(f"{limits.bandwidth(size, n) / 1e9:.0f} GB/s on {count_threads(n)}" for n in counts)
        yield f"{'copy, ' + place:<14} {copies}"


# --- operations --------------------------------------------------------------------------------------------------


def operations_head(threads: int) -> Iterator[str]:
    """The column titles of `operations_line`."""
    yield f"{'':<52}{'counted':>11} {'milliseconds':>20}{'':>6}{'speed-up':>12}{'':>9}{'% limit':>8}"
    yield (
        f"{'':>3} {_name('operation', 'size'):<48}{'MB':>5}{'Mflop':>6}{'NumPy':>7}{'1 thr':>7}{f'{threads} thr':>7}"
        f"{'spread':>7}{'1':>5}{threads:>6}{'rate':>9}{'1':>4}{threads:>4}"
    )
    yield "-" * WIDTH


def operations_line(number: int, row: Row) -> str:
    """One row; a percentage above 100 gets a star, which `operations_notes` explains."""
    rate = row.rate / 1e9
    rated = f"{rate:.{0 if rate >= 10 else 1}f} {'GF/s' if row.bound == 'compute' else 'GB/s'}"
    star = "*" if max(row.percent_one, row.percent_all) > 100 else ""
    first, second = row.reference.median / row.one.median, row.one.median / row.all.median
    return (
        f"{number:>3} {_name(row.operation, row.size):<48}{_short(row.bytes / 1e6):>5}{_short(row.flops / 1e6):>6}"
        f"{_ms(row.reference):>7}{_ms(row.one):>7}{_ms(row.all):>7}{row.all.spread:>6.0%}{_short(first):>5}x"
        f"{_short(second):>5}x{rated:>9}{row.percent_one:>4.0f}{row.percent_all:>4.0f}{star}"
    )


def _name(operation: str, size: str) -> str:
    """Two columns in one: a long operation takes room of a short size."""
    return f"{operation:<24} {size}"


def operations_notes(rows: list[Row], limits: Limits, compiled: int | None) -> Iterator[str]:
    """How to read the table; so many functions were compiled for it, all of them where None can be kept."""
    spread, first = statistics.median(row.all.spread for row in rows), sum(row.first for row in rows)
    slowest, threads = max(rows, key=lambda row: row.first), count_threads(limits.threads)
    trust = "" if spread < DISTURBED else ": the machine was disturbed, do not trust these times"
    yield "-" * WIDTH
    yield from textwrap.wrap(
        f"Medians. NumPy: reference/, which is written to be read; its BLAS was told to use {threads}. Spread: the "
        f"distance of the quartiles on {threads}, {spread:.0%} in the middle{trust}. Speed-up: from NumPy to one "
        f"thread, from one to {threads}. Counted: what no method can do without, each array read or written once. "
        "Limit: multiply-adds at the peak, or as many bytes moved: copied, or changed where they lie by what does so; "
        "whichever takes longer, and the rate is of that one.",
        WIDTH,
    )
    over = [row for row in rows if max(row.percent_one, row.percent_all) > 100]
    if any(row.bound == "compute" for row in over):
        yield from textwrap.wrap(
            "* computing: convolutions by Winograd's transforms do fewer multiplications than are counted; any other "
            "row above 100 says that the machine was disturbed while its peak was measured.",
            WIDTH,
        )
    if any(row.bound == "memory" for row in over):
        yield from textwrap.wrap(
            "* moving: faster than the limit's loop over as many bytes, half of which it writes: what is mostly read "
            "moves less. Or the machine was disturbed while that was measured.",
            WIDTH,
        )
    yield (
        f"First calls, not in the times: {first:.1f} s together, {slowest.first:.2f} s for {slowest.operation}; "
        f"{'all' if compiled is None else compiled} functions were compiled now."
    )


# --- the ladder and steps ----------------------------------------------------------------------------------------


def ladder_lines(ladder: Ladder) -> Iterator[str]:
    """One ladder as a table."""
    yield f"{ladder.problem}: {ladder.flops / 1e6:.0f} Mflop"
    titles = f"{'threads':>7} {'ms':>12} {'spread':>7} {'GFLOP/s':>9} {'step':>8} {'in all':>10} {'% of peak':>10}"
    yield f"  {'':<46} {titles}"
    before = first = ladder.rungs[0].seconds
    for rung in ladder.rungs:
        rate, star = ladder.flops / rung.seconds / 1e9, "*" if rung.percent > 100 else ""
        yield (
            f"  {rung.name:<46} {rung.threads:>7} {_number(1e3 * rung.seconds):>12} {rung.timing.spread:>7.0%} "
            f"{_number(rate):>9} {_short(before / rung.seconds):>7}x {first / rung.seconds:>9,.0f}x "
            f"{rung.percent:>8.2g}%{star}"
        )
        before = rung.seconds
    if any(rung.percent > 100 for rung in ladder.rungs):
        yield "  * Winograd does fewer multiplications than are counted; else the machine was disturbed at its peak."


def steps_lines(step: StepTimes, threads: int) -> Iterator[str]:
    """One net's step as a table."""
    yield (
        f"{step.net}: NumPy {_ms(step.reference)} ms, 1 thread {_ms(step.one)} ms, {count_threads(threads)} "
        f"{_ms(step.all)} ms (spread {step.all.spread:.0%}); first calls {step.first:.1f} s"
    )
    yield f"  {'':<48} {'forward ms':>12} {'%':>5} {'backward ms':>12} {'%':>5}"
    rows = [*step.parts, ("loss and its gradient", step.loss, None), ("Adam", None, step.optimizer)]
    for name, *times in rows:
        cells = [f"{1e3 * t:>12.3f} {100 * t / step.total:>5.1f}" if t is not None else " " * 18 for t in times]
        yield f"  {name:<48} {' '.join(cells)}".rstrip()


# --- files -------------------------------------------------------------------------------------------------------


def to_json(
    machine: dict[str, Any], limits: Limits, rows: list[Row], ladders: list[Ladder], steps: list[StepTimes]
) -> Any:
    """Everything measured, fit for json.dump: times in seconds, rates per second."""
    return {
        "machine": machine,
        "limits": {
            "peak_flops": {str(n): peak for n, peak in limits.peak.items()},
            **{f"{kind}_bytes_per_second": _texts(known) for kind, known in limits.moves().items()},
        },
        "operations": [_plain(row) for row in rows],
        "ladders": [_plain(ladder) for ladder in ladders],
        "steps": [_plain(step) for step in steps],
    }


def _texts(rates: list[tuple[int, dict[int, float]]]) -> dict[str, dict[str, float]]:
    """Keys as JSON has them."""
    return {str(size): {str(n): rate for n, rate in known.items()} for size, known in rates}


def _plain(value: Any) -> Any:
    """Named tuples as dictionaries, whatever they hold."""
    if hasattr(value, "_asdict"):
        return {name: _plain(item) for name, item in value._asdict().items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def count_threads(count: int) -> str:
    """1 -> "1 thread"."""
    return "1 thread" if count == 1 else f"{count} threads"


def _ms(timing: Timing) -> str:
    return _number(1e3 * timing.median)


def _number(value: float) -> str:
    """Two digits or more, in six places: 0.0012, 0.0123, 1.23, 123, 12,345."""
    if value < 0.1:
        return f"{value:.{2 if value < 0.01 else 3}g}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.{1 if value >= 10 else 2}f}"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"

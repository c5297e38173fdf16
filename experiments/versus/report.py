"""From what the race measured to a text for the screen, a CSV, a JSON and a markdown table."""

from __future__ import annotations

import csv
import io
import json
import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from machine import cpu_model

from scratchnet.files import write_whole
from versus.nets import NETS, Net
from versus.race import Entry, Settings

STATEMENT = (
    "A step is forward, loss, backward and Adam, from a float batch that lies ready. One process per framework, all on "
    "the same cores, driven in turn; every block of steps begins at the same weights."
)
LEGEND = (
    "A ratio below 1 means that scratchnet is faster; goals were set before anything was measured. Memory is what "
    "training adds to a process in which the batches lie ready. The first step is ours, with empty and with filled "
    "caches of compiled kernels."
)


STATES = ("cold", "warm")  # of the caches, before a first step


@dataclass(frozen=True)
class Verdict:
    """scratchnet against the fastest peer: ratios of medians and of minima, quartiles of the ratio over the rounds."""

    peer: str
    ratio: float
    low: float
    high: float
    ratio_of_minima: float

    def met(self, net: Net) -> str:
        """Which target the ratio reaches."""
        return "stretch" if self.ratio <= net.stretch else "yes" if self.ratio <= net.target else "no"


def judge(entries: list[Entry]) -> Verdict | None:
    """Compare the first entry with the best of the others; None where no other was timed."""
    ours, peers = entries[0], [entry for entry in entries[1:] if entry.counts]
    if not peers or not ours.counts:
        return None
    best = min(peers, key=lambda entry: np.median(entry.all_times()))
    mine, other = ours.all_times(), best.all_times()
    per_round = [np.median(a) / np.median(b) for a, b in zip(ours.times, best.times)]
    low, high = np.percentile(per_round, [25, 75])
    return Verdict(best.name, np.median(mine) / np.median(other), low, high, mine.min() / other.min())


def show(net: Net, entries: list[Entry], source: str) -> str:
    """A block of text for one net."""
    lines = [
        f"\n{net.name}  (batch {net.batch}, {source})",
        f"  {'framework':<21}{'median':>9}{'quartiles':>20}{'min':>9}{'ours / its':>12}{'steps':>7}{'peak':>9}"
        f"{'import':>8}{'first step cold/warm':>22}  losses within  run as",
    ]
    mine = float(np.median(entries[0].all_times())) if entries[0].counts else float("nan")
    lines += [_line(entry, mine) if entry.counts else f"  {entry.name:<21}{entry.note}" for entry in entries]
    verdict = judge(entries)
    if verdict is None:
        lines.append("  no peer to compare with")
    else:
        lines.append(
            f"  scratchnet / {verdict.peer}: {verdict.ratio:.3f} (rounds {verdict.low:.3f} - {verdict.high:.3f}), of "
            f"the minima {verdict.ratio_of_minima:.3f}; target {net.target}, stretch {net.stretch}: {verdict.met(net)}"
        )
    return "\n".join(lines)


def _line(entry: Entry, mine: float) -> str:
    """A framework's line; `mine` is scratchnet's median."""
    times, unknown = entry.all_times(), float("nan")
    q1, q2, q3 = np.percentile(times, [25, 50, 75])
    peak, imported, cold, warm = (
        entry.start.get(key, unknown) for key in ("peak_mib", "import_s", "first_step_cold_s", "first_step_warm_s")
    )
    return (
        f"  {entry.name:<21}{q2:>9.4f}{f'{q1:.4f} - {q3:.4f}':>20}{times.min():>9.4f}{mine / q2:>12.3f}{len(times):>7}"
        f"{peak:>5.0f} MiB{imported:>6.2f} s{f'{cold:.2f} / {warm:.2f} s':>22}  {entry.deviation:<14.1e} {entry.policy}"
        f"  {entry.note}"
    )


def markdown(results: list[tuple[Net, list[Entry]]], settings: Settings) -> str:
    """The table for the README."""
    versions = dict.fromkeys(e.version for _, es in results for e in es if e.counts)
    machine = f"{cpu_model()}, {settings.threads} threads, Python {platform.python_version()}"
    timed = {e.name for _, es in results for e in es if e.counts}
    absent = [peer for peer in dict.fromkeys(peer for net, _ in results for peer in net.peers) if peer not in timed]
    left_out = f" Left out: {', '.join(absent)}." if absent else ""
    for net, entries in results:
        for entry in entries:
            if not entry.counts and entry.name in timed:
                left_out += f" Not timed on {net.name}: {entry.name}, {entry.note}."
    rows = [
        f"{machine}, {'; '.join(versions)}. {STATEMENT} {LEGEND}{left_out}",
        "",
        "| net, batch 128 | scratchnet, ms per step (quartiles) | best peer | ratio | goal | memory, MiB, ours / its "
        "| first step, s |",
        "|---|---|---|---|---|---|---|",
    ]
    for net, entries in results:
        verdict = judge(entries)
        if verdict is None:
            rows.append(f"| {net.title} | nobody to compare with | | | {net.target} | | |")
            continue
        best = next(entry for entry in entries if entry.name == verdict.peer)
        cells = []
        for entry in (entries[0], best):
            q1, q2, q3 = np.percentile(entry.all_times(), [25, 50, 75])
            cells.append(f"{q2:.3g} ({q1:.3g} - {q3:.3g})")
        memory = " / ".join(f"{entry.start.get('peak_mib', float('nan')):.0f}" for entry in (entries[0], best))
        first = " / ".join(f"{entries[0].start.get(f'first_step_{state}_s', float('nan')):.2g}" for state in STATES)
        rows.append(
            f"| {net.title} | {cells[0]} | {best.name} {cells[1]} | **{verdict.ratio:.2f}** | {net.target} | {memory} "
            f"| {first} |"
        )
    return "\n".join(rows) + "\n"


START, END = "<!-- race: written by experiments/versus_frameworks.py --readme -->\n", "<!-- end of race -->"


def insert(table: str, readme: Path) -> None:
    """Put the table where README.md says that it goes.

    Raises:
        ValueError: it is not of all nets.
    """
    if missing := [net.name for net in NETS.values() if f"| {net.title} |" not in table]:
        raise ValueError(f"expected a race of all nets, got one without {', '.join(missing)}")
    before, rest = readme.read_text().split(START)
    write_whole(readme, f"{before}{START}\n{table}\n{END}{rest.split(END)[1]}")


def write(folder: Path, results: list[tuple[Net, list[Entry]]], settings: Settings, sources: dict[str, str]) -> None:
    """Write versus.csv (a row per framework and net), versus.json (with machine and settings) and versus.md."""
    folder.mkdir(parents=True, exist_ok=True)
    records = [_record(net, entry) for net, entries in results for entry in entries]
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, records[0].keys())
    writer.writeheader()
    writer.writerows(records)
    write_whole(folder / "versus.csv", table.getvalue())
    facts = {
        "cpu": cpu_model(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "threads": settings.threads,
        "seconds_per_net": settings.seconds,
        "winograd": os.environ.get("SCRATCHNET_WINOGRAD", "on"),
        "date": time.strftime("%Y-%m-%d"),
        "load_average_before": settings.load,
        "smoke": settings.smoke,
        "statement": STATEMENT,
        "data": sources,
    }
    verdicts = {net.name: vars(verdict) for net, entries in results if (verdict := judge(entries))}
    content = {"settings": facts, "verdicts": verdicts, "entries": records}
    write_whole(folder / "versus.json", json.dumps(content, indent=1, default=float) + "\n")
    write_whole(folder / "versus.md", markdown(results, settings))


def _record(net: Net, entry: Entry) -> dict[str, object]:
    times = entry.all_times() if entry.counts else np.full(1, np.nan)
    q1, q2, q3 = np.percentile(times, [25, 50, 75])
    start = {
        key: entry.start.get(key, "") for key in ("import_s", "first_step_cold_s", "first_step_warm_s", "peak_mib")
    }
    return {
        "net": net.name,
        "framework": entry.name,
        "version": entry.version,
        "environment": entry.policy,
        "median_ms": q2,
        "q1_ms": q1,
        "q3_ms": q3,
        "min_ms": times.min(),
        "steps": len(times) if entry.counts else 0,
        "loss_deviation": entry.deviation,
        **start,
        "note": entry.note,
    }

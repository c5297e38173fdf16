"""How the time of a training step grows: with batch, width, image size, parameters and threads.

    python experiments/scaling.py        about 2 minutes; --short less

Writes scaling.csv and scaling.png. A power law, ms = c size^e, is fitted to each sweep by least squares of logarithms.
Exit status 1 if a check fails:

    no cliff     from one size to the next, time grows at most twice as much as the arithmetic does (the optimizer's
                 four times: past a size its arrays leave the cache, and memory is that much slower), and does not fall
    threads      on 2 threads a step takes at most 1 / (2 EFFICIENCY) of its time on one, for the MLP and the CNN

Rows that scaling.csv has already are not measured again: remove it to start anew.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import NamedTuple

import numpy as np
from paper.table import Table

import scratchnet as sn
from scratchnet.layers import Conv2d, Dense, Flatten, MaxPool2d, ReLU

CLIFF = {"batch": 2.0, "width": 2.0, "image": 2.0, "parameters": 4.0}  # by axis
FALL = 0.8  # of the time at the size before: what is less is no noise
EFFICIENCY = 0.85
BATCH = 128
ROUNDS = 8

Step = Callable[[], object]


class Made(NamedTuple):
    """A step that can be timed, the parameters it trains, and its arithmetic: multiply-adds of the forward pass."""

    step: Step
    parameters: int
    work: int


@dataclass(frozen=True)
class Row:
    """One measured point; `size` is the number on the sweep's axis, `threads` those it ran on."""

    model: str
    axis: str
    size: int
    threads: int
    parameters: int
    work: int
    steps: int
    q1_ms: float
    median_ms: float
    q3_ms: float


def train_step(net: sn.Sequential, batch: int) -> Made:
    """A training step on a drawn batch."""
    rng = np.random.default_rng(0)
    x = rng.random((batch, *net.input_shape), dtype=np.float32)
    y = rng.integers(0, 10, batch)
    adam = sn.Adam(net.params, lr=1e-6)  # hardly moves: the numbers stay as they are at the start of training

    def step() -> None:
        _, dlogits = sn.softmax_cross_entropy(net.forward(x, train=True), y)
        net.backward(dlogits)
        adam.step(net.grads)

    trained = [layer for layer in net.layers if isinstance(layer, (Dense, Conv2d))]
    work = batch * sum(layer.weight.size * math.prod(layer.output_shape[:-1]) for layer in trained)
    return Made(step, net.params.size, work)


def mlp(batch: int = BATCH, width: int = 512) -> Made:
    """784 - width - width - 10."""
    layers = [Dense(width), ReLU(), Dense(width), ReLU(), Dense(10)]
    return train_step(sn.Sequential(layers, (784,)), batch)


def cnn(batch: int = 64, width: int = 32, image: int = 28) -> Made:
    """Two 3x3 convolutions of width and 2 width channels, each with ReLU and 2x2 pooling, and a dense layer."""
    layers = []
    for channels in (width, 2 * width):
        layers += [Conv2d(channels, 3, padding="same"), ReLU(), MaxPool2d(2)]
    return train_step(sn.Sequential([*layers, Flatten(), Dense(10)], (image, image, 3)), batch)


def adam(parameters: int) -> Made:
    """The update alone."""
    rng = np.random.default_rng(0)
    params, grads = rng.standard_normal((2, parameters), dtype=np.float32)
    optimizer = sn.Adam(params)
    return Made(lambda: optimizer.step(grads), parameters, parameters)


MODELS: dict[str, Callable[..., Made]] = {"mlp": mlp, "cnn": cnn, "adam": adam}
SWEEPS: dict[tuple[str, str], list[int]] = {
    ("mlp", "batch"): [32, 64, 128, 256, 512, 1024],
    ("mlp", "width"): [128, 256, 512, 1024, 2048],
    ("cnn", "batch"): [8, 16, 32, 64, 128, 256],
    ("cnn", "width"): [8, 16, 32, 64, 128],
    ("cnn", "image"): [8, 12, 16, 24, 32, 48, 64],
    ("adam", "parameters"): [10**4, 3 * 10**4, 10**5, 3 * 10**5, 10**6, 3 * 10**6, 10**7],
}
THREADED = ("mlp", "cnn")


def time_steps(step: Step, seconds: float) -> list[float]:
    """Milliseconds of each step for so many seconds, three at least, after two that are not counted."""
    elapsed: list[float] = []
    end = time.perf_counter() + seconds
    while len(elapsed) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        step()
        elapsed.append((time.perf_counter() - start) * 1e3)
    return elapsed[2:]


def make_row(model: str, axis: str, size: int, threads: int, made: Made, times: list[float]) -> Row:
    """Sum up what was measured."""
    q1, q2, q3 = (round(float(q), 6) for q in np.percentile(times, [25, 50, 75]))
    return Row(model, axis, size, threads, made.parameters, made.work, len(times), q1, q2, q3)


def time_in_turns(steps: dict[int, Step], threads: dict[int, int], seconds: float) -> dict[int, list[float]]:
    """Milliseconds of each of several steps, by its size: a machine that slows down must not hit one of them alone."""
    times: dict[int, list[float]] = {size: [] for size in steps}
    for _ in range(ROUNDS):
        for size, step in steps.items():
            sn.threads.set_threads(threads[size])
            times[size] += time_steps(step, seconds / ROUNDS)
    return times


def sweep(model: str, axis: str, sizes: list[int], seconds: float, threads: int) -> list[Row]:
    """Measure a model at several sizes, all others as they are by default."""
    made = {size: MODELS[model](**{axis: size}) for size in sizes}
    times = time_in_turns({size: made[size].step for size in sizes}, dict.fromkeys(sizes, threads), seconds)
    return [make_row(model, axis, size, threads, made[size], times[size]) for size in sizes]


def sweep_threads(model: str, counts: list[int], seconds: float) -> list[Row]:
    """Measure a model on several numbers of threads."""
    made = MODELS[model]()
    times = time_in_turns(dict.fromkeys(counts, made.step), dict(zip(counts, counts)), seconds)
    return [make_row(model, "threads", count, count, made, times[count]) for count in counts]


def fit(rows: list[Row]) -> tuple[float, float]:
    """(c, e) of median_ms = c size^e."""
    logs = np.log([[row.size, row.median_ms] for row in rows])
    exponent, constant = np.polyfit(logs[:, 0], logs[:, 1], 1)
    return float(np.exp(constant)), float(exponent)


def steepest(rows: list[Row]) -> tuple[float, float]:
    """From one size to the next: the most that time grows by beside the arithmetic, and the least by itself."""
    pairs = list(itertools.pairwise(sorted(rows, key=lambda row: row.size)))
    growth = [b.median_ms / a.median_ms for a, b in pairs]
    return max(g * a.work / b.work for g, (a, b) in zip(growth, pairs)), min(growth)


def efficiency(rows: list[Row], count: int) -> float:
    """t(1) / (count t(count))."""
    medians = {row.threads: row.median_ms for row in rows}
    return medians[1] / (count * medians[count])


def check(rows: list[Row]) -> list[tuple[str, bool]]:
    """Each check in words, and whether it holds."""
    found = []
    for model, axis, group in groups(rows):
        if axis == "threads":
            if {1, 2} <= {row.threads for row in group}:
                share = efficiency(group, 2)
                text = f"{model}: parallel efficiency on 2 threads {share:.2f}, at least {EFFICIENCY}"
                found.append((text, share >= EFFICIENCY))
        elif len(group) > 1:
            most, least = steepest(group)
            text = (
                f"{model}: ms ~ {axis}^{fit(group)[1]:.2f}; to the next size time / arithmetic grows by at most "
                f"{most:.2f} (limit {CLIFF[axis]}), time by at least {least:.2f} (limit {FALL})"
            )
            found.append((text, most <= CLIFF[axis] and least >= FALL))
    return found


def groups(rows: list[Row]) -> list[tuple[str, str, list[Row]]]:
    """The rows of each sweep."""
    keys = dict.fromkeys((row.model, row.axis) for row in rows)
    return [(*key, [row for row in rows if (row.model, row.axis) == key]) for key in keys]


def read(path: Path) -> list[Row]:
    """The rows of an earlier run."""
    return [Row(**row) for row in table(path)]


def append(path: Path, rows: list[Row]) -> None:
    """Add rows, so that a run that is stopped can go on."""
    known = table(path)
    for row in rows:
        known.add(asdict(row))


def table(path: Path) -> Table:
    """The file of rows."""
    return Table(path, [field.name for field in fields(Row)], ("model", "axis", "size", "threads"))


def short(number: int) -> str:
    """30000 -> "30k"."""
    for unit, letter in ((10**6, "M"), (10**3, "k")):
        if number >= unit and number % unit == 0:
            return f"{number // unit}{letter}"
    return str(number)


def plot(path: Path, rows: list[Row]) -> None:
    """Draw each sweep with its fit, and the speed-up by threads."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator

    sweeps = [group for group in groups(rows) if group[1] != "threads"]
    figure = Figure(figsize=(15, 7), layout="constrained")
    FigureCanvasAgg(figure)  # draws without a screen
    axes = figure.subplots(2, 4)
    for (model, axis, group), panel in zip(sweeps, axes.flat):
        group = sorted(group, key=lambda row: row.size)
        sizes, medians = np.array([row.size for row in group]), np.array([row.median_ms for row in group])
        spread = np.abs(np.array([[row.q1_ms, row.q3_ms] for row in group]).T - medians)
        panel.errorbar(sizes, medians, spread, fmt="o", capsize=3, label="median, quartiles")
        if len(group) > 1:
            constant, exponent = fit(group)
            fitted = constant * sizes.astype(float) ** exponent
            panel.plot(sizes, fitted, color="0.5", label=f"fit: exponent {exponent:.2f}")
        panel.set(xscale="log", yscale="log", xlabel=axis, ylabel="ms per step", title=f"{model}: {axis}")
        panel.set_xticks(sizes, [short(size) for size in sizes])
        panel.xaxis.set_minor_locator(NullLocator())
        panel.legend()
    panel = axes.flat[len(sweeps)]
    for model, axis, group in groups(rows):
        if axis == "threads":
            counts = [row.threads for row in group]
            panel.plot(counts, [efficiency(group, n) * n for n in counts], "o-", label=model)
            panel.plot(counts, counts, color="0.5", lw=1, zorder=0)
            panel.set_xticks(counts)
    panel.set(xlabel="threads", ylabel="speed-up over one thread", title="threads (grey: ideal)")
    panel.legend()
    for empty in axes.flat[len(sweeps) + 1 :]:
        empty.set_axis_off()
    figure.savefig(path, dpi=110)


def measure(path: Path, seconds: float, threads_max: int, smoke: bool) -> list[Row]:
    """Measure what is not in the CSV yet; returns all rows."""
    there = read(path)
    done = {(row.model, row.axis, row.size) for row in there if row.axis == "threads" or row.threads == threads_max}
    for (model, axis), sizes in SWEEPS.items():
        missing = [size for size in (sizes[:2] if smoke else sizes) if (model, axis, size) not in done]
        append(path, sweep(model, axis, missing, seconds, threads_max))
    counts = [n for n in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32) if n <= threads_max]
    for model in THREADED:
        if not all((model, "threads", n) in done for n in counts):
            append(path, sweep_threads(model, counts, 4 * seconds))
    return [row for row in read(path) if row.threads in (counts if row.axis == "threads" else [threads_max])]


def main(arguments: list[str] | None = None) -> int:
    """Measure, fit, draw and check; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder of what is written (default: runs/scaling-MODE)")
    most = sn.threads.available_threads()
    parser.add_argument("--threads-max", type=int, default=most, help="threads of the sweeps (default: all)")
    parser.add_argument("--short", action="store_true", help="a quarter of the time for each point")
    parser.add_argument("--smoke", action="store_true", help="two sizes of each sweep, nothing judged")
    args = parser.parse_args(arguments)
    if not 1 <= args.threads_max <= most:
        parser.error(f"--threads-max: expected 1 to {most}, got {args.threads_max}")
    args.out = args.out or Path("runs", f"scaling-{'smoke' if args.smoke else 'short' if args.short else 'full'}")
    args.out.mkdir(parents=True, exist_ok=True)
    seconds = 0.02 if args.smoke else 0.5 if args.short else 2.0
    rows = measure(args.out / "scaling.csv", seconds, args.threads_max, args.smoke)
    for row in rows:
        print(f"{row.model:<5}{row.axis:<11}{row.size:>9}  {row.threads} threads  {row.median_ms:10.4f} ms")
    try:
        plot(args.out / "scaling.png", rows)
    except ImportError:
        print("scaling.png is left out: matplotlib is not installed (pip install 'scratchnet[plot]')")
    results = check(rows)
    for text, held in results:
        print(f"{'ok  ' if held else 'FAIL'}  {text}")
    return int(not args.smoke and not all(held for _, held in results))


if __name__ == "__main__":
    sys.exit(main())

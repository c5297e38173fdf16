"""How the time of a training step grows: with batch, width, image size, parameters and threads.

    python experiments/scaling.py --out experiments/results/scaling        about 4 minutes; --short about 1

Writes scaling.csv and scaling.png. A power law, ms = c size^e, is fitted to each sweep by least squares of logarithms.
Exit status 1 if a check fails:

    no cliff     from one size to the next, time grows by what the fit says, up to a factor either way: 2, and for the
                 optimizer's arrays 4, because past a size they leave the cache, and memory is that much slower
    threads      on 2 threads a step takes at most 1 / (2 EFFICIENCY) of its time on one, for the MLP and the CNN

Rows that scaling.csv has already are not measured again: remove it to start anew.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

import scratchnet as sn
from scratchnet.layers import Conv2d, Dense, Flatten, MaxPool2d, ReLU

CLIFF = {"batch": 2.0, "width": 2.0, "image": 2.0, "parameters": 4.0}  # by axis
EFFICIENCY = 0.85
BATCH = 128

Step = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """One measured point; `size` is the number on the sweep's axis, `threads` those it ran on."""

    model: str
    axis: str
    size: int
    threads: int
    parameters: int
    steps: int
    q1_ms: float
    median_ms: float
    q3_ms: float


def train_step(net: sn.Sequential, batch: int) -> tuple[Step, int]:
    """A training step on a drawn batch, and the number of parameters."""
    rng = np.random.default_rng(0)
    x = rng.random((batch, *net.input_shape), dtype=np.float32)
    y = rng.integers(0, 10, batch)
    adam = sn.Adam(net.params, lr=1e-6)  # hardly moves: the numbers stay as they are at the start of training

    def step() -> None:
        _, dlogits = sn.softmax_cross_entropy(net.forward(x, train=True), y)
        net.backward(dlogits)
        adam.step(net.grads)

    return step, net.params.size


def mlp(batch: int = BATCH, width: int = 512) -> tuple[Step, int]:
    """784 - width - width - 10."""
    layers = [Dense(width), ReLU(), Dense(width), ReLU(), Dense(10)]
    return train_step(sn.Sequential(layers, (784,)), batch)


def cnn(batch: int = 64, width: int = 32, image: int = 28) -> tuple[Step, int]:
    """Two 3x3 convolutions of width and 2 width channels, each with ReLU and 2x2 pooling, and a dense layer."""
    layers = []
    for channels in (width, 2 * width):
        layers += [Conv2d(channels, 3, padding="same"), ReLU(), MaxPool2d(2)]
    return train_step(sn.Sequential([*layers, Flatten(), Dense(10)], (image, image, 3)), batch)


def adam(parameters: int) -> tuple[Step, int]:
    """The update alone."""
    rng = np.random.default_rng(0)
    params, grads = rng.standard_normal((2, parameters), dtype=np.float32)
    optimizer = sn.Adam(params)
    return lambda: optimizer.step(grads), parameters


MODELS: dict[str, Callable[..., tuple[Step, int]]] = {"mlp": mlp, "cnn": cnn, "adam": adam}
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
    """Milliseconds of each step for so many seconds, five at least, after two that are not counted."""
    elapsed: list[float] = []
    end = time.perf_counter() + seconds
    while len(elapsed) < 7 or time.perf_counter() < end:
        start = time.perf_counter()
        step()
        elapsed.append((time.perf_counter() - start) * 1e3)
    return elapsed[2:]


def make_row(model: str, axis: str, size: int, threads: int, parameters: int, times: list[float]) -> Row:
    """Sum up what was measured."""
    q1, q2, q3 = (round(float(q), 6) for q in np.percentile(times, [25, 50, 75]))
    return Row(model, axis, size, threads, parameters, len(times), q1, q2, q3)


def sweep(model: str, axis: str, sizes: list[int], seconds: float, threads: int) -> list[Row]:
    """Measure a model at several sizes, all others as they are by default."""
    rows = []
    for size in sizes:
        step, parameters = MODELS[model](**{axis: size})
        rows.append(make_row(model, axis, size, threads, parameters, time_steps(step, seconds)))
    return rows


def sweep_threads(model: str, counts: list[int], seconds: float) -> list[Row]:
    """Measure a model on several numbers of threads, in turn: a machine that slows down must not favour one of them."""
    step, parameters = MODELS[model]()
    times: dict[int, list[float]] = {count: [] for count in counts}
    rounds = 8
    for _ in range(rounds):
        for count in counts:
            sn.threads.set_threads(count)
            times[count] += time_steps(step, seconds / rounds)
    return [make_row(model, "threads", count, count, parameters, times[count]) for count in counts]


def fit(rows: list[Row]) -> tuple[float, float]:
    """(c, e) of median_ms = c size^e."""
    logs = np.log([[row.size, row.median_ms] for row in rows])
    exponent, constant = np.polyfit(logs[:, 0], logs[:, 1], 1)
    return float(np.exp(constant)), float(exponent)


def worst_neighbour(rows: list[Row]) -> float:
    """By what factor the time from one size to the next leaves the fit, at most; 1 on a perfect power law."""
    rows = sorted(rows, key=lambda row: row.size)
    _, exponent = fit(rows)
    off = [b.median_ms / a.median_ms / (b.size / a.size) ** exponent for a, b in itertools.pairwise(rows)]
    return float(np.exp(np.abs(np.log(off)).max()))


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
            worst = worst_neighbour(group)
            text = f"{model}: ms ~ {axis}^{fit(group)[1]:.2f}, neighbours off by {worst:.2f}, at most {CLIFF[axis]}"
            found.append((text, worst <= CLIFF[axis]))
    return found


def groups(rows: list[Row]) -> list[tuple[str, str, list[Row]]]:
    """The rows of each sweep."""
    keys = dict.fromkeys((row.model, row.axis) for row in rows)
    return [(*key, [row for row in rows if (row.model, row.axis) == key]) for key in keys]


def read(path: Path) -> list[Row]:
    """The rows of an earlier run."""
    if not path.exists():
        return []
    kinds = {"str": str, "int": int, "float": float}
    convert = {field.name: kinds[str(field.type)] for field in fields(Row)}
    with open(path, newline="") as file:
        return [Row(**{name: convert[name](text) for name, text in line.items()}) for line in csv.DictReader(file)]


def append(path: Path, rows: list[Row]) -> None:
    """Add rows, so that a run that is stopped can go on."""
    new = not path.exists()
    with open(path, "a", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)])
        if new:
            writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


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
    done = {(row.model, row.axis, row.size) for row in read(path)}
    for (model, axis), sizes in SWEEPS.items():
        sn.threads.set_threads(threads_max)
        for size in sizes[:2] if smoke else sizes:
            if (model, axis, size) not in done:
                append(path, sweep(model, axis, [size], seconds, threads_max))
    counts = [n for n in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32) if n <= threads_max]
    for model in THREADED:
        if not all((model, "threads", n) in done for n in counts):
            append(path, sweep_threads(model, counts, 4 * seconds))
    return read(path)


def main(arguments: list[str] | None = None) -> int:
    """Measure, fit, draw and check; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("experiments/results/scaling"))
    parser.add_argument("--threads-max", type=int, default=sn.threads.available_threads())
    parser.add_argument("--short", action="store_true", help="a quarter of the time for each point")
    parser.add_argument("--smoke", action="store_true", help="two sizes of each sweep, nothing judged")
    args = parser.parse_args(arguments)
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

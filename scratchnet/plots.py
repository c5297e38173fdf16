"""Pictures of a run and of the bench's roofline. They need matplotlib (pip install "scratchnet[plot]")."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from scratchnet.training import History

BLUE, ORANGE = "#0072B2", "#D55E00"  # Okabe & Ito: told apart by colour-blind readers


def plot_history(history: History, path: str | Path, title: str) -> None:
    """Draw loss (log scale) and accuracy against the epoch, validation beside training, as far as there are any."""
    names = [name for name in ("loss", "accuracy") if name in history.rows[0]]
    figure = Figure(figsize=(4.5 * len(names), 3.6), layout="constrained")
    FigureCanvasAgg(figure)  # draws without a screen and without touching matplotlib's global state
    epochs = [row["epoch"] for row in history.rows]
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names):
        axes.plot(epochs, [row[name] for row in history.rows], color=BLUE, marker="o", markersize=3, label="training")
        validated = [row for row in history.rows if f"validation_{name}" in row]  # a resumed run may measure more
        if validated:
            values = [row[f"validation_{name}"] for row in validated]
            at = [row["epoch"] for row in validated]
            axes.plot(at, values, color=ORANGE, marker="s", markersize=3, label="validation")
        axes.set_xlabel("epoch")
        axes.set_ylabel(name)
        axes.grid(alpha=0.3)
        axes.legend()
        if name == "loss" and min(row["loss"] for row in history.rows) > 0:
            axes.set_yscale("log")
    figure.suptitle(title, parse_math=False)
    figure.savefig(path, dpi=130)


class Point(NamedTuple):
    """A kernel under the roofs: its number and name, floating-point operations per byte, and per second."""

    number: int
    name: str
    intensity: float
    rate: float
    computing: bool  # whether the peak decides, and not the copy


def plot_roofline(
    path: str | Path, points: Sequence[Point], peak: float, memory: float, cache: float, title: str
) -> None:
    """Draw what kernels reach below what the machine can do; points are numbered, and the names stand beside.

        roof(intensity) = min(peak, bandwidth intensity)          Williams, Waterman & Patterson 2009

    Args:
        points: at least one.
        peak: operations per second. memory, cache: bytes per second of a copy in memory, and of one in the cache.
    """
    figure = Figure(figsize=(16, 8.5), dpi=110)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.045, 0.07, 0.515, 0.88))
    intensities = [point.intensity for point in points]
    low, high = min(intensities) / 2, 2 * max(*intensities, peak / memory)
    for bandwidth, style, place in ((memory, "-", "memory"), (cache, "--", "the caches")):
        roof = [low * bandwidth / 1e9, peak / 1e9]
        label = f"copy in {place}, {bandwidth / 1e9:.0f} GB/s"
        axes.plot([low, peak / bandwidth], roof, style, color="0.4", label=label)
    label = f"multiply-adds on registers, {peak / 1e9:,.0f} GFLOP/s"
    axes.plot([peak / cache, high], [peak / 1e9] * 2, color="black", label=label)
    rates = [point.rate / 1e9 for point in points]
    axes.set(xscale="log", yscale="log", title=title)
    axes.set(xlim=(low, high), ylim=(min(rates) / 3, 1.5 * max(*rates, peak / 1e9)))
    axes.set_xlabel("arithmetic intensity: floating-point operations per byte that must be moved")
    axes.set_ylabel("GFLOP/s")
    axes.grid(alpha=0.3)
    _draw_points(axes, points)
    axes.legend(loc="lower right")
    lines = [f"{point.number:>3} {point.name}" for point in points]
    half = -(-len(lines) // 2) if len(lines) > 40 else len(lines)
    for column, part in enumerate((lines[:half], lines[half:])):
        figure.text(
            0.57 + 0.22 * column, 0.95, "\n".join(part),
            fontsize=7, family="monospace", va="top", linespacing=min(1.5, 80 / half),
        )  # fmt: skip
    figure.savefig(path)


def _draw_points(axes: Any, points: Sequence[Point]) -> None:
    """A marker and a number for each point; a number stands at the nearest place that is free, in pixels."""
    for computing, color, marker in ((False, ORANGE, "s"), (True, BLUE, "o")):
        chosen = [point for point in points if point.computing == computing]
        label = "limited by computing" if computing else "limited by moving bytes"
        x, y = [point.intensity for point in chosen], [point.rate / 1e9 for point in chosen]
        axes.plot(x, y, marker, color=color, markersize=4, label=f"kernel, {label}")
    places = [axes.transData.transform((point.intensity, point.rate / 1e9)) for point in points]
    taken = [(x, y, 4.0, 4.0) for x, y in places]  # middle, half the width, half the height
    for point, (x, y) in zip(points, places):
        wide, tall = 4.0 * len(str(point.number)) + 1, 6.0
        for dx, dy in _offsets():
            box = x + dx, y + dy, wide, tall
            if not any(abs(box[0] - t[0]) < wide + t[2] and abs(box[1] - t[1]) < tall + t[3] for t in taken):
                break
        taken.append(box)
        line = {"arrowstyle": "-", "lw": 0.5, "color": "0.6", "shrinkA": 0, "shrinkB": 2}
        axes.annotate(
            str(point.number), (point.intensity, point.rate / 1e9), (dx, dy), textcoords="offset pixels",
            fontsize=7, ha="center", va="center", arrowprops=line if math.hypot(dx, dy) > 16 else None,
        )  # fmt: skip


def _offsets() -> Iterator[tuple[float, float]]:
    """Places around a point, in pixels, near ones first."""
    for radius in (12, 18, 26, 36, 48, 62, 80, 100):
        for turn in range(16):
            yield radius * math.cos(math.pi * turn / 8), radius * math.sin(math.pi * turn / 8)

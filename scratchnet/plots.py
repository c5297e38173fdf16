"""The picture a run leaves: loss and accuracy by epoch. Needs matplotlib (pip install "scratchnet[plot]")."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from scratchnet.training import History

BLUE, ORANGE = "#0072B2", "#D55E00"  # Okabe & Ito: told apart by colour-blind readers


def plot_history(history: History, path: str | Path, title: str) -> None:
    """Draw loss (log scale) and accuracy against the epoch, validation beside training where there is one."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)  # draws without a screen and without touching matplotlib's global state
    epochs = [row["epoch"] for row in history.rows]
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy")):
        axes.plot(epochs, [row[name] for row in history.rows], color=BLUE, marker="o", markersize=3, label="training")
        if f"validation_{name}" in history.rows[0]:
            values = [row[f"validation_{name}"] for row in history.rows]
            axes.plot(epochs, values, color=ORANGE, marker="s", markersize=3, label="validation")
        axes.set_xlabel("epoch")
        axes.set_ylabel(name)
        axes.grid(alpha=0.3)
        axes.legend()
        if name == "loss" and min(row["loss"] for row in history.rows) > 0:
            axes.set_yscale("log")
    figure.suptitle(title)
    figure.savefig(path, dpi=130)

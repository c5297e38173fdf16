"""Pictures: our curves in colour over the paper's in grey. They need matplotlib (pip install "scratchnet[plot]")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from paper.digitised import Line

# Okabe & Ito's colours, told apart by colour-blind readers, and a marker for the paper's grey line
STYLES = {
    "Adam": ("#0072B2", "o"),
    "SGDNesterov": ("#D55E00", "s"),
    "AdaGrad": ("#009E73", "^"),
    "RMSProp": ("#CC79A7", "D"),
    "AdaDelta": ("#E69F00", "v"),
    "SFO": ("#000000", "P"),
}


@dataclass
class Panel:
    """One pair of axes.

    Attributes:
        curves: name -> lines of (x, y), one of each seed. A name is an optimizer of STYLES, and what may follow it
            ("Adam + dropout") is drawn dashed, behind a comma dotted.
        paper: name -> (x, y), drawn grey behind the curves, with the marker of the name.
        axes: what matplotlib's Axes.set takes: xlabel, ylabel, xlim, ylim, xscale, yscale, title.
    """

    curves: Mapping[str, Sequence[Line]]
    paper: Mapping[str, Line] = field(default_factory=dict)
    axes: Mapping[str, Any] = field(default_factory=dict)


def draw(path: Path, title: str, panels: Sequence[Panel], width: float = 6.5) -> None:
    """Draw panels side by side, with one legend each."""
    figure = make_figure(title, width * len(panels), 4.6)
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels):
        draw_panel(axes, panel)
    figure.savefig(path)


def make_figure(title: str, width: float, height: float) -> Figure:
    """An empty figure that can be drawn without a screen."""
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    return figure


def draw_panel(axes: Any, panel: Panel) -> None:
    """Draw one panel: the paper's lines first, the first of ours on top of all, the legend last."""
    handles: list[Line2D] = []
    for name, (x, y) in panel.paper.items():
        _, marker = _style(name)
        axes.plot(x, y, _dashes(name), color="0.6", marker=marker, markersize=4, lw=1, zorder=0)
    for name, lines in reversed(list(panel.curves.items())):
        color, marker = _style(name)
        for x, y in lines:
            axes.plot(x, y, _dashes(name), color=color, lw=1.4, alpha=1 if len(lines) == 1 else 0.7)
        marker = marker if name in panel.paper else ""
        handles.insert(
            0, Line2D([], [], color=color, ls=_dashes(name), marker=marker, mfc="0.6", mec="0.6", ms=5, label=name)
        )
    if panel.paper:
        handles.append(Line2D([], [], color="0.6", lw=1, label="paper (same marker)"))
    axes.set(**panel.axes)
    axes.grid(alpha=0.3)
    axes.legend(handles=handles, fontsize=8, ncols=1 if len(handles) < 7 else 2)


def _style(name: str) -> tuple[str, str]:
    """Colour and marker by the optimizer that a curve's name begins with."""
    return STYLES[name.split(" ")[0].rstrip(",")]


def _dashes(name: str) -> str:
    return ":" if "," in name else "--" if " " in name else "-"

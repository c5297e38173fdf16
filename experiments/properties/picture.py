"""The picture: six of the claims, drawn from their rows, and measured again where that takes no time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from paper.picture import STYLES, make_figure

from properties import noise, rescaling, training
from properties.claims import Numbers
from properties.loops import METHODS, play
from properties.regret import ALPHA, cyclic
from properties.steps import BOUND, PAPER_BOUND, growing, inflation, relative_steps, spike
from scratchnet.optimizers import Adam

COLOURS = {name: colour for name, (colour, _) in STYLES.items()} | {"AMSGrad": STYLES["AdaDelta"][0]}
MARKERS = {"Adam": "o", "AdaGrad": "^", "SGDNesterov": "s"}


def draw(path: Path, found: Callable[[str], Numbers]) -> None:
    """Draw all panels.

    Args:
        path: of the PNG.
        found: name of a claim -> its numbers.
    """
    figure = make_figure("What the Adam paper claims of its method, measured", 17, 9.6)
    axes = figure.subplots(2, 3).flat
    draw_bound(next(axes))
    draw_inflation(next(axes))
    draw_rescaled_loss(next(axes), found("rescaled loss"))
    draw_moving(next(axes), found("moving objective"))
    draw_averaging(next(axes), found("averaging and annealing"))
    draw_regret(next(axes))
    figure.savefig(path)


def finish(axes: Any, legend: str = "best", **settings: Any) -> None:
    axes.set(**settings)
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8, loc=legend)


def draw_bound(axes: Any) -> None:
    """Steps under three sequences of gradients."""
    shown = 120
    sequences = {
        "gradients that grow by 1.11 a step": (growing(10_000, shown), COLOURS["Adam"]),
        "one spike": (np.append(spike(10_000), np.zeros(shown - 1)), COLOURS["SGDNesterov"]),
        "constant gradient from the start": (np.ones(shown), COLOURS["AdaGrad"]),
    }
    for name, (gradients, colour) in sequences.items():
        steps = relative_steps(Adam(np.zeros(1)), gradients[:, None])[-shown:, 0]
        axes.plot(np.arange(1, shown + 1), steps, color=colour, label=name)
    for level, text in ((BOUND, f"what is true: {BOUND:.2f}"), (PAPER_BOUND, f"the paper's bound: {PAPER_BOUND:.2f}")):
        axes.axhline(level, color="0.5", lw=1, ls=":")
        axes.text(shown, level - 0.08, text, ha="right", va="top", color="0.35", fontsize=8)
    finish(
        axes,
        title="Step bound: worst sequence, after 10,000 zeros",
        xlabel="t",
        ylabel="step / alpha",
        ylim=(0, 8),
        legend="center right",
    )


def draw_inflation(axes: Any) -> None:
    """A constant gradient without the corrections."""
    colours = (COLOURS["AdaGrad"], COLOURS["Adam"], COLOURS["SGDNesterov"])
    for beta2, colour in zip((0.99, 0.999, 0.9999), colours):
        for beta1, dashes in ((0.9, "-"), (0.0, "--")):
            label = f"beta1 = {beta1:g}, beta2 = {beta2:g}"
            steps = inflation(469, (beta1, beta2))
            axes.plot(np.arange(1, 470), steps, dashes, color=colour, label=label)
    axes.axhline(1, color="0.5", lw=1, ls=":")
    axes.text(1.2, 0.9, "with correction: 1, always", color="0.35", fontsize=8, va="top")
    title = "No bias correction: first epoch, constant gradient"
    finish(axes, title=title, xlabel="t", ylabel="step / alpha", xscale="log", yscale="log", ylim=(0.7, 130))


def draw_rescaled_loss(axes: Any, found: Numbers) -> None:
    """The cost by rate, for three scales of the loss."""
    for method in rescaling.METHODS:
        for scale, dashes, size in zip(rescaling.SCALES, (":", "-", "--"), (8, 5, 2.5)):
            costs = [found[rescaling.name_of(method, scale, rate)][0] for rate in rescaling.RATES]
            label = f"{method}, loss x {scale:g}"
            style = {"color": COLOURS[method], "marker": MARKERS[method], "ms": size}
            axes.plot(rescaling.RATES, costs, dashes, label=label, **style)
    title = "A rescaled loss moves SGD's best rate, not Adam's"
    finish(axes, title=title, xlabel="alpha", ylabel="cost after 5 epochs", xscale="log", ylim=(0.2, 1.0))


def draw_moving(axes: Any, found: Numbers) -> None:
    """Steps to follow a jump, by when it comes."""
    for method in ("Adam", "AdaGrad"):
        points = [(t, found.get(f"{method}, jump at T={t}")) for t in noise.HORIZONS]
        points = [(t, numbers[0]) for t, numbers in points if numbers]
        label = f"{method}({noise.RATES[method]:g})"
        axes.plot(*zip(*points), color=COLOURS[method], marker=MARKERS[method], label=label)
    title = "A moving objective: Adagrad's steps shrink for good"
    finish(
        axes,
        title=title,
        xlabel="step at which the optimum jumps",
        ylabel="steps to follow",
        xscale="log",
        yscale="log",
    )


def draw_averaging(axes: Any, found: Numbers) -> None:
    """The clean cost after each epoch, of the parameters and of their average."""
    for what, colour in (("theta", COLOURS["SGDNesterov"]), ("average", COLOURS["Adam"])):
        costs = training.series(found, what)
        axes.plot(np.arange(1, len(costs) + 1), costs, "o-", ms=3, color=colour, label=f"cost of {what}")
    title = "Temporal averaging: logistic regression, constant alpha"
    finish(axes, title=title, xlabel="epoch", ylabel="training cost, clean")


def draw_regret(axes: Any) -> None:
    """Example (i) of Reddi et al. with C = 3."""
    rounds = 30_000
    for name in ("Adam", "AMSGrad", "AdaGrad"):
        path = np.empty(rounds)
        play(path, cyclic(3, 1, 3, rounds), METHODS[name], ALPHA, 0.0, 0.1)
        at = np.unique(np.geomspace(1, rounds, 400).astype(int))
        axes.plot(at, path[at - 1], color=COLOURS[name], label=name)
    axes.text(1, -0.97, "best x = -1", color="0.35", fontsize=8)
    title = "Adam goes the wrong way: f = 3x, -x, -x, 3x, ..."
    finish(axes, title=title, xlabel="t", ylabel="x", xscale="log", ylim=(-1.05, 1.05))

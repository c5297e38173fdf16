"""Which optimizer, and how much tuning does it ask for? Thirteen of them on one net, with one budget for each.

    python experiments/optimizer_family.py --seed 1 2 3     8 minutes of CPU; --short 2, --smoke seconds

An optimizer that was tuned longer looks better, so each gets the same budget: seven learning rates, its customary one
times .03, .1, .3, 1, 3, 10 and 30; everything else stays at its default. Each rate is tried on seed 0, in full, and the
lowest training cost of the last epoch wins. The winners are trained anew from other seeds: what is reported is not what
was chosen by.

    the customary rate   PyTorch's default, but for SGD (.1; with momentum .9, whose steps add up to tenfold, .01) and
                         RMSprop (.001, Keras's); Lion has its paper's. This net asks for more of all, and SGD with and
                         without momentum is best at the top of its grid
    AdamW                keeps its weight decay of .01, or it would be Adam; the others have none
    the net              784 - 64 - 64 - 64 - 10 on MNIST, sigmoids. A sigmoid passes on at most 1/4 of a gradient: the
                         first layer's is far smaller than the last's, and the cost stays at ln 10 until they grow. At
                         the customary rates costs then range from .04 to .37; at the chosen ones, from .033 to .051
    the cost             mean over the minibatches (128) of an epoch, as they were trained on
    the paths            Rosenbrock's function from (-1.2, 1), in float64, every optimizer with the best of 25 rates:
                         the one whose highest value in the last 20 steps is lowest, which no lucky step can win, among
                         those that stay in the picture: a first leap to the far side says nothing about a valley

Written: optimizer_family.md (the table), .png (cost against epoch), _rates.png (against the learning rate), _paths.png.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import sys
import timeit
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from paper import curves as training
from paper import search as searching
from paper.checks import Check, conclude, holds, within
from paper.curves import Curve, Settings, Task, series, train_curves
from paper.figure import Numbers, check_smoke
from paper.options import make_parser, parse, write_record
from paper.search import grid, rows_of, search
from paper.table import Table

from scratchnet import Sequential, threads, train
from scratchnet.data import hold_out, load
from scratchnet.initializers import lecun_normal
from scratchnet.layers import Dense, Flatten, Sigmoid
from scratchnet.layers.base import Layer
from scratchnet.optimizers import SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, Lion, NAdam, Optimizer, RAdam, RMSprop
from scratchnet.optimizers.base import LearningRate

SCRIPT = "optimizer_family"
EPOCHS = {"full": 10, "short": 4, "smoke": 3}
FACTORS = (0.03, 0.1, 0.3, 1, 3, 10, 30)  # times the customary rate: what the search tries
REACHED = 0.1  # the cost whose epoch is reported

START, STEPS, LAST = (-1.2, 1.0), 300, 20
FRAME = (-1.7, 1.7), (-0.7, 2.2)  # x and y of the picture of the paths
RATES = [float(f"{rate:.2g}") for rate in np.logspace(-4, 2, 25)]  # of the paths

Trials = dict[str, dict[float, float]]  # optimizer -> learning rate -> cost
Walks = dict[str, tuple[float, np.ndarray]]  # optimizer -> learning rate, (steps + 1, 2) path
Updates = dict[str, tuple[int, float]]  # optimizer -> state arrays, microseconds of an update


# --- the family ------------------------------------------------------------------------------------------------------

ONE, EACH, BOTH, SIGN = "one rate for all", "a rate for each parameter", "the same, and momentum", "steps of one size"
COLORS = {ONE: "#D55E00", EACH: "#009E73", BOTH: "#0072B2", SIGN: "#CC79A7"}  # Okabe & Ito's


@dataclass(frozen=True)
class Member:
    """An optimizer, its customary rate, its kind, and the arrays of state it needs for each array of parameters."""

    make: Callable[..., Optimizer]
    rate: float
    kind: str
    arrays: int


def adamw(params: np.ndarray, lr: LearningRate, weight_decay: float) -> Optimizer:
    """AdamW with its own, decoupled decay. `weight_decay` is the coupled one of the task: here 0."""
    return AdamW(params, lr)


FAMILY = {
    "SGD": Member(SGD, 0.1, ONE, 0),
    "momentum": Member(functools.partial(SGD, momentum=0.9), 0.01, ONE, 1),
    "Nesterov": Member(functools.partial(SGD, momentum=0.9, nesterov=True), 0.01, ONE, 1),
    "Adagrad": Member(Adagrad, 0.01, EACH, 1),
    "Adadelta": Member(Adadelta, 1.0, EACH, 2),
    "RMSprop": Member(RMSprop, 0.001, EACH, 1),
    "Adam": Member(Adam, 0.001, BOTH, 2),
    "AdamW": Member(adamw, 0.001, BOTH, 2),
    "Adamax": Member(Adamax, 0.002, BOTH, 2),
    "NAdam": Member(NAdam, 0.002, BOTH, 2),
    "AMSGrad": Member(functools.partial(Adam, amsgrad=True), 0.001, BOTH, 3),
    "RAdam": Member(RAdam, 0.001, BOTH, 2),
    "Lion": Member(Lion, 1e-4, SIGN, 1),
}
ADAPTIVE = [name for name, member in FAMILY.items() if member.kind in (EACH, BOTH)]
UNTUNED = "SGD, untuned"  # at PyTorch's default: what every tuned optimizer has to beat


def make_curves(factors: Sequence[float] = FACTORS) -> list[Curve]:
    """The family, with its customary rates times `factors` to try, and plain SGD with one rate."""
    tuned = [
        Curve(name, member.make, grid(lr=[float(f"{member.rate * factor:.3g}") for factor in factors]))
        for name, member in FAMILY.items()
    ]
    return [*tuned, Curve(UNTUNED, SGD, grid(lr=[0.001]))]


# --- what is trained -------------------------------------------------------------------------------------------------


def make_tasks(args: argparse.Namespace) -> tuple[Task, Task]:
    """The search trains like the curves, but for --short: on a third of the images."""
    smoke = args.mode == "smoke"
    data = load("digits" if smoke else "mnist", args.data_dir)
    hidden, batch_size = (32, 32) if smoke else (64, 128)

    def make_layers(dropout: bool) -> list[Layer]:
        layers: list[Layer] = [Flatten()]
        for _ in range(3):
            layers += [Dense(hidden, init=lecun_normal), Sigmoid()]
        return [*layers, Dense(len(data.classes), init=lecun_normal)]

    task = Task(data.train, data.test, make_layers, data.input_shape, EPOCHS[args.mode], batch_size)
    return replace(task, train=hold_out(data.train, 1 / 3)[1]) if args.mode == "short" else task, task


def adam_is_adamw(task: Task) -> bool:
    """Whether both, without weight decay, train the net to the same bits."""
    nets = [task.start(Curve("", make, []), {"lr": 1e-3}, seed=0) for make in (Adam, AdamW)]
    for net, optimizer in nets:
        train(net, optimizer, task.train.x[:1000], task.train.y[:1000], 2)
    return np.array_equal(nets[0][0].params, nets[1][0].params)


def count_arrays(curve: Curve) -> int:
    """The state arrays that an optimizer keeps, each as long as the parameters."""
    optimizer = curve.make_optimizer(np.zeros(3, np.float32), curve.grid[0], 0.0)
    return sum(array.shape == (3,) for array in optimizer.state.values())


def update_microseconds(curve: Curve, size: int, repeats: int = 200) -> float:
    """The time of an update of `size` parameters on one thread: the fastest of `repeats`, as other work disturbs it."""
    params, grads = np.random.default_rng(0).standard_normal((2, size), dtype=np.float32)
    optimizer = curve.make_optimizer(params, curve.grid[0], 0.0)
    return 1e6 * min(timeit.repeat(lambda: optimizer.step(grads), number=1, repeat=repeats))


# --- the paths -------------------------------------------------------------------------------------------------------


def rosenbrock(x: Any, y: Any) -> Any:
    """f(x, y) = (1 - x)^2 + 100 (y - x^2)^2: a bent valley, steep across and flat along; its minimum is f(1, 1) = 0."""
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


def slope(point: np.ndarray) -> np.ndarray:
    """Return the gradient of rosenbrock."""
    x, y = point
    return np.array([-2 * (1 - x) - 400 * x * (y - x**2), 200 * (y - x**2)])


def walk(curve: Curve, rate: float, steps: int = STEPS) -> np.ndarray:
    """Return the (steps + 1, 2) points from START on; NaN once they leave the frame."""
    params = np.array(START)
    optimizer = curve.make_optimizer(params, {"lr": rate}, 0.0)
    path = np.full((steps + 1, 2), math.nan)
    path[0] = params
    for t in range(1, steps + 1):
        optimizer.step(slope(params))
        if not all(low <= number <= high for number, (low, high) in zip(params, FRAME)):
            break
        path[t] = params
    return path


def highest_of_last(path: np.ndarray) -> float:
    """The highest value of f in the LAST steps; infinity for a path that left the frame."""
    highest = float(rosenbrock(*path[-LAST:].T).max())
    return math.inf if math.isnan(highest) else highest


def best_walk(curve: Curve, rates: Sequence[float] = RATES, steps: int = STEPS) -> tuple[float, np.ndarray]:
    """Try all rates; return the best one and its path."""
    walks = [(rate, walk(curve, rate, steps)) for rate in rates]
    return min(walks, key=lambda found: highest_of_last(found[1]))


# --- what was found --------------------------------------------------------------------------------------------------


def collect_trials(searched: Table, task: Task) -> Trials:
    """Sort the rows of the search that belong to this task."""
    trials: Trials = {}
    for row in rows_of(searched, task):
        trials.setdefault(row["curve"], {})[json.loads(row["settings"])["lr"]] = row["cost"]
    return trials


def near_best(costs: Mapping[float, float], factor: float = 2.0) -> int:
    """Count the rates that cost at most `factor` times what the best one costs."""
    return sum(cost <= factor * min(costs.values()) for cost in costs.values())


def epochs_to(cost: np.ndarray, reached: float = REACHED) -> int | None:
    """The first epoch, counted from 1, whose cost, averaged over the seeds, is down to `reached`."""
    (below,) = np.nonzero(cost.mean(axis=0) <= reached)
    return int(below[0]) + 1 if len(below) else None


def check_always(trials: Trials, updates: Updates, same: bool, walks: Walks) -> list[Check]:
    """What holds for a run of any length."""
    budgets = {name: len(trials[name]) for name in FAMILY}
    wrong = {name: count for name, (count, _) in updates.items() if count != FAMILY[name].arrays}
    worst = max(walks, key=lambda name: highest_of_last(walks[name][1]))
    fallen = highest_of_last(walks[worst][1]) / rosenbrock(*START)
    return [
        holds("every optimizer has the same number of trials", len(set(budgets.values())) == 1, str(budgets["SGD"])),
        holds("Adam and AdamW without weight decay: the same bits", same, "equal" if same else "different"),
        holds("state arrays: 0 SGD, 1 momentum, 2 Adam, 3 AMSGrad, ...", not wrong, str(wrong or "as in the papers")),
        within(f"the worst path, that of {worst}: f at its end / at its start", fallen, high=0.1),
    ]


def check_training(costs: Numbers) -> list[Check]:
    """Tuning pays, for every optimizer and seed."""
    untuned = costs[UNTUNED][:, -1]
    return [within(f"{name} / untuned SGD, last cost", costs[name][:, -1] / untuned, high=0.99) for name in FAMILY]


def check(costs: Numbers, trials: Trials) -> list[Check]:
    """What the full run is expected to show."""
    last = {name: float(costs[name][:, -1].mean()) for name in FAMILY}
    best = {name: min(trials[name], key=trials[name].__getitem__) for name in FAMILY}
    on_edge = [name for name, rate in best.items() if rate in (min(trials[name]), max(trials[name]))]
    orders = [("momentum", "SGD"), ("Nesterov", "momentum"), ("Adam", "SGD"), ("Adam", "RMSprop"), ("NAdam", "Adam")]
    return [
        *check_training(costs),
        *(within(f"{name}, last cost", costs[name][:, -1], high=REACHED) for name in ADAPTIVE),
        *(within(f"{a} / {b}, last cost", last[a] / last[b], high=1, hard=False) for a, b in orders),
        within("AMSGrad / Adam, last cost", last["AMSGrad"] / last["Adam"], 0.8, 1.25, hard=False),
        holds("no best rate at the edge of its grid", not on_edge, ", ".join(on_edge) or "none", hard=False),
    ]


# --- the table and the pictures --------------------------------------------------------------------------------------


def make_table(
    costs: Numbers, accuracies: Numbers, trials: Trials, chosen: Mapping[str, Settings], walks: Walks, updates: Updates
) -> str:
    """A Markdown table, a row for each optimizer."""
    head = (
        "optimizer", "rate", "last training cost", "test accuracy", f"epochs to cost {REACHED}",
        "rates within 2x of the best", f"rates that reach {REACHED}", "state arrays", "µs per update",
        f"Rosenbrock: f after {STEPS} steps (rate)",
    )  # fmt: skip
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name in FAMILY:
        last, right = costs[name][:, -1], accuracies[name][:, -1]
        tried, (arrays, microseconds), (rate, path) = trials[name], updates[name], walks[name]
        reached = sum(cost <= REACHED for cost in tried.values())
        cells = [
            name, f"{chosen[name]['lr']:g}", f"{last.mean():.4f} ± {last.std():.4f}", f"{100 * right.mean():.2f} %",
            str(epochs_to(costs[name]) or "-"), f"{near_best(tried)} of {len(tried)}", f"{reached} of {len(tried)}",
            str(arrays), f"{microseconds:.0f}", f"{rosenbrock(*path[-1]):.1e} ({rate:g})",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def draw_multiples(
    path: Path, title: str, panel: Callable[[Any, str], None], legend: Sequence[tuple[str, dict]], **axes: Any
) -> None:
    """Draw a panel for each optimizer, on the same axes, and the legend in the place that is left."""
    from matplotlib.lines import Line2D
    from paper.picture import make_figure

    figure = make_figure(title, 15, 8.4)
    grid_of_axes = figure.subplots(3, 5, sharex=True, sharey=True)
    for place, name in zip(grid_of_axes.flat, FAMILY):
        panel(place, name)
        place.set(**axes)
        place.grid(alpha=0.25)
        place.label_outer()
    for place, above in zip(grid_of_axes.flat[len(FAMILY) :], grid_of_axes[-2, -2:]):
        place.axis("off")
        above.tick_params(labelbottom=True)
        above.set(xlabel=axes["xlabel"])
    handles = [Line2D([], [], color=COLORS[kind], lw=2.5, label=kind) for kind in COLORS]
    handles += [Line2D([], [], label=label, **style) for label, style in legend]
    grid_of_axes.flat[-2].legend(handles=handles, loc="upper left", frameon=False)
    figure.savefig(path)


def draw_costs(path: Path, costs: Numbers, chosen: Mapping[str, Settings]) -> None:
    """Training cost against epoch: the seeds thin, their mean thick, the means of all others grey."""
    epochs = 1 + np.arange(costs[UNTUNED].shape[1])

    def panel(axes: Any, name: str) -> None:
        for other in FAMILY:
            axes.plot(epochs, costs[other].mean(axis=0), color="0.82", lw=1)
        axes.plot(epochs, costs[UNTUNED].mean(axis=0), "--k", lw=1)
        color = COLORS[FAMILY[name].kind]
        axes.plot(epochs, costs[name].T, color=color, lw=0.8, alpha=0.5)
        axes.plot(epochs, costs[name].mean(axis=0), color=color, lw=2.2)
        axes.set_title(f"{name}, rate {chosen[name]['lr']:g}", fontsize=10)
        axes.text(0.05, 0.06, f"ends at {costs[name][:, -1].mean():.3f}", transform=axes.transAxes, color=color)

    legend = [("all others", {"color": "0.82"}), ("SGD, rate 0.001", {"color": "k", "ls": "--", "lw": 1})]
    title = "A net of three sigmoid layers on MNIST: training cost of 13 optimizers, the rate of each chosen from seven"
    axes = {"xlabel": "epoch", "ylabel": "training cost", "yscale": "log", "xticks": epochs[1::2]}
    draw_multiples(path, title, panel, legend, **axes)


def draw_rates(path: Path, trials: Trials) -> None:
    """Cost of the last epoch against the learning rate, over the customary one. What diverges has no point."""

    def points(name: str) -> np.ndarray:
        return np.array([(rate / FAMILY[name].rate, cost) for rate, cost in sorted(trials[name].items())]).T

    def panel(axes: Any, name: str) -> None:
        for other in FAMILY:
            axes.plot(*points(other), color="0.82", lw=1)
        color = COLORS[FAMILY[name].kind]
        axes.plot(*points(name), color=color, lw=2.2, marker="o", ms=4)
        axes.axvline(1, color="k", ls=":", lw=1)
        axes.axhspan(min(trials[name].values()), 2 * min(trials[name].values()), color=color, alpha=0.15, lw=0)
        axes.set_title(f"{name}, customary rate {FAMILY[name].rate:g}", fontsize=10)

    band = ("band: up to twice the best", {"color": "0.5", "alpha": 0.3, "lw": 8})
    legend = [("all others", {"color": "0.82"}), band, ("the customary rate", {"color": "k", "ls": ":", "lw": 1})]
    axes = {"xlabel": "rate / customary rate", "ylabel": "last training cost", "xscale": "log", "yscale": "log"}
    draw_multiples(path, "How much tuning? Cost against learning rate, seven trials each", panel, legend, **axes)


def draw_walks(path: Path, walks: Walks) -> None:
    """The paths over the contours of log f."""
    x, y = np.meshgrid(*(np.linspace(*limits, 200) for limits in FRAME))

    def panel(axes: Any, name: str) -> None:
        axes.contour(x, y, np.log10(rosenbrock(x, y)), levels=np.arange(-1.5, 3.1, 0.5), colors="0.8", linewidths=0.7)
        rate, points = walks[name]
        axes.plot(*points.T, color=COLORS[FAMILY[name].kind], lw=1.2, marker=".", ms=4, mew=0)
        axes.plot(*START, "ks", ms=5)
        axes.plot(1, 1, "k*", ms=10)
        axes.set_title(f"{name}, rate {rate:g}", fontsize=10)
        axes.text(0.5, 0.05, f"f = {rosenbrock(*points[-1]):.0e}", transform=axes.transAxes, ha="center")

    legend = [("start", {"color": "k", "marker": "s", "ls": ""}), ("minimum", {"color": "k", "marker": "*", "ls": ""})]
    title = f"{STEPS} steps down Rosenbrock's valley, (1 - x)² + 100 (y - x²)²: the best of {len(RATES)} rates each"
    draw_multiples(path, title, panel, legend, xlabel="x", ylabel="y", xlim=FRAME[0], ylim=FRAME[1])


# --- the run ---------------------------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    """Search, train, walk, tabulate, draw and check; returns the exit status."""
    args = parse(make_parser(SCRIPT, __doc__), arguments)
    smoke, (trial, task) = args.mode == "smoke", make_tasks(args)
    curves = make_curves(FACTORS[3:5] if smoke else FACTORS)
    searched = Table(args.out / "search.csv", searching.COLUMNS, searching.KEY)
    table = Table(args.out / f"{SCRIPT}.csv", training.COLUMNS, training.KEY)
    processes = 1 if smoke else args.threads
    chosen = search(trial, curves, searched, processes)
    train_curves(task, curves, chosen, args.seed, table, processes)
    threads.set_threads(1)
    members = curves[: len(FAMILY)]
    size = Sequential(task.make_layers(False), task.input_shape).params.size
    updates = {curve.name: (count_arrays(curve), update_microseconds(curve, size)) for curve in members}
    walks = {curve.name: best_walk(curve) for curve in members}
    costs, accuracies = series(table, "cost", task.epochs), series(table, "test_accuracy", task.epochs)
    trials = collect_trials(searched, trial)
    write_record(args, SCRIPT, [*table, *searched], epochs=task.epochs, parameters=size, settings=chosen)
    (args.out / f"{SCRIPT}.md").write_text(make_table(costs, accuracies, trials, chosen, walks, updates))
    try:
        draw_costs(args.out / f"{SCRIPT}.png", costs, chosen)
        draw_rates(args.out / f"{SCRIPT}_rates.png", trials)
        draw_walks(args.out / f"{SCRIPT}_paths.png", walks)
    except ImportError:
        print("the pictures are left out: matplotlib is not installed (pip install 'scratchnet[plot]')")
    more = {"full": check(costs, trials), "short": check_training(costs), "smoke": check_smoke(costs, accuracies)}
    return conclude([*check_always(trials, updates, adam_is_adamw(task), walks), *more[args.mode]], args.out)


if __name__ == "__main__":
    sys.exit(main())

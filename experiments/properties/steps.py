"""The size of a step: section 2.1's bound, section 3's bias correction, section 5's relatives, section 7.1's AdaMax."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
from paper.checks import Check, within

from properties.claims import Claim, Numbers, Run, Task
from scratchnet.optimizers import Adagrad, Adam, Adamax, Optimizer, RMSprop
from scratchnet.schedules import inverse_square_root

BETA1, BETA2 = 0.9, 0.999
PAPER_BOUND = (1 - BETA1) / math.sqrt(1 - BETA2)  # 3.162, what section 2.1 says of its first case
# By Cauchy-Schwarz: m = (1 - b1) sum b1^k g_k, v = (1 - b2) sum b2^k g_k^2, so
# m^2 <= v (1 - b1)^2 / (1 - b2) sum (b1^2 / b2)^k
BOUND = PAPER_BOUND / math.sqrt(1 - BETA1**2 / BETA2)  # 7.270
ADAMAX_BOUND = (1 - BETA1) / (1 - BETA1 / BETA2)  # 1.00909

Make = Callable[..., Optimizer]


def relative_steps(optimizer: Optimizer, gradients: np.ndarray) -> np.ndarray:
    """Step sizes in units of the learning rate.

    The parameters are put back to 0 before each step, so that what is measured is the step and not its rounding.

    Args:
        optimizer: with a constant learning rate, over (P,) float64 parameters. Written.
        gradients: (T, P). Read.

    Returns:
        (T, P), -step / alpha: positive where the parameter moved against a positive gradient.
    """
    steps = np.empty_like(gradients)
    for t, gradient in enumerate(gradients):
        optimizer.params[...] = 0
        optimizer.step(gradient)
        np.divide(optimizer.params, -optimizer.lr, out=steps[t])
    return steps


def largest(make: Make, gradients: np.ndarray, **arguments: object) -> float:
    """The largest |step| / alpha of one parameter under these gradients (T,)."""
    return float(np.abs(relative_steps(make(np.zeros(1), **arguments), gradients[:, None])).max())


# --- the bound -----------------------------------------------------------------------------------------------------


def growing(zeros: int, steps: int) -> np.ndarray:
    """The worst gradients: after zeros, each beta2 / beta1 = 1.11 times the last (equality in Cauchy-Schwarz)."""
    return np.concatenate([np.zeros(zeros), (BETA2 / BETA1) ** np.arange(steps)])


def spike(zeros: int) -> np.ndarray:
    """A rare feature: a gradient after zeros."""
    return np.append(np.zeros(zeros), 1.0)


def streams(steps: int, seed: int) -> dict[str, np.ndarray]:
    """Independent draws, (T,) of each kind."""
    rng = np.random.default_rng([seed, 1])
    return {
        "N(0,1)": rng.standard_normal(steps),
        "N(1,1)": 1 + rng.standard_normal(steps),
        "Cauchy": rng.standard_cauchy(steps),
        "Bernoulli(.01)": (rng.random(steps) < 0.01).astype(float),
    }


WORST = "growing gradients after 10,000 zeros"
SEQUENCES = {
    "growing gradients, 100": lambda: growing(0, 100),
    "growing gradients, 2000": lambda: growing(0, 2000),
    WORST: lambda: growing(10_000, 300),
    "a spike after 100 zeros": lambda: spike(100),
    "a spike after 1000 zeros": lambda: spike(1000),
    "a spike after 10,000 zeros": lambda: spike(10_000),
}
CONSTANTS = (1e-3, 1.0, -1e3)


def bound_tasks(run: Run, adam: Make = Adam) -> list[Task]:
    """Adam with its defaults; the constant gradients with eps = 0, of which the statement is."""
    tasks = [
        Task((name,), lambda sequence=sequence: [largest(adam, sequence())]) for name, sequence in SEQUENCES.items()
    ]

    def constant() -> Iterator[float]:
        steps = relative_steps(adam(np.zeros(3), eps=0), np.tile(CONSTANTS, (1000, 1)))
        yield float(np.abs(np.abs(steps) - 1).max())

    def drawn() -> Iterator[float]:
        kinds = streams(run.pick(2000, 200_000, 200_000), run.seed)
        sizes = np.abs(relative_steps(adam(np.zeros(len(kinds))), np.column_stack(list(kinds.values()))))
        yield from sizes.max(axis=0)
        yield float(sizes[:, 0].mean())

    names = tuple(streams(1, 0))
    return [*tasks, Task(("constant gradient, off 1 by",), constant), Task((*names, "N(0,1), mean"), drawn)]


def check_bound(found: Numbers, mode: str) -> list[Check]:
    """Nothing above 7.27 alpha, and the supremum reached; the paper's own bound is passed."""
    everything = [number for name in (*SEQUENCES, *streams(1, 0)) for number in found[name]]
    return [
        within("largest step of any sequence / 7.2703 alpha", max(everything) / BOUND, high=1.00001),
        within(f"the same under {WORST}: the supremum", [n / BOUND for n in found[WORST]], 0.9999, 1.00001),
        within(f"it passes the paper's bound of {PAPER_BOUND:.4g} alpha, no theorem", found[WORST], PAPER_BOUND),
        within("after 100 growing gradients without zeros before", found["growing gradients, 100"], 2.23, 2.25),
        within("after 2000", found["growing gradients, 2000"], 6.75, 6.77),
        within("step / alpha at a spike after 1000 zeros", found["a spike after 1000 zeros"], 2.51, 2.52),
        within("step / alpha at a spike after 10,000 zeros", found["a spike after 10,000 zeros"], 3.16, 3.1623),
        within("constant gradient: step / alpha differs from 1 by", found["constant gradient, off 1 by"], high=1e-12),
        within("mean size of steps / alpha, N(0,1) gradients", found["N(0,1), mean"], 0.17, 0.2),
        within("largest step / alpha, N(0,1) gradients", found["N(0,1)"], 0.5, 1.5),
    ]


# --- without the correction ----------------------------------------------------------------------------------------

# (beta1, beta2) -> the first step and the largest under a constant gradient, in alpha, calibrated apart from this code
INFLATION = {
    (0.0, 0.99): (10, 10),
    (0.0, 0.999): (31.6, 31.6),
    (0.0, 0.9999): (100, 100),
    (0.9, 0.99): (1.0, 2.13),
    (0.9, 0.999): (3.16, 6.57),
    (0.9, 0.9999): (10, 20.7),
}
EPOCH = 469  # steps in an epoch of MNIST at batch 128


def inflation(steps: int, betas: tuple[float, float], adam: Make = Adam) -> np.ndarray:
    """|step| / alpha (T,) under a constant gradient, without the corrections."""
    optimizer = adam(np.zeros(1), betas=betas, eps=0, bias_correction=False)
    return relative_steps(optimizer, np.ones((steps, 1)))[:, 0]


def inflation_tasks(run: Run, adam: Make = Adam) -> list[Task]:
    def curve(betas: tuple[float, float]) -> Iterator[float]:
        steps = inflation(EPOCH, betas, adam)
        yield from (steps[0], steps.max(), 1 + int(steps.argmax()), steps[-1])

    return [
        Task(tuple(f"{betas}: {what}" for what in ("t=1", "peak", "peak at t", f"t={EPOCH}")), lambda b=betas: curve(b))
        for betas in INFLATION
    ]


def check_inflation(found: Numbers, mode: str) -> list[Check]:
    def off(what: str, column: int) -> list[float]:
        """Measured over calibrated, of all betas and seeds."""
        return [n / known[column] for betas, known in INFLATION.items() for n in found[f"{betas}: {what}"]]

    peaks = [n for beta2 in (0.999, 0.9999) for n in found[f"{(0.9, beta2)}: peak at t"]]
    return [
        within("no correction: first step, over (1 - beta1) / sqrt(1 - beta2) alpha", off("t=1", 0), 0.99, 1.01),
        within(
            "no correction: largest step, over the calibrated 10, 32, 100, 2.1, 6.6, 21", off("peak", 1), 0.99, 1.01
        ),
        within("no correction: the largest, at beta1 = .9, beta2 = .999 and .9999, is step", peaks, 12, 12),
    ]


# --- relatives -----------------------------------------------------------------------------------------------------

GAPS = (1e-3, 1e-4, 1e-6, 1e-8)  # 1 - beta2


def path(optimizer: Optimizer, steps: int, seed: int) -> np.ndarray:
    """Where (T, P) an optimizer goes on a quadratic with noise, from 1."""
    rng = np.random.default_rng([seed, 2])
    positions = np.empty((steps, optimizer.params.size))
    optimizer.params[...] = 1
    for t in range(steps):
        optimizer.step(optimizer.params + rng.standard_normal(optimizer.params.size))
        positions[t] = optimizer.params
    return positions


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference of two paths, relative to the largest coordinate."""
    return float(np.abs(a - b).max() / np.abs(b).max())


def relatives_tasks(run: Run, adam: Make = Adam) -> list[Task]:
    """1000 steps of Adam(beta1=0): beta2 -> 1, alpha / sqrt t against Adagrad; without correction against RMSprop."""

    def limit(gap: float, correct: bool) -> Iterator[float]:
        arguments = {"betas": (0.0, 1 - gap), "eps": 0, "bias_correction": correct}
        moved = path(adam(np.zeros(10), lr=inverse_square_root(0.1), **arguments), 1000, run.seed)
        yield distance(moved, path(Adagrad(np.zeros(10), lr=0.1, eps=0), 1000, run.seed))

    def rmsprop() -> Iterator[float]:
        moved = path(adam(np.zeros(10), lr=0.01, betas=(0.0, 0.99), bias_correction=False), 1000, run.seed)
        yield distance(moved, path(RMSprop(np.zeros(10), lr=0.01, alpha=0.99), 1000, run.seed))

    tasks = [Task((f"Adagrad, 1 - beta2 = {gap:g}",), lambda gap=gap: limit(gap, True)) for gap in GAPS]
    without = Task(("Adagrad, 1 - beta2 = 1e-08, no correction",), lambda: limit(1e-8, False))
    return [*tasks, without, Task(("RMSprop, beta1 = 0, no correction",), rmsprop)]


def check_relatives(found: Numbers, mode: str) -> list[Check]:
    """The error goes with 1 - beta2: that makes Adagrad the limit."""
    slopes = [number / gap for gap in GAPS for number in found[f"Adagrad, 1 - beta2 = {gap:g}"]]
    ratios = [a / b for a, b in zip(*(found[f"Adagrad, 1 - beta2 = {gap:g}"] for gap in (1e-4, 1e-6)))]
    return [
        within("Adam (beta1 = 0, alpha / sqrt t) against Adagrad: difference / (1 - beta2)", slopes, high=10),
        within("the difference falls with 1 - beta2: 1e-4 over 1e-6", ratios, 50, 200),
        within("without the correction it is no limit", found["Adagrad, 1 - beta2 = 1e-08, no correction"], 1),
        within(
            "Adam without correction, beta1 = 0, is RMSprop", found["RMSprop, beta1 = 0, no correction"], high=1e-12
        ),
    ]


# --- AdaMax --------------------------------------------------------------------------------------------------------


def adamax_tasks(run: Run, adamax: Make = Adamax) -> list[Task]:
    def drawn() -> Iterator[float]:
        kinds = streams(run.pick(2000, 200_000, 200_000), run.seed)
        yield from np.abs(relative_steps(adamax(np.zeros(4)), np.column_stack(list(kinds.values())))).max(axis=0)

    def falling() -> Iterator[float]:
        yield largest(adamax, BETA2 ** np.arange(500), eps=0)

    def constant() -> Iterator[float]:
        yield float(np.abs(relative_steps(adamax(np.zeros(1), eps=0), np.full((1000, 1), 3.0)) - 1).max())

    names = ("falling gradients beta2^t", "constant gradient, off 1 by")
    return [Task(names[:1], falling), Task(names[1:], constant), Task(tuple(streams(1, 0)), drawn)]


def check_adamax(found: Numbers, mode: str) -> list[Check]:
    falling = "falling gradients beta2^t"
    everything = [number for name in (falling, *streams(1, 0)) for number in found[name]]
    return [
        within("AdaMax: largest step of any sequence / 1.00909 alpha", max(everything) / ADAMAX_BOUND, high=1.00001),
        within(
            "AdaMax: the same under g = beta2^t: the supremum",
            [n / ADAMAX_BOUND for n in found[falling]],
            0.99999,
            1.00001,
        ),
        within(
            "AdaMax, constant gradient: step / alpha differs from 1 by",
            found["constant gradient, off 1 by"],
            high=1e-12,
        ),
    ]


CLAIMS = (
    Claim("step bound", bound_tasks, check_bound),
    Claim("no bias correction", inflation_tasks, check_inflation),
    Claim("relatives", relatives_tasks, check_relatives),
    Claim("AdaMax", adamax_tasks, check_adamax),
)

"""A moving objective and heavy-tailed noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from paper.checks import Check, within

from properties.claims import Claim, Numbers, Run, Task
from properties.loops import METHODS, settle
from properties.steps import BOUND
from scratchnet.optimizers import SGD, Adam, Optimizer
from scratchnet.schedules import inverse_square_root

Make = Callable[..., Optimizer]

# --- the optimum moves -----------------------------------------------------------------------------------------------

HORIZONS = (2_000, 20_000, 200_000, 2_000_000)
RATES = {"Adam": 0.01, "AdaGrad": 2.0, "SGD": 0.01}
QUIET = "jump at T=20000, gradients x 1e-3 from there"
LIMIT = 1_000_000


def moving_tasks(run: Run) -> list[Task]:
    """Steps until the mean error is below a tenth of the jump."""

    def follow(method: str, before: int, scale: float) -> Iterator[float]:
        rng = np.random.default_rng([run.seed, 5])
        yield settle(rng, METHODS[method], RATES[method], before, scale, LIMIT)

    horizons = HORIZONS[: run.pick(2, 4, 4)]
    jumps = [(method, horizon) for method in ("Adam", "AdaGrad") for horizon in horizons]
    tasks = [Task((f"{m}, jump at T={t}",), lambda at=(m, t, 1.0): follow(*at)) for m, t in jumps]
    if run.mode != "smoke":
        tasks += [Task((f"{m}, {QUIET}",), lambda at=(m, 20_000, 1e-3): follow(*at)) for m in RATES]
    return tasks


def check_moving(found: Numbers, mode: str) -> list[Check]:
    """Adam forgets; Adagrad's steps shrink for good, so it takes sqrt(T) times as long."""

    def ratio(method: str, last: int) -> list[float]:
        pairs = zip(found[f"{method}, jump at T={last}"], found[f"{method}, jump at T={HORIZONS[0]}"])
        return [late / early for late, early in pairs]

    if mode == "smoke":
        return [within("steps to follow a jump, T=2e4 over T=2e3: Adam", ratio("Adam", HORIZONS[1]), 0.7, 1.4)]
    quiet = {method: found[f"{method}, {QUIET}"] for method in RATES}
    faster = [min(a, s) / adam for adam, a, s in zip(quiet["Adam"], quiet["AdaGrad"], quiet["SGD"])]
    return [
        within("steps to follow a jump, T=2e6 over T=2e3: Adam", ratio("Adam", HORIZONS[-1]), 0.7, 1.4),
        within("steps to follow a jump, T=2e6 over T=2e3: AdaGrad", ratio("AdaGrad", HORIZONS[-1]), 10),
        within("gradients x 1e-3 after the jump: Adam is faster than AdaGrad and SGD by", faster, 10),
    ]


# --- heavy tails -----------------------------------------------------------------------------------------------------

TAILS: dict[str, tuple[Make, float]] = {"Adam(.5)": (Adam, 0.5), "SGD(.1)": (SGD, 0.1), "SGD(1)": (SGD, 1.0)}


def heavy(make: Make, rate: float, steps: int, seed: int) -> tuple[float, float]:
    """Minimise |x|^2 / 2 from 1 in 10 dimensions with Student-t noise of 1.2 degrees of freedom: infinite variance.

    Returns:
        mean |x| at the end, and the largest step / alpha_t, at alpha_t = rate / sqrt(t).
    """
    noise = np.random.default_rng([seed, 6]).standard_t(1.2, (steps, 10))
    schedule = inverse_square_root(rate)
    x, most = np.ones(10), 0.0
    optimizer = make(x, lr=schedule)
    for t in range(steps):
        before = x.copy()
        optimizer.step(x + noise[t])
        most = max(most, float(np.abs(x - before).max()) / schedule(t + 1))
    return float(np.abs(x).mean()), most


def heavy_tasks(run: Run, methods: dict[str, tuple[Make, float]] = TAILS) -> list[Task]:
    """Three streams of noise for each seed of the command line."""
    steps = run.pick(2000, 20_000, 20_000)
    return [
        Task(
            (f"{name}, noise {k}: mean error", f"{name}, noise {k}: largest step / alpha_t"),
            lambda make=make, rate=rate, k=k: heavy(make, rate, steps, 3 * run.seed + k),
        )
        for name, (make, rate) in methods.items()
        for k in range(3)
    ]


def check_heavy(found: Numbers, mode: str) -> list[Check]:
    def every(name: str, what: str) -> list[float]:
        return [number for k in range(3) for number in found[f"{name}, noise {k}: {what}"]]

    step = "largest step / alpha_t"
    bounded = within(f"heavy tails: Adam's {step}", max(every("Adam(.5)", step)), high=BOUND)
    if mode == "smoke":
        return [bounded]
    wildest = min(max(a, b) for a, b in zip(every("SGD(.1)", step), every("SGD(1)", step)))
    return [
        bounded,
        within("heavy tails: Adam's final mean error, three streams", every("Adam(.5)", "mean error"), high=0.25),
        within(f"heavy tails: SGD's {step}, smallest of the streams", wildest, 1000),
    ]


CLAIMS = (Claim("moving objective", moving_tasks, check_moving), Claim("heavy-tailed noise", heavy_tasks, check_heavy))

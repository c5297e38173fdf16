"""Where theorem 4.1 fails: the examples of Reddi, Kale & Kumar, "On the Convergence of Adam and Beyond" (2018).

    (i)    f_t(x) = C x if t mod 3 = 1, else -x                beta1 = 0, beta2 = 1 / (1 + C^2)
    (ii)   f_t(x) = 1010 x if t mod 101 = 1, else -10 x        beta1 = 0.9, beta2 = 0.99
    (iii)  f_t(x) = 1010 x with probability 0.01, else -10 x   as (ii)

on [-1, 1], where x = -1 is best. Rate 0.5 / sqrt(t), as in the theorem, x starts at 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from paper.checks import Check, within

from properties.claims import Claim, Numbers, Run, Task
from properties.loops import METHODS, play

ALPHA = 0.5
SLOPES = (3, 4, 10)  # C
GAMES = {  # mode -> rounds T of the three
    "smoke": (20_000, 100_000, 0),
    "short": (200_000, 1_000_000, 0),
    "full": (200_000, 1_000_000, 20_000_000),
}


def cyclic(high: int, low: int, period: int, rounds: int) -> np.ndarray:
    """Slopes (T,): `high` once in a period, -low otherwise."""
    slopes = np.full(rounds, -low, np.int16)
    slopes[::period] = high
    return slopes


def drawn(rounds: int, seed: int) -> np.ndarray:
    """Slopes (T,) of example (iii)."""
    rare = np.random.default_rng([seed, 7]).random(rounds, dtype=np.float32) < 0.01
    return np.where(rare, np.int16(1010), np.int16(-10))


def regret_tasks(run: Run, methods: Mapping[str, int] = METHODS) -> list[Task]:
    def game(slopes: np.ndarray, method: str, beta1: float, beta2: float) -> Iterator[float]:
        yield from play(np.empty(1), slopes, methods[method], ALPHA, beta1, beta2)

    def task(case: str, method: str, slopes: Callable[[], np.ndarray], *betas: float) -> Task:
        names = (f"{case}, {method}: x", f"{case}, {method}: regret")
        return Task(names, lambda: game(slopes(), method, *betas))

    one, two, three = GAMES[run.mode]
    tasks = [
        task(f"(i) C={c}", method, lambda c=c: cyclic(c, 1, 3, one), 0.0, 1 / (1 + c * c))
        for c in SLOPES
        for method in METHODS
    ]
    tasks += [task("(ii)", name, lambda: cyclic(1010, 10, 101, two), 0.9, 0.99) for name in ("Adam", "AMSGrad")]
    if three:
        tasks += [task("(iii)", name, lambda: drawn(three, run.seed), 0.9, 0.99) for name in ("Adam", "AMSGrad")]
    return tasks


def check_regret(found: Numbers, mode: str) -> list[Check]:
    """Adam ends at the worst point; AMSGrad, Adagrad and SGD at the best one.

    In (i) x swings by about alpha_T = .0011 within three rounds, and T leaves one round after the steep one.
    """
    late = mode != "smoke"

    def first(method: str, what: str) -> list[float]:
        return [number for c in SLOPES for number in found[f"(i) C={c}, {method}: {what}"]]

    # the regret of x = 1 is (C - 2) (1 + 1) in three rounds
    known = [2 * (c - 2) / 3 for c in SLOPES for _ in found[f"(i) C={c}, Adam: x"]]
    shares = [regret / limit for regret, limit in zip(first("Adam", "regret"), known)]
    checks = [
        within("(i) C = 3, 4, 10: Adam ends at x", [round(x, 4) for x in first("Adam", "x")], 0.9997 if late else 0.99),
        within("(i) C = 3, 4, 10: Adam's average regret, over 2 (C - 2) / 3", shares, 0.98, 1.02),
    ]
    for method in ("AMSGrad", "AdaGrad"):
        checks.append(within(f"(i): {method} ends at x", first(method, "x"), high=-0.999 if late else -0.99))
        if late:
            checks.append(within(f"(i): {method}'s average regret", first(method, "regret"), high=0.003))
    rounds = GAMES[mode][0]
    away = [(x + 1) / (ALPHA / math.sqrt(rounds)) for x in first("SGD", "x")]
    # at -1 + a after one of its own steps a = alpha_t, at -1 + 2a after two, when C comes: (2 C - 1) a in three rounds
    expected = [2 * (2 * c - 1) * ALPHA / (3 * math.sqrt(rounds)) for c in SLOPES for _ in found[f"(i) C={c}, SGD: x"]]
    ratios = [regret / limit for regret, limit in zip(first("SGD", "regret"), expected)]
    checks += [
        within("(i): SGD ends at -1, but for its last step: distance / alpha_T", away, high=1.01),
        within("(i): SGD's average regret, over 2 (2 C - 1) alpha / (3 sqrt(T))", ratios, 0.9, 1.1),
    ]
    if late:
        checks += [
            within("(ii): Adam ends at x", found["(ii), Adam: x"], 0.99),
            within("(ii): Adam's average regret", found["(ii), Adam: regret"], 0.15),
            within("(ii): AMSGrad ends at x", found["(ii), AMSGrad: x"], high=-0.99),
            within("(ii): AMSGrad's average regret", found["(ii), AMSGrad: regret"], high=0.05),
        ]
    if mode == "full":
        checks += [
            within("(iii): Adam ends at x", found["(iii), Adam: x"], 0.9),
            within("(iii): AMSGrad ends at x", found["(iii), AMSGrad: x"], high=-0.9),
        ]
    return checks


CLAIMS = (Claim("no convergence", regret_tasks, check_regret),)

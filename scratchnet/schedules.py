"""Learning rates as functions of the step t = 1, 2, 3, ...: `Adam(net.params, lr=cosine(1e-3, steps=5000))`.

A step is one update, one minibatch. A schedule keeps no state: the optimizer's own count t is all a resume needs.
Any callable t -> float serves an optimizer as well; these also print themselves, for the record of a run.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from scratchnet.arrays import check_choice, check_integer, check_number


class Schedule:
    """A learning rate as a function of the step.

    Args:
        rate: t -> lr.
        text: how it prints, e.g. "cosine(0.001, steps=5000, minimum=0.0)".
    """

    def __init__(self, rate: Callable[[int], float], text: str) -> None:
        self._rate = rate
        self._text = text

    def __call__(self, t: int) -> float:
        """The learning rate of step t >= 1."""
        return self._rate(check_integer("schedule: t", t, minimum=1))

    def __repr__(self) -> str:
        return self._text


def constant(lr: float) -> Schedule:
    """lr_t = lr."""
    lr = _check_rate("constant", lr)
    return Schedule(lambda t: lr, f"constant({lr})")


def inverse_square_root(lr: float) -> Schedule:
    """lr_t = lr / sqrt(t), the schedule of the Adam paper's regret bound and of its convex experiments."""
    lr = _check_rate("inverse_square_root", lr)
    return Schedule(lambda t: lr / math.sqrt(t), f"inverse_square_root({lr})")


def step(lr: float, every: int, factor: float = 0.1) -> Schedule:
    """lr_t = lr factor^floor((t - 1) / every): `every` steps at lr, then `every` at lr factor, ...; 0 < factor <= 1."""
    lr = _check_rate("step", lr)
    every = check_integer("step: every", every, minimum=1)
    factor = _check_factor("step", factor)
    return Schedule(lambda t: lr * factor ** ((t - 1) // every), f"step({lr}, every={every}, factor={factor})")


def exponential(lr: float, factor: float) -> Schedule:
    """lr_t = lr factor^(t - 1); 0 < factor <= 1, per step and not per epoch."""
    lr = _check_rate("exponential", lr)
    factor = _check_factor("exponential", factor)
    return Schedule(lambda t: lr * factor ** (t - 1), f"exponential({lr}, factor={factor})")


def cosine(lr: float, steps: int, minimum: float = 0.0) -> Schedule:
    """Half a cosine from lr down to minimum, without restarts (Loshchilov & Hutter 2017).

        lr_t = minimum + (lr - minimum) (1 + cos(pi min(t - 1, steps) / steps)) / 2

    The first step is taken at lr; `minimum` is reached at t = steps + 1 and kept.

    Args:
        lr: > 0.
        steps: >= 1, the length of the run.
        minimum: 0 <= minimum <= lr.
    """
    lr = _check_rate("cosine", lr)
    steps = check_integer("cosine: steps", steps, minimum=1)
    minimum = check_number("cosine: minimum", minimum, 0, lr, include_high=True)

    def rate(t: int) -> float:
        return minimum + (lr - minimum) * (1 + math.cos(math.pi * min(t - 1, steps) / steps)) / 2

    return Schedule(rate, f"cosine({lr}, steps={steps}, minimum={minimum})")


def warmup(schedule: Callable[[int], float], steps: int) -> Schedule:
    """Let another schedule in linearly (Goyal et al. 2017).

        lr_t = min(t / steps, 1) schedule(t)

    Args:
        schedule: t -> lr, e.g. cosine(...). It sees the same t: its own clock starts with the warm-up.
        steps: >= 1; step number `steps` is the first at full rate.
    """
    if not callable(schedule):
        raise TypeError(f"warmup: schedule: expected a function t -> lr, got {schedule!r}; constant(lr) makes one")
    steps = check_integer("warmup: steps", steps, minimum=1)
    return Schedule(lambda t: min(t / steps, 1.0) * schedule(t), f"warmup({schedule!r}, steps={steps})")


# What the command line builds from a name, the first learning rate and the number of steps of the whole run.
SCHEDULES: dict[str, Callable[[float, int], Schedule]] = {
    "constant": lambda lr, steps: constant(lr),
    "inverse_square_root": lambda lr, steps: inverse_square_root(lr),
    "step": lambda lr, steps: step(lr, every=-(-steps // 3)),
    "exponential": lambda lr, steps: exponential(lr, factor=0.01 ** (1 / max(steps - 1, 1))),
    "cosine": lambda lr, steps: cosine(lr, steps),
}


def make_schedule(name: str, lr: float, steps: int) -> Schedule:
    """Choose what a name leaves open, for a run of known length.

        constant, inverse_square_root    as they are
        step                             a tenth after each third of the run: lr, lr / 10, lr / 100
        exponential                      from lr to lr / 100 at the last step
        cosine                           from lr towards 0, which the step after the last one would have

    Args:
        name: one of SCHEDULES.
        lr: of the first step, > 0.
        steps: of the whole run, >= 1.
    """
    build = SCHEDULES[check_choice("schedule", name, SCHEDULES)]
    return build(lr, check_integer("make_schedule: steps", steps, minimum=1))


def _check_rate(owner: str, lr: float) -> float:
    return check_number(f"{owner}: lr", lr, 0, include_low=False)


def _check_factor(owner: str, factor: float) -> float:
    return check_number(f"{owner}: factor", factor, 0, 1, include_low=False, include_high=True)

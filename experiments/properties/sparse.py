"""Sparse gradients: logistic regression on bags of words drawn by Zipf's law, as the reviews of figure 1 are.

No reviews are needed: 8000 bags of 80 words out of 10,000, word r with a probability in proportion to 1 / r. A rare
word says as much about the label as a frequent one. Half of the words are dropped in every pass, rates fall as
1 / sqrt(t), and each method is given the best of its rates: so far figure 1's right panel.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import numpy as np
from paper.checks import Check, holds, within
from paper.nesterov import SutskeverNesterov
from scipy.sparse import csr_array

import scratchnet as sn
from properties.claims import Claim, Numbers, Run, Task
from scratchnet import initializers
from scratchnet.layers import Dense, Dropout
from scratchnet.optimizers import Adagrad, Adam, Optimizer, RMSprop
from scratchnet.schedules import constant, inverse_square_root

Make = Callable[..., Optimizer]


def half_decades(first: int, count: int) -> tuple[float, ...]:
    """10^(first/2), 10^((first+1)/2), ..."""
    return tuple(round(10 ** (k / 2), 8) for k in range(first, first + count))


EXTRA = "AdaGrad, extra decay"
METHODS: dict[str, tuple[Make, Callable, tuple[float, ...]]] = {
    "Adam": (Adam, inverse_square_root, half_decades(-7, 12)),
    "AdaGrad": (Adagrad, constant, half_decades(-7, 12)),
    "RMSProp": (functools.partial(RMSprop, alpha=0.9), inverse_square_root, half_decades(-7, 12)),
    "SGDNesterov": (functools.partial(SutskeverNesterov, momentum=0.9), inverse_square_root, half_decades(-6, 12)),
    EXTRA: (Adagrad, inverse_square_root, half_decades(-6, 12)),
}


def bags(rows: int, words: int, seed: int, active: int = 80) -> tuple[csr_array, np.ndarray]:
    """Draw x (N, D), a CSR array of zeros and ones, and labels y (N,) from a logistic model of them.

    The model's weights are drawn for each word alike; the logits are brought to a standard deviation of 3.
    """
    rng = np.random.default_rng([seed, 8])
    share = 1 / np.arange(1, words + 1)
    drawn = rng.choice(words, (rows, 2 * active), p=share / share.sum())
    indices = [first_distinct(row, active) for row in drawn]
    indptr = np.cumsum([0, *map(len, indices)]).astype(np.int32)
    columns = np.concatenate(indices).astype(np.int32)
    x = csr_array((np.ones(len(columns), np.float32), columns, indptr), shape=(rows, words))
    logits = x @ rng.standard_normal(words)
    logits = 3 * (logits - logits.mean()) / logits.std()
    return x, (rng.random(rows) < 1 / (1 + np.exp(-logits))).astype(np.int64)


def first_distinct(words: np.ndarray, count: int) -> np.ndarray:
    """The first `count` distinct ones, sorted."""
    _, places = np.unique(words, return_index=True)
    return np.sort(words[np.sort(places)[:count]])


def dropout_cost(make: Make, schedule: object, run: Run) -> float:
    """The mean cost of the last epoch's batches, dropout on, as the figure shows it."""
    rows, epochs = run.pick(512, 8000, 8000), run.pick(2, 30, 30)
    x, y = bags(rows, run.pick(1000, 10_000, 10_000), run.seed)
    net = sn.Sequential([Dropout(0.5), Dense(2, init=initializers.zeros)], (x.shape[1],), seed=run.seed)
    try:
        progress = sn.train(net, make(net.params, lr=schedule), x, y, epochs, 128, run.seed)
    except ArithmeticError:  # it diverged
        return np.inf
    return progress.history.rows[-1]["loss"]


def sparse_tasks(run: Run, methods: dict = METHODS) -> list[Task]:
    """The best cost over the rates, and the rate."""

    def best(name: str) -> Iterator[float]:
        make, schedule, rates = methods[name]
        rates = rates[:: run.pick(4, 2, 1)]
        costs = [dropout_cost(make, schedule(rate), run) for rate in rates]
        yield from (min(costs), rates[int(np.argmin(costs))])

    return [Task((f"{name}: cost", f"{name}: alpha"), lambda name=name: best(name)) for name in methods]


def check_sparse(found: Numbers, mode: str) -> list[Check]:
    """The figure's ranking: Adam and Adagrad together, momentum behind. The size of the gap is the real data's."""
    if mode == "smoke":
        return []
    cost = {name: found[f"{name}: cost"] for name in METHODS}
    beside = [a - b for a, b in zip(cost["Adam"], cost["AdaGrad"])]
    behind = [s - max(a, g) for a, g, s in zip(cost["Adam"], cost["AdaGrad"], cost["SGDNesterov"])]
    ranked = all(r >= a for a, r in zip(cost["Adam"], cost["RMSProp"]))
    return [
        within("bags of words: Adam's cost - AdaGrad's", beside, -0.02, 0.005),
        within("bags of words: SGDNesterov's cost - the worse of Adam and AdaGrad", behind, 0.005),
        holds("bags of words: RMSProp is not ahead of Adam", ranked, f"{cost['RMSProp']} {cost['Adam']}"),
        within(
            "bags of words: what 1 / sqrt(t) on top of Adagrad's own decay costs",
            [extra - plain for extra, plain in zip(cost[EXTRA], cost["AdaGrad"])],
            0,
            hard=False,
        ),
    ]


CLAIMS = (Claim("sparse features", sparse_tasks, check_sparse),)

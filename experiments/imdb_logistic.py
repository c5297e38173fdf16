"""Figure 1, right, of the Adam paper: logistic regression on bags of words, IMDB, with dropout.

    python experiments/imdb_logistic.py --seed 0 1 2       about 4 minutes on 2 cores; --short 1, --smoke seconds

What the paper states: the 10,000 most frequent words of IMDB's reviews as a bag of words ("highly sparse"), 50 %
dropout on these features, rates that fall as alpha / sqrt(t), minibatches of 128; Adam, AdaGrad, RMSProp and SGD with
Nesterov's momentum, settings from a dense grid.

What it leaves open, and our choice:

    the bag          1 where a word occurs, 0 elsewhere, which is what dropout is usually put on; counts are tried
                     below. 25,000 reviews to train on, 25,000 to test
    dropout          kept words grow by 1 / (1 - .5); absent words stay absent
    first weights    0: the problem is convex
    L2               1e-4, as in the left panel
    the grids        below; every setting is trained for 30 epochs on all reviews, on seed 0
    the cost         mean over the minibatches of a pass, dropout on (the paper's curves end at .24, without dropout it
                     would be far lower); pass k + 1 stands at epoch k
    AdaGrad          both ways, as in mnist_logistic.py. Here the paper's curve is as good as Adam's, which only
                     "AdaGrad, own decay" (a constant alpha) can be: the hard checks are about that one

One hard check fails, and stands. The paper's SGDNesterov ends .10 above AdaGrad; the best of our grid ends .005 above.
Rate and momentum decide: after 30 epochs of the search the best setting is .014 above Adam's best, momentum .9 with a
rate of .03 is .12 above it. Counts of words instead of ones set SGD back further, because frequent words then rule the
rate, but not as far as in the paper: over 176 epochs Adam and AdaGrad end at .247 (the paper: .243), and SGDNesterov at
.263 to .306 for six settings around the best. So the order is the paper's; its distance is not reached by an SGD whose
settings are searched for as densely.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

import numpy as np
import scipy.sparse
from paper.checks import Check, within
from paper.curves import Curve, Task
from paper.figure import Figure, Numbers, one_panel
from paper.nesterov import SutskeverNesterov
from paper.search import grid

from scratchnet.data import Split, load
from scratchnet.models import logistic
from scratchnet.optimizers import Adagrad, Adam, RMSprop
from scratchnet.schedules import inverse_square_root

RATES = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0]
CURVES = [
    Curve("Adam", Adam, grid(lr=RATES), inverse_square_root),
    Curve(
        "SGDNesterov", SutskeverNesterov, grid(lr=[*RATES[3:], 3.0, 10.0], momentum=[0.9, 0.99]), inverse_square_root
    ),
    Curve("AdaGrad", Adagrad, grid(lr=[*RATES[2:], 3.0]), inverse_square_root),
    Curve("AdaGrad, own decay", Adagrad, grid(lr=RATES)),
    Curve("RMSProp", RMSprop, grid(lr=RATES, alpha=[0.9, 0.99, 0.999]), inverse_square_root),
]
EPOCHS = {"full": 176, "short": 30, "smoke": 2}
LAST = 10  # epochs that the checks average over


def make_tasks(args: argparse.Namespace) -> tuple[Task, Task]:
    """The search trains on all reviews for 30 epochs, 5 for --short."""
    train, test = drawn_reviews() if args.mode == "smoke" else _reviews(args.data_dir)
    shape = (train.x.shape[1],)
    task = Task(
        train, test, lambda dropout: logistic(shape, 2, 0.5), shape, EPOCHS[args.mode],
        weight_decay=1e-4, clean_rows=len(train),
    )  # fmt: skip
    return replace(task, epochs={"full": 30, "short": 5, "smoke": 2}[args.mode]), task


def _reviews(data_dir: str | None) -> tuple[Split, Split]:
    data = load("imdb", data_dir)
    return data.train, data.test


def drawn_reviews(count: int = 2000, words: int = 500, length: int = 40) -> tuple[Split, Split]:
    """Bags of words that can be learnt: frequencies by Zipf's law, labels from a linear rule with noise."""
    rng = np.random.default_rng(0)
    frequency = 1 / np.arange(1, words + 1)
    chosen = rng.choice(words, (count, length), p=frequency / frequency.sum())
    bag = scipy.sparse.csr_matrix(
        (np.ones(chosen.size, np.float32), (np.repeat(np.arange(count), length), chosen.ravel())), (count, words)
    )
    bag.data[:] = 1
    y = (bag @ rng.standard_normal(words) + rng.standard_normal(count) > 0).astype(np.int64)
    half = count // 2
    return Split(bag[:half], y[:half]), Split(bag[half:], y[half:])


def check(costs: Numbers, accuracies: Numbers) -> list[Check]:
    """What the paper's figure shows over its last epochs."""
    last = {name: cost[:, -LAST:].mean(axis=1) for name, cost in costs.items()}
    adam, adagrad, nesterov = last["Adam"], last["AdaGrad, own decay"], last["SGDNesterov"]
    wiggle = {name: np.diff(cost[:, 20:], axis=1).std(axis=1) for name, cost in costs.items()}
    return [
        within("last 10 epochs: Adam - AdaGrad", adam - adagrad, -0.02, 0.005),
        within("last 10 epochs: SGDNesterov - AdaGrad", nesterov - adagrad, 0.05),
        within("last 10 epochs: RMSProp - Adam", last["RMSProp"] - adam, 0),
        within("Adam's test accuracy, last epoch", accuracies["Adam"][:, -1], 0.86),
        within("Adam's cost, last 10 epochs", adam, 0.22, 0.27, hard=False),
        within(
            "SGDNesterov's change from epoch to epoch over Adam's (sd)", wiggle["SGDNesterov"] / wiggle["Adam"], 3,
            hard=False,
        ),
        within("AdaGrad with alpha / sqrt(t) as well - Adam", last["AdaGrad"] - adam, 0, hard=False),
    ]  # fmt: skip


def check_short(costs: Numbers, accuracies: Numbers) -> list[Check]:
    """The paper's order after 30 epochs."""
    last = {name: cost[:, -5:].mean(axis=1) for name, cost in costs.items()}
    return [
        within("last 5 epochs: |Adam - AdaGrad|", abs(last["Adam"] - last["AdaGrad, own decay"]), high=0.03),
        within("last 5 epochs: SGDNesterov - Adam", last["SGDNesterov"] - last["Adam"], 0),
        within("Adam's test accuracy, last epoch", accuracies["Adam"][:, -1], 0.86),
    ]


picture = one_panel(
    "1b",
    "IMDB bag of words, logistic regression with dropout: figure 1, right, of the Adam paper",
    ylabel="training cost (nats), dropout on",
    xlim=(0, 175),
    ylim=(0.2, 0.5),
)
FIGURE = Figure("imdb_logistic", __doc__, CURVES, make_tasks, check, check_short, picture)

if __name__ == "__main__":
    sys.exit(FIGURE.main())

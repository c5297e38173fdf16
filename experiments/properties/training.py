"""On a small model: little tuning (the abstract), annealing by the signal-to-noise ratio (2.1), averaging (7.2).

The model is logistic regression on MNIST, on the embedded digits in a smoke run.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import numpy as np
from paper.checks import Check, within

import scratchnet as sn
from properties.claims import Claim, Numbers, Run, Task
from scratchnet import initializers
from scratchnet.layers import Dense, Flatten
from scratchnet.optimizers import SGD, Adam, Optimizer
from scratchnet.optimizers.moments import bias_correction

Make = Callable[..., Optimizer]


def data_of(run: Run) -> tuple[np.ndarray, np.ndarray, int]:
    """(images, labels, batch size)."""
    small = run.mode == "smoke"
    train = sn.data.load("digits" if small else "mnist", run.data_dir).train
    return train.x, train.y, 32 if small else 128


def model(x: np.ndarray, seed: int) -> sn.Sequential:
    return sn.Sequential([Flatten(), Dense(10, init=initializers.zeros)], x.shape[1:], seed=seed)


# --- little tuning -------------------------------------------------------------------------------------------------

RATES = tuple(round(10 ** (k / 2), 8) for k in range(-10, 3))  # 1e-5 ... 10 in half decades
DEFAULT = RATES.index(1e-3)
METHODS: dict[str, Make] = {"Adam": Adam, "SGDNesterov": functools.partial(SGD, momentum=0.9, nesterov=True)}


def final_cost(make: Make, rate: float, run: Run) -> float:
    """The mean cost over the last epoch's batches."""
    x, y, batch_size = data_of(run)
    net = model(x, run.seed)
    epochs = run.pick(3, 3, 10)
    try:
        rows = sn.train(net, make(net.params, lr=rate), x, y, epochs, batch_size, run.seed).history.rows
    except ArithmeticError:  # it diverged
        return np.inf
    return rows[-1]["loss"]


def tuning_tasks(run: Run, methods: dict[str, Make] = METHODS) -> list[Task]:
    return [
        Task((f"{method}, alpha={rate:.4g}",), lambda at=(make, rate): [final_cost(*at, run)])
        for method, make in methods.items()
        for rate in RATES
    ]


def check_tuning(found: Numbers, mode: str) -> list[Check]:
    """How much is lost by not tuning, and how many half decades of rates are good enough."""
    if mode == "smoke":
        return []
    costs = {method: np.array([found[f"{method}, alpha={rate:.4g}"] for rate in RATES]) for method in METHODS}
    good = {method: (cost <= 1.2 * cost.min(axis=0)).sum(axis=0) for method, cost in costs.items()}
    adam = costs["Adam"]
    return [
        within("cost at the default alpha = 1e-3 / at the best", list(adam[DEFAULT] / adam.min(axis=0)), high=1.2),
        within("rates (half decades) within 20 % of the best cost: Adam", list(map(float, good["Adam"])), 3),
        within(
            "the same: SGDNesterov, no more than Adam",
            list(map(float, good["SGDNesterov"])),
            high=float(good["Adam"].min()),
            hard=False,
        ),
    ]


# --- annealing and averaging ---------------------------------------------------------------------------------------


class TemporalAverage:
    """The paper's section 7.2: average <- beta2 average + (1 - beta2) params; value = average / (1 - beta2^t)."""

    def __init__(self, params: np.ndarray, beta2: float = 0.999) -> None:
        self.params, self.beta2, self.t = params, float(params.dtype.type(beta2)), 0
        self.average = np.zeros_like(params)

    def update(self) -> None:
        """Take in the parameters of one more step."""
        self.t += 1
        self.average += (1 - self.beta2) * (self.params - self.average)

    @property
    def value(self) -> np.ndarray:
        """(P,) the corrected average."""
        return self.average / self.params.dtype.type(bias_correction(self.beta2, self.t))


def signal_to_noise(adam: Adam) -> float:
    """Mean |m^ / sqrt(v^)| over the coordinates that ever had a gradient."""
    m, v = adam.state["m"], adam.state["v"]
    corrections = [bias_correction(beta, adam.t) for beta in adam.betas]
    seen = v > 0
    return float(np.mean(np.abs(m[seen]) / np.sqrt(v[seen])) * np.sqrt(corrections[1]) / corrections[0])


QUADRATIC = ("quadratic: error of theta", "quadratic: error of the average", "quadratic: ratio")


def noisy_quadratic(run: Run, make: Make = Adam) -> Iterator[float]:
    """Mean squared distance from the optimum of |x|^2 / 2 in 100 dimensions, gradient noise N(0, 1), alpha = .05."""
    rng = np.random.default_rng([run.seed, 9])
    x = np.ones(100)
    optimizer, average = make(x, lr=0.05), TemporalAverage(x)
    errors = []
    for t in range(6000):
        optimizer.step(x + rng.standard_normal(100))
        average.update()
        if t >= 4000:
            errors.append((np.mean(x**2), np.mean(average.value**2)))
    plain, averaged = np.mean(errors, axis=0)
    yield from (float(plain), float(averaged), float(plain / averaged))


def follow(run: Run, make: Make = Adam, rate: float = 1e-2) -> Iterator[float]:
    """Train at a constant rate; after each epoch: clean cost of theta, of the average, and the epoch's mean SNR."""
    x, y, batch_size = data_of(run)
    net = model(x, run.seed)
    optimizer, average = make(net.params, lr=rate), TemporalAverage(net.params)
    for epoch in range(epochs_of(run)):
        ratios = []
        for xb, yb in sn.data.batches(x, y, batch_size, run.seed, epoch, reuse=True):
            _, dlogits = sn.softmax_cross_entropy(net.forward(xb, train=True), yb)
            net.backward(dlogits)
            optimizer.step(net.grads)
            average.update()
            ratios.append(signal_to_noise(optimizer))
        if epoch == 0:
            yield float(np.mean(ratios[:10]))
        yield sn.evaluate(net, x, y)[0]
        kept = net.params.copy()
        net.params[...] = average.value
        yield sn.evaluate(net, x, y)[0]
        net.params[...] = kept
        yield float(np.mean(ratios))


def epochs_of(run: Run) -> int:
    return run.pick(4, 8, 25)


SERIES = ("theta", "average", "SNR")
START = "SNR, first 10 steps"


def unrest(costs: np.ndarray) -> float:
    """Standard deviation about a straight line: both costs still fall a little."""
    epochs = np.arange(len(costs))
    return float(np.std(costs - np.polyval(np.polyfit(epochs, costs, 1), epochs)))


def series(found: Numbers, what: str, seed: int = 0) -> list[float]:
    """One of SERIES by epoch."""
    numbers = []
    while f"{what}, epoch {len(numbers) + 1}" in found:
        numbers.append(found[f"{what}, epoch {len(numbers) + 1}"][seed])
    return numbers


def averaging_tasks(run: Run, make: Make = Adam) -> list[Task]:
    names = tuple(f"{what}, epoch {epoch}" for epoch in range(1, epochs_of(run) + 1) for what in SERIES)
    return [Task(QUADRATIC, lambda: noisy_quadratic(run, make)), Task((START, *names), lambda: follow(run, make))]


def check_averaging(found: Numbers, mode: str) -> list[Check]:
    """The average is better and steadier. The signal-to-noise ratio starts at 1, whatever the objective, and has fallen
    to that of minibatch noise within the first epoch: at a constant alpha it anneals no further.
    """
    checks = [within("noisy quadratic: error of theta / error of its average", found[QUADRATIC[2]], 3)]
    if mode == "smoke":
        return checks
    last = 10 if mode == "full" else 4
    for seed in range(len(found["theta, epoch 1"])):
        theta, average, snr = (np.array(series(found, what, seed)) for what in SERIES)
        gain = float((theta[-last:] - average[-last:]).min())
        fall = float(found[START][seed] / snr[-1])
        spread = unrest(theta[-last:]) / unrest(average[-last:])
        checks += [
            within(f"cost of theta - cost of the average, least of the last {last} epochs", gain, 0),
            within("their standard deviations about a line over these epochs: ratio", spread, 3, hard=mode == "full"),
            within("SNR: first 10 steps / last epoch", fall, 3),
            within("SNR: first epoch / last epoch", float(snr[0] / snr[-1]), 3, hard=False),
        ]
    return checks


CLAIMS = (
    Claim("little tuning", tuning_tasks, check_tuning),
    Claim("averaging and annealing", averaging_tasks, check_averaging),
)

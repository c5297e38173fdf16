"""Invariance to the scale of gradients, coordinate by coordinate, and what it saves: a rate that need not be tuned."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import numpy as np
from paper.checks import Check, holds, within

import scratchnet as sn
from properties.claims import Claim, Numbers, Run, Task
from scratchnet import initializers
from scratchnet.layers import Dense, Tanh
from scratchnet.optimizers import SGD, Adam, Optimizer

Make = Callable[..., Optimizer]


def regression(rows: int = 2000, features: int = 50, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Ill-conditioned logistic regression: x (N, D) with feature scales e^-3 ... e^3, y (N,) drawn from the model.

    Each feature matters as much as the others: its true weight is the smaller, the larger it is.
    """
    rng = np.random.default_rng([seed, 3])
    scales = np.exp(np.linspace(-3, 3, features))
    standard = rng.standard_normal((rows, features))
    logits = standard @ rng.standard_normal(features) * 4 / np.sqrt(features)
    return standard * scales, (rng.random(rows) < 1 / (1 + np.exp(-logits))).astype(np.int64)


# --- rescaled gradients --------------------------------------------------------------------------------------------


def separation(make: Make, exponents: np.ndarray | float, dtype: str, steps: int, seed: int, **arguments) -> float:
    """Train two nets, the second with gradients scaled by 2^exponents; return how far their parameters differ.

    The features have no zeros and tanh never dies, so no gradient is exactly 0 (0 / 0 with eps = 0).

    Args:
        exponents: of one parameter each, drawn from -exponents ... exponents.
        arguments: of the optimizer.

    Returns:
        max |difference| / max |parameter|; 0 means the same bits.
    """
    x, y = regression(256, 20, seed)
    nets = [sn.Sequential([Dense(16), Tanh(), Dense(2)], (20,), seed=seed, dtype=dtype) for _ in range(2)]
    optimizers = [make(net.params, **arguments) for net in nets]
    rng = np.random.default_rng([seed, 4])
    scales = np.exp2(rng.integers(-exponents, exponents + 1, nets[0].params.size)).astype(dtype)
    for _ in range(steps):
        for net, optimizer, scale in zip(nets, optimizers, (np.ones_like(scales), scales)):
            _, dlogits = sn.softmax_cross_entropy(net.forward(x.astype(dtype), train=True), y)
            net.backward(dlogits)
            optimizer.step(net.grads * scale)
    a, b = (net.params for net in nets)
    return float(np.abs(a - b).max() / np.abs(a).max())


RESCALED = {
    "Adam, eps=0, float64": (Adam, 20, "float64", {"eps": 0}),
    "Adam, eps=0, float32": (Adam, 20, "float32", {"eps": 0}),
    "Adam, eps=1e-8, float64": (Adam, 20, "float64", {}),
    "SGD, float64": (functools.partial(SGD, lr=1e-3), 4, "float64", {}),
}


def rescaling_tasks(run: Run, adam: Make = Adam) -> list[Task]:
    def differ(make: Make, exponents: int, dtype: str, arguments: dict) -> Iterator[float]:
        yield separation(adam if make is Adam else make, exponents, dtype, 200, run.seed, **arguments)

    return [Task((name,), lambda setting=setting: differ(*setting)) for name, setting in RESCALED.items()]


def check_rescaling(found: Numbers, mode: str) -> list[Check]:
    """Bit-identical with eps = 0 only: the statement is not about eps."""
    exact = [number for name in RESCALED if "eps=0" in name for number in found[name]]
    return [
        within("gradients scaled by 2^-20 ... 2^20, eps = 0: parameters after 200 steps differ by", exact, 0, 0),
        within("the same with eps = 1e-8: visibly", found["Adam, eps=1e-8, float64"], 1e-6),
        within("SGD, scales 2^-4 ... 2^4: visibly", found["SGD, float64"], 1e-6),
    ]


# --- rescaled losses -----------------------------------------------------------------------------------------------

SCALES = (1e-3, 1.0, 1e3)
RATES = tuple(round(10 ** (k / 2), 8) for k in range(-14, 3))  # 1e-7 ... 10 in half decades
METHODS: dict[str, Make] = {"Adam": Adam, "SGDNesterov": functools.partial(SGD, momentum=0.9, nesterov=True)}


def name_of(method: str, scale: float, rate: float) -> str:
    return f"{method}, loss x {scale:g}, alpha={rate:.4g}"


def trained_cost(make: Make, scale: float, rate: float, run: Run) -> float:
    """The clean cost of logistic regression after 5 epochs of batches of 32, trained on `scale` times the loss."""
    x, y = regression(run.pick(256, 2000, 2000), seed=run.seed)
    net = sn.Sequential([Dense(2, init=initializers.zeros)], x.shape[1:], dtype="float64")
    optimizer = make(net.params, lr=rate)
    for epoch in range(5):
        for xb, yb in sn.data.batches(x, y, 32, run.seed, epoch, dtype="float64", reuse=True):
            _, dlogits = sn.softmax_cross_entropy(net.forward(xb, train=True), yb)
            net.backward(scale * dlogits)
            optimizer.step(net.grads)
    cost, _ = sn.evaluate(net, x, y)
    return cost if np.isfinite(cost) else np.inf


def sweep_tasks(run: Run, methods: dict[str, Make] = METHODS) -> list[Task]:
    return [
        Task((name_of(method, scale, rate),), lambda at=(make, scale, rate): [trained_cost(*at, run)])
        for method, make in methods.items()
        for scale in SCALES
        for rate in RATES
    ]


def best_rate(found: Numbers, method: str, scale: float, seed: int = 0) -> int:
    """The index of the rate with the lowest cost."""
    return int(np.argmin([found[name_of(method, scale, rate)][seed] for rate in RATES]))


def check_sweep(found: Numbers, mode: str) -> list[Check]:
    """Adam's best rate stays where it is; that of SGD moves with the inverse of the scale."""
    checks = []
    for seed in range(len(found[name_of("Adam", 1.0, RATES[0])])):
        best = {method: [best_rate(found, method, scale, seed) for scale in SCALES] for method in METHODS}
        shown = {method: ", ".join(f"{RATES[i]:.3g}" for i in indices) for method, indices in best.items()}
        costs = [found[name_of("Adam", scale, RATES[i])][seed] for scale, i in zip(SCALES, best["Adam"])]
        decades = abs(best["SGDNesterov"][0] - best["SGDNesterov"][-1]) / 2
        checks += [
            holds("loss x 1e-3, 1, 1e3: Adam's best alpha is the same", len(set(best["Adam"])) == 1, shown["Adam"]),
            within("Adam's best costs differ by", max(costs) - min(costs), high=1e-3),
            within(f"SGD's best alpha ({shown['SGDNesterov']}) moves by decades", decades, 2),
        ]
    return checks


CLAIMS = (
    Claim("rescaled gradients", rescaling_tasks, check_rescaling),
    Claim("rescaled loss", sweep_tasks, check_sweep),
)

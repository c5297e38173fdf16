"""Time whole training steps, and what each layer, the loss and the optimizer take of one.

A step is forward, loss, backward and Adam, on random inputs of the real shapes: times hardly depend on the numbers.
The parts are timed in steps of their own, one clock reading after each, in turns with whole steps without a clock. A
chain of dense layers, which a whole step runs as one, is taken apart for that: small layers take longer so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import chain, pairwise
from statistics import median
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse

from scratchnet import kernels, losses, reference
from scratchnet.bench.cases import csr_batch
from scratchnet.bench.timing import Timing, Variant, first_call, measure
from scratchnet.layers import Conv2d, Dense, Flatten, MaxPool2d, ReLU
from scratchnet.layers.base import Layer
from scratchnet.layers.joined import DenseChain
from scratchnet.models import MODELS
from scratchnet.network import Sequential
from scratchnet.optimizers import Adam

WORDS = 10_000


class Net(NamedTuple):
    """A net to train: name, layers, shape of an example, batch size. One unit at its end is a logit of two classes."""

    name: str
    layers: Callable[[], list[Layer]]
    input_shape: tuple[int, ...]
    batch: int = 128


class Part(NamedTuple):
    """Seconds that one unit of a net takes in a step."""

    name: str
    forward: float
    backward: float


class StepTimes(NamedTuple):
    """A step: whole, on NumPy's floor, on one thread and on all; and its parts, on all."""

    net: str
    reference: Timing
    one: Timing
    all: Timing
    first: float
    parts: list[Part]
    loss: float
    optimizer: float

    @property
    def total(self) -> float:
        """The sum of the parts."""
        return sum(part.forward + part.backward for part in self.parts) + self.loss + self.optimizer


def _mlp(*units: int) -> Callable[[], list[Layer]]:
    def layers() -> list[Layer]:
        hidden: list[Layer] = [layer for u in units[:-1] for layer in (Dense(u), ReLU())]
        return [*hidden, Dense(units[-1])]

    return layers


def _cnn() -> list[Layer]:
    convs: list[Layer] = [layer for u in (32, 64) for layer in (Conv2d(u, 3), ReLU(), MaxPool2d(2))]
    return [*convs, Flatten(), Dense(128), ReLU(), Dense(10)]


def _cifar() -> list[Layer]:
    convs: list[Layer] = []
    for u in (64, 64, 128):
        convs += [Conv2d(u, 5, padding=2), ReLU(), MaxPool2d(3, 2, padding=1)]
    return [*convs, Flatten(), Dense(1000), ReLU(), Dense(10)]


def _default() -> list[Layer]:
    return MODELS["cnn"]((32, 32, 3), 10, 0.1)


NETS = (
    Net("digits MLP 64-64-10", _mlp(64, 10), (64,), 32),
    Net("MNIST logistic 784-10", _mlp(10), (784,)),
    Net("MNIST MLP 784-1000-1000-10", _mlp(1000, 1000, 10), (784,)),
    Net("MNIST CNN 32-64-128, 3x3", _cnn, (28, 28, 1)),
    Net("CIFAR-10 CNN 64-64-128-1000, 5x5", _cifar, (32, 32, 3)),
    Net("CIFAR-10 CNN of scratchnet train", _default, (32, 32, 3)),
    Net("IMDB logistic 10,000-1, CSR", _mlp(1), (WORDS,)),
)


def units(net: Sequential) -> list[tuple[str, Callable[[Any], Any], Callable[[Any], Any]]]:
    """(name, forward, backward) of what the net runs, one after another: the one place to adapt to how it does."""
    parts = [step.chain if isinstance(step, DenseChain) else (step,) for step in net._steps]
    first_trained = sum(map(len, parts[: net._first_trained]))

    def unit(index: int, layer: Layer) -> tuple[str, Callable[[Any], Any], Callable[[Any], Any]]:
        wanted = index > first_trained
        reached = index >= first_trained
        backward = (lambda dy: layer.backward(dy, wanted)) if reached else (lambda dy: None)
        return repr(layer), lambda x: layer.forward(x, True), backward

    return [unit(index, layer) for index, layer in enumerate(chain.from_iterable(parts))]


class Training:
    """A net with a batch, ready to be trained on it again and again.

    Attributes:
        marks: of the last call of `parts`, the seconds of each forward, the loss, each backward, and the optimizer.
    """

    def __init__(self, net: Net, ops: ModuleType) -> None:
        rng = np.random.default_rng(0)
        self.net = Sequential(net.layers(), net.input_shape, ops=ops)
        self.adam = Adam(self.net.params, lr=1e-6, ops=ops)
        self.x: Any = rng.standard_normal((net.batch, *net.input_shape), np.float32)
        if net.input_shape == (WORDS,):
            indptr, indices, data = csr_batch(rng, net.batch, WORDS)
            self.x = scipy.sparse.csr_array((data, indices, indptr), shape=(net.batch, WORDS))
        classes = self.net.output_shape[0]
        self.loss: Any = losses.softmax_cross_entropy if classes > 1 else losses.binary_cross_entropy
        labels = rng.integers(0, max(2, classes), net.batch)
        self.y = labels if classes > 1 else labels[:, np.newaxis].astype(np.float32)
        self.units = units(self.net)
        self.marks: list[float] = []

    def whole(self) -> None:
        """One step, as training.py does it."""
        _, dy = self.loss(self.net.forward(self.x, train=True), self.y, ops=self.net.ops)
        self.net.backward(dy)
        self.adam.step(self.net.grads)

    def parts(self) -> None:
        """The same step, with a clock reading after each part."""
        marks, y = [time.perf_counter()], self.x
        for _, forward, _ in self.units:
            y = forward(y)
            marks.append(time.perf_counter())
        _, dy = self.loss(y, self.y, ops=self.net.ops)
        marks.append(time.perf_counter())
        for _, _, backward in reversed(self.units):
            dy = backward(dy)
            marks.append(time.perf_counter())
        self.adam.step(self.net.grads)
        marks.append(time.perf_counter())
        self.marks = [later - earlier for earlier, later in pairwise(marks)]


def time_steps(threads: int, seconds: float, wanted: Callable[[str], bool] = lambda name: True) -> Iterator[StepTimes]:
    """Measure a step of each net that is wanted by name."""
    for net in NETS:
        if wanted(net.name):
            yield _time_step(net, threads, seconds)


def _time_step(net: Net, threads: int, seconds: float) -> StepTimes:
    fast, plain = Training(net, kernels), Training(net, reference)
    marks: list[list[float]] = []
    variants = {
        "reference": Variant(plain.whole, threads),
        "one": Variant(fast.whole, 1),
        "all": Variant(fast.whole, threads),
        "parts": Variant(fast.parts, threads, counted=lambda: marks.append(fast.marks)),
    }
    with np.errstate(all="ignore"):
        first = first_call(variants["one"]) + first_call(variants["all"])
        first_call(variants["parts"])  # joined layers run apart there
        times = measure(variants, seconds)
    *layers, optimizer = (median(column) for column in zip(*marks))
    count = len(fast.units)
    forward, loss, backward = layers[:count], layers[count], layers[:count:-1]
    parts = [Part(unit[0], f, b) for unit, f, b in zip(fast.units, forward, backward)]
    whole = {name: times[name] for name in ("reference", "one", "all")}
    return StepTimes(
        f"{net.name}, batch {net.batch}", **whole, first=first, parts=parts, loss=loss, optimizer=optimizer
    )

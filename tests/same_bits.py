"""Train four nets on each of several thread counts and print, as JSON, a hash of all weights: for test_same_bits.py.

    PYTHONPATH=.:experiments NUMBA_NUM_THREADS=7 python tests/same_bits.py 1 2 3 4 7

It runs in a process of its own because a process can't have more threads than it started with. The nets are small, but
their arrays and products are past the sizes from which kernels run in parallel; which ones did so is printed, too.
"""

from __future__ import annotations

import functools
import hashlib
import json
import sys
from collections.abc import Callable

import numpy as np
import scipy.sparse
from vae import VAE

import scratchnet as sn
from scratchnet.kernels import jit
from scratchnet.layers import BatchNorm2d, Conv2d, Dense, Dropout, Flatten, MaxPool2d, ReLU

STEPS = 200
BATCHES = 4  # different ones, taken in turn


def train(net: sn.Sequential, draw: Callable[[np.random.Generator], tuple], loss=sn.softmax_cross_entropy) -> list:
    """Do all steps; returns what has been learned."""
    rng = np.random.default_rng(0)
    rounds = [draw(rng) for _ in range(BATCHES)]
    adam = sn.Adam(net.params)
    for step in range(STEPS):
        x, y = rounds[step % BATCHES]
        _, dlogits = loss(net.forward(x, train=True), y)
        net.backward(dlogits)
        adam.step(net.grads)
    return [net.params, *net.state().values()]


def mlp() -> list[np.ndarray]:
    """256-520-10 on batches of 256."""
    net = sn.Sequential([Dense(520), ReLU(), Dropout(0.1), Dense(10)], (256,))
    return train(net, lambda rng: (rng.random((256, 256), dtype=np.float32), rng.integers(0, 10, 256)))


def cnn() -> list[np.ndarray]:
    """A 5x5 and a 3x3 convolution, which Winograd's transforms serve where they are switched on."""
    layers = [Conv2d(32, 5, padding="same"), ReLU(), MaxPool2d(2), Conv2d(32, 3, padding="same", bias=False)]
    net = sn.Sequential([*layers, BatchNorm2d(), ReLU(), MaxPool2d(2), Flatten(), Dense(530), Dense(10)], (16, 16, 4))
    return train(net, lambda rng: (rng.random((20, 16, 16, 4), dtype=np.float32), rng.integers(0, 10, 20)))


ROWS = range(700)  # of a batch of texts


def imdb() -> list[np.ndarray]:
    """One dense layer of 1, 2 and 16 units on rows of about a hundred words each, some of them often."""

    def draw(rng: np.random.Generator, units: int) -> tuple:
        words = np.concatenate([np.unique((9_000 * rng.random(120) ** 3).astype(np.int32)) + 9_000 * n for n in ROWS])
        rows, columns = words // 9_000, words % 9_000
        x = scipy.sparse.csr_matrix((np.ones(len(words), np.float32), (rows, columns)), shape=(len(ROWS), 9_000))
        y = rng.integers(0, max(2, units), len(ROWS))
        return x, y if units > 1 else y[:, np.newaxis].astype(np.float32)

    weights = []
    for units in (1, 2, 16):
        loss = sn.softmax_cross_entropy if units > 1 else sn.binary_cross_entropy
        weights += train(sn.Sequential([Dense(units)], (9_000,)), functools.partial(draw, units=units), loss)
    return weights


def vae() -> list[np.ndarray]:
    """260-460-20 on batches of 300."""
    rng = np.random.default_rng(0)
    model = VAE(260, hidden=460, latent=20)
    x = [rng.random((300, 260), dtype=np.float32) for _ in range(BATCHES)]
    for step in range(STEPS):
        model.step(x[step % BATCHES], step)
    return [model.encoder.params, model.decoder.params]


def run(train_net: Callable[[], list[np.ndarray]], threads: int) -> tuple[str, list[str]]:
    """Train on so many threads; returns the hash of the weights and the names of the kernels that ran in parallel."""
    sn.threads.set_threads(threads)
    parallel_ones = set()
    launch = jit.Kernel.launch

    def noted(kernel: jit.Kernel, parallel: bool, *args: object) -> None:
        if parallel:
            parallel_ones.add(kernel.__name__)
        launch(kernel, parallel, *args)

    jit.Kernel.launch = noted
    try:
        weights = train_net()
    finally:
        jit.Kernel.launch = launch
    assert all(np.isfinite(array).all() for array in weights)
    return hashlib.sha256(b"".join(array.tobytes() for array in weights)).hexdigest(), sorted(parallel_ones)


if __name__ == "__main__":
    print(json.dumps({f.__name__: {n: run(f, int(n)) for n in sys.argv[1:]} for f in (mlp, cnn, imdb, vae)}))

"""A steady training step asks for no memory: the buffers of the step before serve again.

Two ways to see it. Python and NumPy tell tracemalloc what they allocate. Numba does not, but a kernel that makes an
array calls NRT_MemInfo_alloc, and its machine code names what it calls.
"""

from __future__ import annotations

import importlib
import math
import pkgutil
import sys
import tracemalloc

import numpy as np
import pytest
import scipy.sparse

from scratchnet import Sequential, kernels, threads
from scratchnet.data.batches import batches
from scratchnet.kernels.jit import Kernel, kernel
from scratchnet.layers import Dense, ReLU
from scratchnet.losses import mse, softmax_cross_entropy
from scratchnet.models import cnn, logistic, mlp
from scratchnet.optimizers import Adam, clip_grad_norm
from scratchnet.training import train

pytestmark = pytest.mark.jit_only

ROWS, BATCH = 1024, 256  # many rows: what is allocated for each of them must not pass for Python's objects
LIMIT = 10 * 1024  # bytes of one call together: 4 KiB of numbers, and Python's own objects, of which 3 to 6 were seen


def sparse_rows(rng):
    return scipy.sparse.random_array((ROWS, 2000), density=0.05, format="csr", rng=rng, dtype=np.float32)


NETS = {
    "mlp": (lambda: mlp((784,), 10, 0.2), (784,), lambda rng: rng.integers(0, 256, (ROWS, 784), dtype=np.uint8)),
    "cnn": (lambda: cnn((16, 16, 3), 10, 0.2), (16, 16, 3), lambda rng: rng.integers(0, 256, (ROWS, 16, 16, 3), "u1")),
    "sparse": (lambda: logistic((2000,), 2, 0.2), (2000,), sparse_rows),
}


class Step:
    """A net with all that a step needs; `calls` yields the parts of one step as (name, function)."""

    def __init__(self, name):
        layers, shape, rows = NETS[name]
        rng = np.random.default_rng(0)
        self.net = Sequential(layers(), shape)
        self.optimizer = Adam(self.net.params)
        classes = self.net.output_shape[0]
        x, y = rows(rng), rng.integers(0, classes, ROWS)
        self.data = (batches(x, y, BATCH, epoch=epoch, reuse=True) for epoch in range(99))
        self.batches = next(self.data)
        self.gradient = np.empty((BATCH, classes), np.float32)

    def next_batch(self):
        self.x, self.y = next(self.batches)

    def forward(self):
        self.outputs = self.net.forward(self.x, train=True)

    def loss(self):
        softmax_cross_entropy(self.outputs, self.y, out=self.gradient)

    def backward(self):
        self.net.backward(self.gradient)

    def clip(self):
        clip_grad_norm(self.net.grads, math.inf)

    def update(self):
        self.optimizer.step(self.net.grads)

    PARTS = ("next_batch", "forward", "loss", "backward", "clip", "update")

    def peaks(self, steps):
        """part -> the least memory it asked for in one of the steps, in bytes."""
        found = {part: [] for part in self.PARTS}
        for _ in range(steps):
            for part in self.PARTS:
                tracemalloc.reset_peak()
                before = tracemalloc.get_traced_memory()[0]
                getattr(self, part)()
                found[part].append(tracemalloc.get_traced_memory()[1] - before)
        return {part: min(peaks) for part, peaks in found.items()}


def steady_peaks(name, spoil=lambda step: None):
    """The memory of each part of a step, after some to warm up."""
    step = Step(name)
    spoil(step)
    for part in Step.PARTS:  # compiles, which takes long where memory is traced
        getattr(step, part)()
    tracer = sys.gettrace()  # of a coverage run: it allocates in Python's name
    sys.settrace(None)
    tracemalloc.start()
    try:
        step.peaks(1)
        return step.peaks(2)
    finally:
        tracemalloc.stop()
        sys.settrace(tracer)


@pytest.mark.parametrize("name", NETS)
def test_a_steady_step_allocates_nothing(name):
    assert {part: peak for part, peak in steady_peaks(name).items() if peak > LIMIT} == {}


def training_peaks(loss):
    """The memory that train() asks for from one batch to the next, in bytes."""
    rng, peaks = np.random.default_rng(0), []
    net = Sequential([Dense(64), ReLU(), Dense(16)], (20,))
    x, y = rng.random((16 * BATCH, 20), np.float32), rng.random((16 * BATCH, 16), np.float32)

    def look():
        peaks.append(tracemalloc.get_traced_memory()[1] - tracemalloc.get_traced_memory()[0])
        tracemalloc.reset_peak()
        return False

    train(net, Adam(net.params), x, y, batch_size=BATCH, loss=loss)  # compiles
    tracer = sys.gettrace()
    sys.settrace(None)
    tracemalloc.start()
    try:
        train(net, Adam(net.params), x, y, batch_size=BATCH, loss=loss, should_stop=look)
    finally:
        tracemalloc.stop()
        sys.settrace(tracer)
    return sorted(peaks[4:-1])


def test_the_training_loop_allocates_nothing_either():
    """A gradient of 256 rows of 16 numbers is 16 KiB: a loss of one's own makes a new one at every step."""
    assert training_peaks(mse)[0] <= LIMIT
    assert training_peaks(lambda outputs, y, ops: mse(outputs, y, ops=ops))[0] > LIMIT


@pytest.mark.parametrize("part", Step.PARTS)
def test_an_array_of_2000_numbers_is_seen(part, monkeypatch):
    whole = getattr(Step, part)
    monkeypatch.setattr(Step, part, lambda self: (np.zeros(2000), whole(self)))
    assert [p for p, peak in steady_peaks("mlp").items() if peak > LIMIT] == [part]


def allocates(body):
    """Whether a compiled kernel makes an array: its machine code in the cache has the names of what it calls."""
    kept, codegen = body._cache, body.targetctx.codegen()
    for signature in body.overloads:
        (_, _, (machine_code, _)), *_ = kept._cache_file.load(kept._index_key(signature, codegen))
        if b"NRT_MemInfo_alloc" in machine_code:
            return True
    return False


@pytest.fixture
def one_thread():
    count = threads.get_threads()
    threads.set_threads(1)
    yield
    threads.set_threads(count)


def test_no_kernel_makes_an_array(one_thread):
    for name in NETS:
        Step(name).peaks(1)  # on one thread all kernels are serial, and those are looked at
    compiled = []
    for module in pkgutil.iter_modules(kernels.__path__):
        for name, value in vars(importlib.import_module(f"scratchnet.kernels.{module.name}")).items():
            if isinstance(value, Kernel) and value.serial.signatures:
                compiled.append(name)
                assert not allocates(value.serial), f"{module.name}.{name} makes an array: take one from workspace()"
    assert {"adam_update", "softmax_cross_entropy", "_few_units", "_squared_norm"} <= set(compiled)


def test_an_array_made_in_a_kernel_is_seen():
    @kernel
    def planted(out):
        room = np.zeros(2000)
        for i in range(room.size):
            room[i] += i
        out[0] = room.sum() + room[out.size]

    planted.serial(np.zeros(1))
    assert allocates(planted.serial)

"""What an optimizer costs: its memory to the byte, its time beside that of the gradient."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np
from paper.checks import Check, within

import scratchnet as sn
from properties.claims import Claim, Numbers, Run, Task
from scratchnet import optimizers
from scratchnet.layers import Dense, ReLU
from scratchnet.optimizers import Adam, Optimizer

Make = Callable[..., Optimizer]

# (class, arguments) -> arrays of the size of the parameters that it keeps
STATES: dict[str, tuple[str, dict, int]] = {
    "SGD": ("SGD", {}, 0),
    "SGD, momentum": ("SGD", {"momentum": 0.9}, 1),
    "SGD, Nesterov": ("SGD", {"momentum": 0.9, "nesterov": True}, 1),
    "Adagrad": ("Adagrad", {}, 1),
    "RMSprop": ("RMSprop", {}, 1),
    "Lion": ("Lion", {}, 1),
    "Adam": ("Adam", {}, 2),
    "AdamW": ("AdamW", {}, 2),
    "Adamax": ("Adamax", {}, 2),
    "NAdam": ("NAdam", {}, 2),
    "RAdam": ("RAdam", {}, 2),
    "Adadelta": ("Adadelta", {}, 2),
    "RMSprop, momentum": ("RMSprop", {"momentum": 0.9}, 2),
    "RMSprop, centred": ("RMSprop", {"centered": True}, 2),
    "Adam, AMSGrad": ("Adam", {"amsgrad": True}, 3),
    "RMSprop, centred, momentum": ("RMSprop", {"centered": True, "momentum": 0.9}, 3),
}


def paper_mlp(width: int) -> sn.Sequential:
    """The net of the paper's figure 2: 784 - width - width - 10."""
    return sn.Sequential([Dense(width), ReLU(), Dense(width), ReLU(), Dense(10)], (784,))


def parameter_count(width: int) -> int:
    return 785 * width + (width + 1) * width + (width + 1) * 10


def width_of(mode: str) -> int:
    return 32 if mode == "smoke" else 1000


# --- memory --------------------------------------------------------------------------------------------------------


def state_bytes(optimizer: Optimizer) -> int:
    """The bytes of all arrays that a checkpoint of the optimizer holds beside the parameters."""
    return sum(array.nbytes for array in optimizer.state_dict()["arrays"].values())


def memory_tasks(run: Run) -> list[Task]:
    params = np.zeros(parameter_count(width_of(run.mode)), np.float32)

    def count(name: str) -> Iterator[float]:
        kind, arguments, _ = STATES[name]
        yield state_bytes(getattr(optimizers, kind)(params, **arguments))

    return [Task((f"{name}: bytes",), lambda name=name: count(name)) for name in STATES]


def check_memory(found: Numbers, mode: str) -> list[Check]:
    """Exactly 4 bytes for each parameter and array: two arrays for Adam."""
    size = 4 * parameter_count(width_of(mode))
    checks = []
    for k in range(4):
        names = [name for name, (_, _, arrays) in STATES.items() if arrays == k]
        arrays = [number / size for name in names for number in found[f"{name}: bytes"]]
        checks.append(within(f"bytes of state / bytes of parameters: {'; '.join(names)}", arrays, k, k))
    return checks


# --- time ----------------------------------------------------------------------------------------------------------

TIMED = ("gradient, ms", "Adam, ms", "optimizer time / gradient time")


def time_step(run: Run, adam: Make = Adam) -> Iterator[float]:
    """Medians of forward and backward at batch 128, and of Adam's step after it, in the order of a training loop."""
    rng = np.random.default_rng(run.seed)
    net = paper_mlp(width_of(run.mode))
    optimizer = adam(net.params, lr=1e-6)  # hardly moves: the numbers stay as they are at the start of training
    x, y = rng.random((128, 784), dtype=np.float32), rng.integers(0, 10, 128)
    gradient, update = [], []
    for _ in range(run.pick(5, 40, 150)):
        start = time.perf_counter()
        _, dlogits = sn.softmax_cross_entropy(net.forward(x, train=True), y)
        net.backward(dlogits)
        between = time.perf_counter()
        optimizer.step(net.grads)
        gradient.append(1e3 * (between - start))
        update.append(1e3 * (time.perf_counter() - between))
    medians = statistics.median(gradient[2:]), statistics.median(update[2:])
    yield from (*medians, medians[1] / medians[0])


def time_tasks(run: Run, adam: Make = Adam) -> list[Task]:
    return [Task(TIMED, lambda: time_step(run, adam))]


def check_time(found: Numbers, mode: str) -> list[Check]:
    if mode == "smoke":
        return []
    return [within("Adam's time / the gradient's, 784-1000-1000-10, batch 128", found[TIMED[2]], high=0.4, hard=False)]


CLAIMS = (Claim("memory", memory_tasks, check_memory), Claim("time", time_tasks, check_time))

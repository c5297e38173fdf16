"""The race: one process per framework, driven in turn, each under the environment that suits it best."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from scratchnet.bench.timing import SETTLE
from versus.nets import MODULES, OURS, Net

HERE = Path(__file__).resolve().parent.parent
STEPS_OF_CHECK = 20
TOLERANCE = 1e-3  # of the losses over these steps, relative
BLOCK_STEPS = 300  # a block starts again from the first weights: no framework trains into another range of numbers
ROUNDS = 5  # at least, however long a step takes
PAUSE = 0.003  # s between blocks: a pool that spins before it sleeps must be asleep
POLICIES = {
    "default": {},
    "passive, spin 10000": {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "10000"},
    "synchronous": {"JAX_CPU_ENABLE_ASYNC_DISPATCH": "0"},
}
WORTH_TRYING = {"torch": ["default", "passive, spin 10000"], "jax": ["default", "synchronous"]}  # by prefix of the name


@dataclass
class Settings:
    """How to measure."""

    threads: int
    seconds: float  # of the race of one net
    smoke: bool
    load: float | None = None  # average of the machine before the race


@dataclass
class Entry:
    """What became of one framework on one net; `times` is one list of milliseconds per round."""

    name: str
    policy: str = ""
    version: str = ""
    note: str = ""
    deviation: float = float("nan")
    times: list[list[float]] = field(default_factory=list)
    start: dict[str, float] = field(default_factory=dict)

    @property
    def counts(self) -> bool:
        """Was it timed, doing what the others do?"""
        return bool(self.times)

    def all_times(self) -> np.ndarray:
        """All its steps."""
        return np.concatenate(self.times)


class Worker:
    """A framework's process. A dead one raises RuntimeError with what it wrote last."""

    def __init__(
        self, name: str, net: Net, material: Path, settings: Settings, policy: str = "default", **more: str
    ) -> None:
        self.name, self.policy = name, policy
        threads = str(settings.threads)
        counts = dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads)
        unset = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
        env = {key: value for key, value in os.environ.items() if key not in unset}
        env |= counts | {"TORCHINDUCTOR_COMPILE_THREADS": "1"} | POLICIES[policy] | more
        env["PYTHONPATH"] = os.pathsep.join([str(HERE), str(HERE.parent), env.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  (lives as long as the process)
        command = [sys.executable, "-m", "versus.worker", name, net.name, str(material), threads]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self.errors, text=True, env=env)
        self.facts = self._answer()

    def ask(self, *command: object):
        """Send a command and wait for its answer."""
        with contextlib.suppress(BrokenPipeError):  # it is dead, as there is no answer
            print(*command, file=self.process.stdin, flush=True)
        return self._answer()

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            self.close()
            self.errors.seek(0)
            lines = self.errors.read().strip().splitlines() or ["it wrote nothing"]
            errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)] or lines
            raise RuntimeError(f"ended with status {self.process.returncode}: {errors[-1][:200]}")
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def absent(name: str) -> str:
    """The packages that a framework needs and this Python has not, or ""."""
    return ", ".join(package for package in MODULES[name][1] if importlib.util.find_spec(package) is None)


def deviation(losses: list[float], expected: list[float]) -> float:
    """The largest relative difference of two trajectories; infinite where one has another length or is not finite."""
    ours, theirs = np.array(losses, np.float64), np.array(expected, np.float64)
    if ours.shape != theirs.shape or not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        return float("inf")
    return float(np.max(np.abs(ours - theirs) / np.abs(theirs)))


def run_race(net: Net, peers: list[str], material: Path, settings: Settings) -> list[Entry]:
    """Check and time all frameworks on one net; scratchnet's entry comes first."""
    entries = {name: Entry(name) for name in (OURS, *peers)}
    workers = _start_all(net, entries, material, settings)
    try:
        rivals = _check(workers, entries)
        rivals = _choose(rivals, entries, settings)
        rivals = _time(rivals, entries, settings)
    finally:
        for worker in workers:
            worker.close()
    for worker in rivals:
        try:
            _measure_start(worker, net, entries[worker.name], material, settings)
        except RuntimeError as error:
            entries[worker.name].note = f"timed, but could not be started again: it {error}"
    return list(entries.values())


def _start_all(net: Net, entries: dict[str, Entry], material: Path, settings: Settings) -> list[Worker]:
    workers = []
    for name, entry in entries.items():
        if missing := absent(name):
            entry.note = f"skipped: {missing} not installed"
            continue
        policies = WORTH_TRYING.get(name.split("-")[0], ["default"])
        for policy in policies[: 1 if settings.smoke else None]:
            try:
                workers.append(Worker(name, net, material, settings, policy))
                entry.version, entry.note = workers[-1].facts["version"], ""
            except RuntimeError as error:
                if name == OURS:
                    raise
                if not entry.version:  # under no other policy either, so far
                    entry.note = f"failed: it {error}"
    return workers


def _each(workers: list[Worker], entries: dict[str, Entry], act: Callable[[Worker], None]) -> list[Worker]:
    """Do something with each worker; returns those that have survived it. A peer that died is out of the race."""
    alive = []
    for worker in workers:
        try:
            act(worker)
            alive.append(worker)
        except RuntimeError as error:
            if worker.name == OURS:
                raise
            entries[worker.name].note, entries[worker.name].times = f"failed: it {error}", []
    return alive


def _check(workers: list[Worker], entries: dict[str, Entry]) -> list[Worker]:
    """Note how far each framework's losses are from scratchnet's; returns those that are near enough to be timed."""
    expected = workers[0].ask("losses", STEPS_OF_CHECK)

    def compare(worker: Worker) -> None:
        entry, losses = entries[worker.name], worker.ask("losses", STEPS_OF_CHECK)
        if losses is None:
            entry.note = "another method: its losses are not compared"
            return
        entry.deviation = deviation(losses, expected)
        if not entry.deviation <= TOLERANCE:
            entry.note = f"WRONG: its losses differ by {entry.deviation:.1e}"

    alive = _each(workers, entries, compare)
    return [worker for worker in alive if not entries[worker.name].note.startswith("WRONG")]


def _choose(rivals: list[Worker], entries: dict[str, Entry], settings: Settings) -> list[Worker]:
    """Of a framework's workers, keep the one whose environment makes it faster."""
    tried: dict[Worker, list[float]] = {worker: [] for worker in rivals}
    for _ in range(1 if settings.smoke else 5):
        rivals = _each(rivals, entries, lambda w: tried[w].extend(_block(w, 0.02 if settings.smoke else 0.1, settings)))
    chosen = []
    for name in entries:
        same = [worker for worker in rivals if worker.name == name]
        if same:
            best = min(same, key=lambda worker: np.median(tried[worker]))
            entries[name].policy = best.policy
            chosen.append(best)
    return chosen


def _block(worker: Worker, seconds: float, settings: Settings) -> list[float]:
    time.sleep(PAUSE)
    return worker.ask("time", seconds, BLOCK_STEPS, 0 if settings.smoke else SETTLE)


def _time(rivals: list[Worker], entries: dict[str, Entry], settings: Settings) -> list[Worker]:
    """Give each framework a block in turn, in an order that rotates, until the time is used up; returns who is left."""
    end = time.perf_counter() + settings.seconds
    length = min(0.25, settings.seconds / 10 / len(rivals))
    rounds = 0
    while rounds < (2 if settings.smoke else ROUNDS) or time.perf_counter() < end:
        rivals = _each(
            rivals[1:] + rivals[:1], entries, lambda w: entries[w.name].times.append(_block(w, length, settings))
        )
        rounds += 1
    return rivals


def _measure_start(worker: Worker, net: Net, entry: Entry, material: Path, settings: Settings) -> None:
    """Start it once with empty caches and once more with what that left there; the second run gives the memory."""
    with tempfile.TemporaryDirectory() as folder:
        caches = {} if settings.smoke else {"SCRATCHNET_CACHE": folder, "TORCHINDUCTOR_CACHE_DIR": folder}
        for state in ("warm",) if settings.smoke else ("cold", "warm"):
            again = Worker(worker.name, net, material, settings, worker.policy, **caches)
            entry.start["import_s"] = again.facts["import_s"]
            entry.start[f"first_step_{state}_s"] = again.facts["first_step_s"]
            if state == "warm":
                entry.start["peak_mib"] = again.ask("peak", 10)
            again.close()

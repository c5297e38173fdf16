"""One framework on one net, in a process of its own: python -m versus.worker FRAMEWORK NET MATERIAL THREADS.

Reads a command per line from stdin and answers each with a line of JSON; between two it sleeps on the pipe, so that
another worker has the cores to itself.

    losses COUNT          go back to the start; the losses of so many steps, or null
    time SECONDS COUNT SETTLE    milliseconds of each step from the start on, until SECONDS or COUNT is used up; before,
                          steps of which nothing is told, for SETTLE seconds
    peak COUNT            the growth of resident memory since the batches lay ready, in MiB, after so many more steps
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import time
from pathlib import Path

from versus.nets import MODULES, NETS

WARM = 3  # first steps of a block, not reported: caches and threads wake up


def memory_mib(field: str) -> float:
    """VmRSS (now) or VmHWM (the most so far) of this process; NaN where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024
    except (OSError, StopIteration):
        return float("nan")


def forget_peak() -> None:
    """Let VmHWM start again from now."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def use_cores(count: int) -> None:
    """Keep this process on so many cores: XLA has no other way to be told how many threads to take."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


def losses(runner, batches: int, count: int) -> list[float] | None:
    """The loss of each of the first steps."""
    runner.reset()
    found = []
    for i in range(count):
        runner.step(i % batches)
        found.append(runner.loss())
    return None if None in found else found


def time_block(runner, batches: int, seconds: float, count: int, settle: float = 0.0) -> list[float]:
    """Milliseconds of each step of a block that begins at the first weights, once the threads have settled."""
    end, i = time.perf_counter() + settle, 0
    while time.perf_counter() < end:
        runner.step(i % batches)
        i += 1
    runner.reset()
    at_once = getattr(runner, "steps_at_once", 1)
    warm = WARM if at_once == 1 else 0
    elapsed: list[float] = []
    end = time.perf_counter() + seconds
    while len(elapsed) < 2 * warm + 1 or (len(elapsed) < count // at_once and time.perf_counter() < end):
        i = len(elapsed) % batches
        start = time.perf_counter()
        runner.step(i)
        elapsed.append((time.perf_counter() - start) * 1e3 / at_once)
    return elapsed[warm:]


def start(name: str, net_name: str, material_path: str, threads: str):
    """Import, load, build, do the first step; returns the runner and what that took."""
    net = NETS[net_name]
    use_cores(int(threads))
    begin = time.perf_counter()
    module = importlib.import_module(f"versus.{MODULES[name][0]}")
    imported = time.perf_counter() - begin
    import numpy as np

    runner = module.make(name, net, int(threads))
    with np.load(material_path) as file:
        runner.load({key: file[key] for key in file.files})
    forget_peak()
    base = memory_mib("VmRSS")
    begin = time.perf_counter()
    runner.build()
    runner.step(0)
    first = time.perf_counter() - begin
    return runner, {"version": module.VERSION, "import_s": imported, "first_step_s": first, "base_mib": base}


def main() -> None:
    """Answer commands until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a framework prints must not look like an answer
    runner, facts = start(*sys.argv[1:])
    batches = NETS[sys.argv[2]].batches
    print(json.dumps(facts), file=answers, flush=True)
    for line in sys.stdin:
        command, *numbers = line.split()
        if command == "losses":
            answer = losses(runner, batches, int(numbers[0]))
        elif command == "time":
            answer = time_block(runner, batches, float(numbers[0]), int(numbers[1]), float(numbers[2]))
        else:
            time_block(runner, batches, 1e9, int(numbers[0]))
            answer = memory_mib("VmHWM") - facts["base_mib"]
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()

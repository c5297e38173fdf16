"""The owner of thread pools: how many threads, in kernels and in BLAS, and what it refuses."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import threadpoolctl
from processes import run_code

from scratchnet import threads

PRODUCTS = """
    import time
    import numpy as np
    a = np.random.default_rng(0).random((384, 384), np.float32)

    def best(between):
        times = []
        for _ in range(60):
            between()
            start = time.perf_counter()
            a @ a
            times.append(time.perf_counter() - start)
        return min(times)

    best(lambda: None)
    before = best(lambda: None)
    from scratchnet import kernels
    x, y = np.ones(1 << 20, np.float32), np.empty(1 << 20, np.float32)
    kernels.relu_forward(y, x)
    print(best(lambda: None) / before, best(lambda: kernels.relu_forward(y, x)) / before)
"""


@pytest.mark.jit_only
def test_numpys_products_are_as_fast_beside_the_kernels_as_without(limit=1.05):
    """Before the import, after it, and with a parallel kernel between any two. Other programs may disturb a try."""
    tries = []
    while len(tries) < 12 and not (tries and max(tries[-1]) <= limit):
        tries.append([float(ratio) for ratio in run_code(PRODUCTS).split()])
    assert max(tries[-1]) <= limit, tries


@pytest.fixture
def restored():
    """Put the number of threads back after a test."""
    before = threads.get_threads()
    yield before
    threads.set_threads(before)


def test_set_threads_reaches_both_pools(restored):
    threads.set_threads(1)
    assert threads.get_threads() == 1
    pools = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    assert pools or sys.platform == "darwin"  # Apple's BLAS can't be asked
    assert all(pool["num_threads"] == 1 for pool in pools)
    threads.set_threads(threads.available_threads())
    assert threads.get_threads() == threads.available_threads()


@pytest.mark.parametrize(
    ("count", "kind", "message"),
    [
        (0, ValueError, "threads: expected an integer >= 1, got 0"),
        (1.0, TypeError, "threads: expected an integer"),
        (10**6, ValueError, "set NUMBA_NUM_THREADS=1000000 before starting Python"),
    ],
)
def test_refusals(restored, count, kind, message):
    with pytest.raises(kind, match=message):
        threads.set_threads(count)
    assert threads.get_threads() == restored


def test_what_numba_can_not_read_is_left_out_with_a_warning():
    code = "import scratchnet as s; from scratchnet import kernels; print(s.threads.get_threads())"
    odd = {"NUMBA_NUM_THREADS": "-3", "NUMBA_THREADING_LAYER": "bogus"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | odd, capture_output=True, text=True, timeout=120, check=True
    )
    assert int(done.stdout) >= 1
    assert "NUMBA_NUM_THREADS: expected an integer >= 1, got '-3'; all cores are taken" in done.stderr
    assert "NUMBA_THREADING_LAYER: expected one of default, safe" in done.stderr


def test_this_process_may_use_threads():
    assert threads.parallel_allowed()

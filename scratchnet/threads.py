"""The one place that knows about thread pools.

Numba's pool (OpenMP on Linux) and the BLAS behind NumPy's `@` want the same cores. An OpenMP worker that spins while it
waits takes them from BLAS: a product followed by a parallel kernel then runs several times slower. So the policy is set
here, before numba loads: wait passively, after a spin that bridges two kernels in a row (some 30 us: a sleeping thread
takes longer than that to wake up).

    spin (GOMP_SPINCOUNT)                         10,000    1,000        0
    VAE step, ms, 2 quiet cores                      4.9      7.1      6.9
    default net on CIFAR-10, ms, 2 quiet cores        60       67       70
    the same, another program on one core            150      117      115

On a busy machine set GOMP_SPINCOUNT=0: what the user has set wins, and `SCRATCHNET_THREADS=off` sets nothing at all.

Numba's pools are not safe everywhere: the workqueue layer aborts the process when two Python threads launch kernels at
once, OpenMP kills a forked child that launches one. `LOCK` is held around every parallel launch, and after a fork the
child runs the serial kernels.
"""

from __future__ import annotations

import os
import threading
import warnings
import weakref
from typing import Any

POLICY = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "10000"}

if os.environ.get("SCRATCHNET_THREADS", "").lower() != "off":
    for _name, _value in POLICY.items():
        os.environ.setdefault(_name, _value)

LAYERS = ("default", "safe", "threadsafe", "forksafe", "omp", "tbb", "workqueue")


def _check_environment() -> None:
    """Leave out, with a warning, what would end numba's import or the first parallel kernel with a traceback."""
    count, layer = os.environ.get("NUMBA_NUM_THREADS"), os.environ.get("NUMBA_THREADING_LAYER")
    odd = []
    if count is not None and not (count.strip().isdecimal() and int(count) > 0):
        odd.append(("NUMBA_NUM_THREADS", count, "an integer >= 1", "all cores are"))
    if layer is not None and layer not in LAYERS:
        odd.append(("NUMBA_THREADING_LAYER", layer, f"one of {', '.join(LAYERS)}", "numba's own choice is"))
    for name, got, expected, instead in odd:
        del os.environ[name]
        warnings.warn(f"{name}: expected {expected}, got {got!r}; {instead} taken", RuntimeWarning, stacklevel=2)


_check_environment()
LOCK = threading.RLock()
_forked = False
_in_turn: weakref.WeakSet[Any] = weakref.WeakSet()


def take_turns(owner: Any) -> None:
    """Give an object the lock `owner._turn`, for what one thread at a time may do with it."""
    owner._turn = threading.RLock()
    _in_turn.add(owner)


def _after_fork() -> None:
    """Make all locks anew: the parent's may be held by threads that do not exist here."""
    global LOCK, _forked
    LOCK = threading.RLock()
    for owner in list(_in_turn):
        take_turns(owner)
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def parallel_allowed() -> bool:
    """False in a forked child, where a parallel launch would kill the process."""
    return not _forked


def available_threads() -> int:
    """The most threads a kernel can use: NUMBA_NUM_THREADS, by default the cores this process may run on."""
    import numba

    return int(numba.config.NUMBA_NUM_THREADS)


def get_threads() -> int:
    """The number of threads a parallel kernel uses now."""
    import numba

    return int(numba.get_num_threads())


def set_threads(count: int) -> None:
    """Use `count` threads in the kernels that the calling Python thread launches, and in NumPy's BLAS.

    Args:
        count: 1 <= count <= available_threads().

    Raises:
        TypeError: `count` is no integer.
        ValueError: `count` is out of range.
    """
    import numba
    from threadpoolctl import threadpool_limits  # installed with scikit-learn, which requires it

    from scratchnet.arrays import check_integer

    most = available_threads()
    check_integer("threads", count, minimum=1)
    if count > most:
        raise ValueError(
            f"threads: expected at most {most}, got {count}; "
            f"set NUMBA_NUM_THREADS={count} before starting Python to run more threads than that"
        )
    numba.set_num_threads(count)
    threadpool_limits(limits=count, user_api="blas")

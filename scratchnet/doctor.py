"""What this installation runs on: versions, cores, thread pools, caches. `scratchnet doctor` prints it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import llvmlite.binding
import numba
import numpy as np
import threadpoolctl

from scratchnet import kernels, threads
from scratchnet.cache import cache_root
from scratchnet.data.store import FOLDER
from scratchnet.kernels import winograd
from scratchnet.kernels.jit import PARALLEL_FROM, cache_folder
from scratchnet.kernels.tile import describe_tile

PACKAGES = ("scratchnet", "numpy", "numba", "llvmlite", "scipy", "scikit-learn", "safetensors", "tqdm")
EXTRAS = ("datasets", "pillow", "matplotlib")
FEATURES = ("avx512f", "avx2", "fma", "avx", "sse4.2", "sve", "neon")


def examine() -> Iterator[tuple[str, str]]:
    """Yield (what, finding) pairs, the slow ones last."""
    yield "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    yield "packages", ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    yield "extras", ", ".join(f"{name} {_version(name)}" for name in EXTRAS)
    yield "processor", f"{llvmlite.binding.get_host_cpu_name()}, {os.cpu_count()} cores; {_cpu_features()}"
    yield "tile", f"{describe_tile()}: every product of kernels/ runs on it"
    yield "convolutions", _convolutions()
    yield "NumPy's BLAS", f"{_blas()}: the products of reference/, and yours"
    yield "thread layer", f"{_thread_layer()}, {threads.get_threads()} of {threads.available_threads()} threads"
    yield "wait policy", _wait_policy()
    yield "kernel cache", _cache_state()
    yield "data cache", _data_state()
    yield "SCRATCHNET_DATA", os.environ.get("SCRATCHNET_DATA", "not set")
    yield "pool switch", _switch_cost()


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _cpu_features() -> str:
    """Which of the instruction sets that decide about speed LLVM finds here."""
    found = llvmlite.binding.get_host_cpu_features()
    return " ".join(name for name in FEATURES if found.get(name)) or "no vector instructions known"


def _convolutions() -> str:
    if winograd.is_on():
        return "3x3 and 5x5 by Winograd's transforms where faster, to 1e-5 in float32; SCRATCHNET_WINOGRAD=off: never"
    return "all directly; SCRATCHNET_WINOGRAD is off, and 3x3 and 5x5 take up to three times as long"


def _blas() -> str:
    pools = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    return ", ".join(f"{p['internal_api']} {p['version']}, {p['num_threads']} threads" for p in pools) or "unknown"


def _thread_layer() -> str:
    """Launch one parallel kernel: only then does numba know its layer."""
    x = np.zeros(PARALLEL_FROM, np.float32)
    kernels.relu_forward(x.copy(), x)
    try:
        return str(numba.threading_layer())
    except ValueError:
        return "none started"


def _wait_policy() -> str:
    wanted = {name: os.environ.get(name, "not set") for name in threads.POLICY}
    shown = ", ".join(f"{name}={value}" for name, value in wanted.items())
    if wanted["OMP_WAIT_POLICY"].upper() != "PASSIVE":
        shown += "; idle threads spin and slow NumPy's products down: unset it, or set it to PASSIVE"
    return shown


def _cache_state() -> str:
    folder = cache_folder()
    if folder is None:
        return "can't be used: kernels are compiled at every start; set SCRATCHNET_CACHE to a folder of yours"
    return _folder_state(folder)


def _data_state() -> str:
    try:
        return _folder_state(cache_root() / FOLDER)
    except OSError as error:
        return f"can't be used: datasets are decoded at every start ({error})"


def _folder_state(folder: Path) -> str:
    if not folder.is_dir():
        return f"{folder}, not there yet"
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return f"{folder}, {len(sizes)} files, {sum(sizes) / 2**20:.1f} MiB"


def _switch_cost() -> str:
    """Time a product and a kernel apart and in turns. Two pools that fight for the cores make turns much slower."""
    a = np.ones((256, 256), np.float32)
    x = np.ones(1 << 18, np.float32)
    y = np.empty_like(x)
    product, kernel = (lambda: a @ a), (lambda: kernels.relu_forward(y, x))

    def both() -> None:
        product()
        kernel()

    apart, turns = _median_ms(product) + _median_ms(kernel), _median_ms(both)
    verdict = "fine" if turns < 2 * apart + 0.2 else "thread pools are fighting: see wait policy"
    return f"product and kernel apart {apart:.2f} ms, in turns {turns:.2f} ms: {verdict}"


def _median_ms(function: Callable[[], object], repeats: int = 30) -> float:
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return 1e3 * sorted(times)[repeats // 2]

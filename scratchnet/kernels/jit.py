"""What compiles every kernel: how, where the result is cached, and when it runs on many threads.

Compilation is lazy: the first call with a given set of types compiles, or loads from the cache. The cache folder is our
own, because numba's default key covers only the file a kernel stands in: an edited helper in another file, or another
NUMBA_* flag, would silently run old machine code. The folder is named by a hash of all of that, is readable by its
owner alone (a cache entry is a pickle: who can write it can run code), and where it can't be used kernels are compiled
in memory, with one warning.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scratchnet import threads  # before numba: it sets the wait policy that the pool reads when it loads

import numba  # isort: skip
import numpy as np
from numba.core.caching import CompileResultCacheImpl, FunctionCache, IndexDataCacheFile, _CacheLocator
from numba.core.ccallback import CFunc

from scratchnet.cache import private_folder
from scratchnet.kernels.compiler import COMPILER

# `True` would also promise that no NaN ever comes, and every isnan() would become a constant False.
FASTMATH = {"reassoc", "contract", "nsz", "arcp", "afn"}
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": FASTMATH}
ONLY_FROM_KERNELS = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}  # saves a seventh of a net's compile time

# Below this many elements in the largest array one thread is done before a second one has woken up.
PARALLEL_FROM = 32_768
PARALLEL_PRODUCT_FROM = 1_200_000  # multiply-adds


class Kernel:
    """A compiled function with two bodies from one source: `serial` and `parallel` (where `prange` splits the loop).

    Calling it runs the parallel body when the largest array is worth it and this process may (threads.py). Both bodies
    write the same bits: a kernel parallelises over what it writes, and sums in an order that no thread count changes;
    where LLVM could still fuse their arithmetic in two ways, it is made by `exact`.
    A Python float arrives as float64: a kernel first casts it to the dtype of its arrays, which costs nothing there.
    """

    def __init__(self, function: Callable[..., None], flatten: bool, fastmath: set[str] = FASTMATH) -> None:
        functools.update_wrapper(self, function)
        self._flatten = flatten
        self._arrays: list[int] = []  # which arguments are arrays: of a kernel always the same ones
        if numba.config.DISABLE_JIT:
            self.serial = self.parallel = np.errstate(all="ignore")(function)  # machine code does not warn either
        else:
            self.serial = _compiled(function, parallel=False, fastmath=fastmath)
            # NUMBA_BOUNDSCHECK=1 raises IndexError, which can't leave a parallel body: there it would go unseen
            self.parallel = self.serial if numba.config.BOUNDSCHECK else _compiled(function, True, fastmath)

    def __call__(self, *args: Any) -> None:
        if not self._arrays:
            self._arrays = [i for i, a in enumerate(args) if type(a) is np.ndarray]
        largest, axes = 0, 1
        for i in self._arrays:  # a loop takes half a microsecond, max() of a list two
            array = args[i]
            if array.size > largest:
                largest = array.size
            if array.ndim > axes:
                axes = array.ndim
        if self._flatten and axes > 1:
            args = tuple([a.reshape(-1) if type(a) is np.ndarray else a for a in args])
        if worth_threads(largest):
            self.launch(True, *args)
        else:
            self.serial(*args)

    def launch(self, parallel: bool, *args: Any) -> None:
        """Run the parallel or the serial body on arguments as they are."""
        if parallel and threads.parallel_allowed():
            with threads.LOCK:
                self.parallel(*args)
        else:
            self.serial(*args)


def kernel(function: Callable[..., None]) -> Kernel:
    """Compile `function` on first use; see Kernel."""
    return Kernel(function, flatten=False)


def exact(function: Callable[..., None]) -> Kernel:
    """A kernel computed as written, by IEEE arithmetic: nothing is fused or reordered.

    `a * b + c * d` may be fused in two ways, and the serial and the parallel body of a kernel would then differ in the
    last bit. Loops that sum nothing and wait for memory lose no time by it, and give NumPy's bits on any CPU.
    """
    return Kernel(function, flatten=False, fastmath=set())


def elementwise(function: Callable[..., None]) -> Kernel:
    """A kernel over 1-D arrays that is called with (contiguous) arrays of any rank: one compiled version serves all."""
    return Kernel(function, flatten=True)


def helper(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function that only kernels call; it is inlined into them and cached with them."""
    return _only_from_kernels(numba.njit(**OPTIONS, **ONLY_FROM_KERNELS)(function))


def precise(function: Callable[..., Any]) -> Callable[..., Any]:
    """A helper whose arithmetic stays in the order written, in whatever kernel; only a * b + c may be fused."""
    options = OPTIONS | {"fastmath": {"contract"}}
    return _only_from_kernels(numba.njit(**options, **ONLY_FROM_KERNELS)(function))


def _only_from_kernels(dispatcher: Any) -> Any:
    """Let a call from Python, for which there is no machine code, raise: it would jump to address 0."""
    if numba.config.DISABLE_JIT:
        return dispatcher

    def refuse(*args: Any, **kwargs: Any) -> None:
        name = dispatcher.__name__
        raise TypeError(f"{name}: expected a call from a kernel, got one from Python; call {name}.py_func there")

    dispatcher._insert = lambda *args, **kwargs: None  # numba would list here what Python may call
    dispatcher._compile_for_args = refuse  # what it calls for arguments that are not listed
    return dispatcher


def native(function: Callable[..., None], *argument_types: Any) -> int:
    """Compile a function for these types now, or load it from the cache; returns the address of its machine code.

    Kernels call it at its address, so it is compiled once, however many kernels do.
    """
    signature, options = (argument_types, numba.types.void), {"error_model": "numpy"}
    compiled: Any = CFunc(function, signature, locals={}, options=options, pipeline_class=COMPILER)
    _keep(compiled, function, "native")
    compiled.compile()
    _natives.append(compiled)
    return int(compiled.address)


_natives: list[CFunc] = []  # machine code lives as long as its owner


def worth_threads(largest: int) -> bool:
    """Whether a kernel is worth threads, by the size of its largest array: chosen here, and for products below."""
    return largest >= PARALLEL_FROM and numba.get_num_threads() > 1


def threads_for_product(multiply_adds: int) -> int:
    """The same choice for a product, whose work is not its size: how many threads to run it on."""
    if multiply_adds < PARALLEL_PRODUCT_FROM or not threads.parallel_allowed():
        return 1
    return int(numba.get_num_threads())


def workspace(name: str, size: int, dtype: np.dtype[Any]) -> np.ndarray:
    """An array of at least `size` numbers for the time of one operation, holding junk.

    Python threads have one each, for they may run kernels at once. It is kept and handed out again at the next call:
    the system takes longer to map new memory than a kernel to fill it.
    """
    kept, key = _workspaces.__dict__, name + dtype.char
    space = kept.get(key)
    if space is None or space.size < size:
        line = 64 // dtype.itemsize  # start on a cache line, so that no vector lies across two
        memory = np.zeros(size + line, dtype)
        space = kept[key] = memory[-memory.ctypes.data // dtype.itemsize % line :]
    return space


_workspaces = threading.local()


def _compiled(function: Callable[..., None], parallel: bool, fastmath: set[str]) -> Any:
    options = OPTIONS | {"fastmath": fastmath}
    dispatcher = numba.njit(parallel=parallel, pipeline_class=COMPILER, **options)(function)
    _keep(dispatcher, function, "parallel" if parallel else "serial")
    return dispatcher


# --- the cache ---------------------------------------------------------------------------------------------------


def _state_hash() -> str:
    """A hash of everything that can change what a kernel compiles to, the CPU aside (numba's own key has it)."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    flags = sorted((k, v) for k, v in os.environ.items() if k.startswith("NUMBA_"))
    ignored = {"NUMBA_NUM_THREADS", "NUMBA_CACHE_DIR", "NUMBA_THREADING_LAYER"}
    digest.update(repr([f for f in flags if f[0] not in ignored]).encode())
    digest.update(f"{numba.__version__} {np.__version__} {sys.version_info[:2]}".encode())
    return digest.hexdigest()[:16]


@functools.cache
def cache_folder() -> Path | None:
    """The folder of compiled kernels, made if absent; None (and one warning) where it can't be used safely."""
    try:
        return private_folder(f"kernels-{_state_hash()}")
    except OSError as error:
        _warn_uncached(str(error))
        return None


def _keep(compiled: Any, function: Callable[..., None], kind: str) -> None:
    """Let what numba compiles from a function be kept in our folder, where there is one."""
    folder = cache_folder()
    if folder is not None:
        compiled._cache = _Cache(function, folder, kind)


def cache_is_cold() -> bool:
    """True where nothing compiled is kept yet, so that the first use of each kernel will take its time."""
    return not count_kept()


def count_kept() -> int | None:
    """How many compiled functions are kept, one for each set of types; None where they can't be."""
    folder = cache_folder()
    return None if folder is None else sum(1 for _ in folder.glob("*.nbc"))


_uncached: list[str] = []  # why kernels could not be cached; only the first reason is told


def _warn_uncached(reason: str) -> None:
    _uncached.append(reason)
    if len(_uncached) == 1:
        warnings.warn(
            f"scratchnet: compiled kernels stay in memory, because the cache folder can't be used ({reason}); "
            "every start compiles again. Set SCRATCHNET_CACHE to a folder of yours.",
            RuntimeWarning,
            stacklevel=2,
        )


class _Locator(_CacheLocator):
    """Tells numba to keep a kernel in our folder. The folder's name already stands for the sources and flags."""

    def __init__(self, folder: Path, kind: str, line: int) -> None:
        self._folder, self._kind, self._line = folder, kind, line

    def get_cache_path(self) -> str:
        return str(self._folder)

    def get_source_stamp(self) -> str:
        return self._folder.name

    def get_disambiguator(self) -> str:
        return f"{self._line}-{self._kind}"


class _CheckedFiles(IndexDataCacheFile):
    """numba's cache files, each with its digest behind it: damaged machine code would end the process."""

    def _save_data(self, name: str, data: Any) -> None:
        content = self._dump(data)
        with self._open_for_write(self._data_path(name)) as file:
            file.write(content + hashlib.sha256(content).digest())

    def _load_data(self, name: str) -> Any:
        content = Path(self._data_path(name)).read_bytes()
        if hashlib.sha256(content[:-32]).digest() != content[-32:]:
            raise ValueError(f"{name} is damaged")
        return super()._load_data(name)  # which stops where the digest begins


class _Cache(FunctionCache):
    """numba's function cache in our folder, for which a damaged or unwritable file is a miss, never an error."""

    def __init__(self, function: Callable[..., None], folder: Path, kind: str) -> None:
        locator = _Locator(folder, kind, function.__code__.co_firstlineno)

        class Here(_Locator):
            @classmethod
            def from_function(cls, py_func: Any, py_file: str) -> _Locator:
                return locator

        class Implementation(CompileResultCacheImpl):
            _locator_classes: Any = (Here,)

        self._impl_class = Implementation
        super().__init__(function)
        self._cache_file = _CheckedFiles(self._cache_path, self._impl.filename_base, locator.get_source_stamp())

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # a truncated pickle raises nearly anything
            try:
                self.flush()
            except OSError as error:
                _warn_uncached(str(error))
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except Exception as error:
            _warn_uncached(str(error))

"""What this machine can do at most, measured now: multiply-adds on registers, and bytes copied.

    peak         independent multiply-adds of vectors that never leave the registers: no kernel can compute faster
    bandwidth    as many bytes as a kernel must move, copied, or for one that works in place changed where they lie:
                 in the caches where they fit, in memory where not. A line that is only written is read as well

A kernel that needs F floating-point operations and B bytes can't be done before max(F / peak, B / bandwidth(B)): the
roofline (Williams, Waterman & Patterson 2009). Limits are the best of many tries, for they are limits; kernels are
medians. What is compiled here is not kept in the cache, whose name stands for the sources of kernels/ alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.extending import intrinsic

from scratchnet.bench.timing import Variant, measure
from scratchnet.kernels.jit import OPTIONS
from scratchnet.kernels.vectors import I64, Vectors, loop, vector_unit

STEPS = 2_000_000  # of the loop of multiply-adds: some ms, in which two threads that woke on one core are moved apart
SMALLEST, LARGEST = 1 << 15, 1 << 28  # bytes of a copy, read and written together
ENOUGH = 1 << 24  # bytes to move in one call, so that the call itself takes no time


class Limits:
    """The roofs over this machine's kernels, on one thread and on `threads`.

    Attributes:
        peak: threads -> floating-point operations per second, float32.
    """

    def __init__(self, threads: int, seconds: float) -> None:
        self.threads, self._seconds = threads, seconds
        self._moves: dict[tuple[bool, int], dict[int, float]] = {}
        self._bodies = {False: _bodies(_copy_parts), True: _bodies(_change_parts)}
        sums = 16 if vector_unit().registers == 32 else 10
        lanes = vector_unit().bytes // 4
        space = np.full((threads, (sums + 3) * lanes), 0.5, np.float32)  # a row for each thread
        best = self._best(lambda body, n: body(space, n, sums, STEPS), _bodies(_multiply_parts))
        self.peak = _not_less({n: 2 * lanes * sums * STEPS * n / seconds for n, seconds in best.items()})

    def bandwidth(self, size: int, threads: int, in_place: bool = False) -> float:
        """Bytes per second of moving `size` bytes, rounded down to a power of two: fewer are moved faster."""
        rounded = min(max(1 << (size.bit_length() - 1), SMALLEST), LARGEST)
        key = in_place, rounded
        if key not in self._moves:
            to, source = np.zeros(rounded // 8, np.float32), np.ones(rounded // 8, np.float32)
            times = max(1, ENOUGH // (2 * rounded))
            best = self._best(lambda body, n: body(to, source, np.float32(1), n, times), self._bodies[in_place])
            self._moves[key] = _not_less({n: 2 * times * rounded / seconds for n, seconds in best.items()})
        return self._moves[key][threads]

    def moves(self) -> dict[str, list[tuple[int, dict[int, float]]]]:
        """Copied or changed in place -> (bytes moved, threads -> bytes per second), as far as it has been measured."""
        known = sorted(self._moves.items())
        return {
            name: [(size, rates) for (in_place, size), rates in known if in_place == wanted]
            for name, wanted in (("copy", False), ("in_place", True))
        }

    def seconds(self, flops: int, size: int, threads: int, in_place: bool = False) -> tuple[float, str]:
        """The least time for so many operations and bytes, and which of the two decides: "compute" or "memory"."""
        compute, memory = flops / self.peak[threads], size / self.bandwidth(size, threads, in_place)
        return (compute, "compute") if compute >= memory else (memory, "memory")

    def _best(self, run: Callable[[Any, int], None], bodies: tuple[Any, Any]) -> dict[int, float]:
        """threads -> seconds of the best call; bodies: a serial and a parallel one."""
        serial, parallel = bodies
        variants = {"one": Variant(lambda: run(serial, 1), 1)}
        if self.threads > 1:
            variants["all"] = Variant(lambda: run(parallel, self.threads), self.threads)
        for variant in variants.values():
            variant.run()  # compiles
        return {variants[name].threads: timing.best for name, timing in measure(variants, self._seconds).items()}


def _not_less(rates: dict[int, float]) -> dict[int, float]:
    """threads -> rate, where more threads can do at least what one can: the others may rest."""
    return {count: max(rates[1], rate) for count, rate in rates.items()}


def _bodies(function: Callable[..., None]) -> tuple[Any, Any]:
    """A function compiled for one thread and for many."""
    return numba.njit(**OPTIONS)(function), numba.njit(parallel=True, **OPTIONS)(function)


def _copy_parts(to: np.ndarray, source: np.ndarray, factor: float, parts: int, times: int) -> None:
    """to[:] = factor source and back, so many times, each part by one thread.

    The factor, which is 1, only LLVM does not know: what it can see to be done twice it would do once.
    """
    for part in prange(parts):
        first, last = np.uint64(part * to.size // parts), np.uint64((part + 1) * to.size // parts)
        for _ in range(times):
            for i in range(first, last):
                to[i] = factor * source[i]
            for i in range(first, last):
                source[i] = factor * to[i]


def _change_parts(to: np.ndarray, source: np.ndarray, factor: float, parts: int, times: int) -> None:
    """Multiply both by the factor where they lie, twice as many times: as many bytes are moved as in _copy_parts."""
    for part in prange(parts):
        first, last = np.uint64(part * to.size // parts), np.uint64((part + 1) * to.size // parts)
        for _ in range(times):
            for i in range(first, last):
                to[i] *= factor
            for i in range(first, last):
                source[i] *= factor


def _multiply_parts(space: np.ndarray, parts: int, sums: int, steps: int) -> None:
    """Run the multiply-adds on each row of the space."""
    for part in prange(parts):
        if sums == 16:  # the intrinsic is unrolled for a literal: a variable will not do
            _multiply_adds(space.ctypes.data + part * space.shape[1] * 4, steps, 16)
        else:
            _multiply_adds(space.ctypes.data + part * space.shape[1] * 4, steps, 10)


@intrinsic(prefer_literal=True)
def _multiply_adds(typing_context: Any, address: Any, steps: Any, sums: Any) -> Any:
    """sum_j <- sum_j a + b, `steps` times, for vectors that stand at `address`: sums, then a and b, then the result."""
    if not isinstance(sums, types.IntegerLiteral):
        return None

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, values: list[ir.Value]) -> Any:
        v, count = Vectors(builder, ir.FloatType()), sums.literal_value
        start = [v.load(v.at(values[0], I64(j * v.lanes))) for j in range(count + 2)]
        a, b = start[count:]
        ends = loop(builder, values[1], start[:count], lambda *state: [v.multiply_add(s, a, b) for s in state])
        total = ends[0]
        for end in ends[1:]:
            total = builder.fadd(total, end)
        v.store(total, v.at(values[0], I64((count + 2) * v.lanes)))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, sums), codegen

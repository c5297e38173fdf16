"""Memory as the blocks of machine code see it: addresses, and runs of numbers."""

from __future__ import annotations

import ctypes
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from scratchnet.kernels.jit import helper


def addresses_of(*arrays: np.ndarray) -> tuple[int, ...]:
    """Tell where arrays start; whoever asks keeps them alive."""
    return tuple(array.ctypes.data for array in arrays)


@helper
def clear(array, at, count):
    """array[at : at + count] = 0. Indices are unsigned: signed ones are tested for wrap-around at every step."""
    first, zero = np.uint64(at), array.dtype.type(0)
    for k in range(np.uint64(count)):
        array[first + k] = zero


@intrinsic
def _take(typing_context: Any, address: Any) -> Any:
    """Return the int64 at an address and add 1 to it, in one step: each thread that shares it gets its own number."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, values: list[ir.Value]) -> Any:
        pointer = builder.inttoptr(values[0], ir.IntType(64).as_pointer())
        return builder.atomic_rmw("add", pointer, ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(types.int64), codegen


def _take_plain(address: int) -> int:
    counter = ctypes.c_int64.from_address(int(address))
    counter.value += 1
    return counter.value - 1


take = _take_plain if numba.config.DISABLE_JIT else _take

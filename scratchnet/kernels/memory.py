"""Memory as blocks of machine code see it, by addresses, and how kernels call these blocks."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core.cgutils import unpack_tuple
from numba.extending import intrinsic

from scratchnet.kernels.jit import helper, native
from scratchnet.kernels.vectors import I64, VOID


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
def _next_task(typing_context: Any, address: Any) -> Any:
    """Return the int64 at an address and add 1 to it, in one step: each thread that shares it gets its own number."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, values: list[ir.Value]) -> Any:
        pointer = builder.inttoptr(values[0], I64.as_pointer())
        return builder.atomic_rmw("add", pointer, ir.Constant(I64, 1), "monotonic")

    return types.int64(types.int64), codegen


def _next_task_plain(address: int) -> int:
    counter = ctypes.c_int64.from_address(int(address))
    counter.value += 1
    return counter.value - 1


next_task = _next_task_plain if numba.config.DISABLE_JIT else _next_task


# --- machine code ------------------------------------------------------------------------------------------------


def machine_code(function: Callable[..., None], dtype: np.dtype[Any]) -> Any:
    """What `call` takes: the address of the machine code of function(like, integers ...), for elements of `dtype`.

    `like` is a null pointer whose type says what the elements are; kernels do not pass it. Without the JIT it is their
    size in bytes, and what is returned is the function itself.
    """
    if numba.config.DISABLE_JIT:
        return functools.partial(function, dtype.itemsize)
    like = types.CPointer(numba.from_dtype(dtype))
    return native(function, like, *[types.int64] * (function.__code__.co_argcount - 1))


@intrinsic
def _call(typing_context: Any, address: Any, *args: Any) -> Any:
    """Call `machine_code` with these integers."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, values: list[ir.Value]) -> Any:
        integers = unpack_tuple(builder, values[1])
        kind = ir.FunctionType(VOID, [I64] * (1 + len(integers)))
        builder.call(builder.inttoptr(values[0], kind.as_pointer()), [I64(0), *integers])
        return context.get_dummy_value()

    return types.void(types.int64, types.StarArgUniTuple(types.int64, len(args))), codegen


def _call_plain(function: Any, *args: int) -> None:
    function(*args)


call = _call_plain if numba.config.DISABLE_JIT else _call


class _Memory:
    """Raw memory, as NumPy likes to be offered it."""

    def __init__(self, address: int, size: int, shape: tuple[int, int], steps: tuple[int, int]) -> None:
        strides = tuple(size * step for step in steps)
        kind = np.dtype(f"f{size}" if size > 1 else "u1").str
        memory = {"data": (int(address), False), "typestr": kind, "shape": shape, "strides": strides, "version": 3}
        self.__array_interface__ = memory


def view(*args: Any) -> np.ndarray:
    """Look at memory as a matrix: address, bytes of a number, shape, steps in numbers. For NUMBA_DISABLE_JIT=1."""
    return np.asarray(_Memory(*args))

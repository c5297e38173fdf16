"""Memory as the blocks of machine code see it: addresses, and runs of numbers."""

from __future__ import annotations

import numpy as np

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

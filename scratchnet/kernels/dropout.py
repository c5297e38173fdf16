"""Dropout by a counter-based hash; equations in reference/dropout.py. Forward and backward are one kernel."""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from scratchnet.kernels.jit import elementwise

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
MIX_2 = np.uint64(0x94D049BB133111EB)
# An int64 beside a uint64 would make a float64.
ONE, S27, S30, S31, S40 = np.uint64(1), np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(40)


def dropout_forward(y: np.ndarray, x: np.ndarray, key: np.uint64, p: float) -> None:
    """y = x / (1 - p) where kept, else 0 x; see reference.dropout_forward."""
    _dropout(y, x, key, np.uint64(math.ceil(p * 2**24)), 1 / (1 - p))


def dropout_backward(dx: np.ndarray, dy: np.ndarray, key: np.uint64, p: float) -> None:
    """dx = dy / (1 - p) where kept, else 0 dy; see reference.dropout_backward."""
    dropout_forward(dx, dy, key, p)


@elementwise
def _dropout(y: np.ndarray, x: np.ndarray, key: np.uint64, limit: np.uint64, scale: float) -> None:
    """y = x times scale where the upper 24 bits of hash(key, i) reach `limit`, else times 0."""
    zero, scale = x.dtype.type(0), x.dtype.type(scale)
    for i in prange(x.size):
        z = key + (np.uint64(i) + ONE) * GOLDEN
        z = (z ^ (z >> S30)) * MIX_1
        z = (z ^ (z >> S27)) * MIX_2
        z = z ^ (z >> S31)
        y[i] = x[i] * (scale if (z >> S40) >= limit else zero)

"""Dropout (Srivastava et al. 2014), inverted: what is kept is scaled up while training, and inference does nothing.

The mask is never stored and comes from no generator: element i is kept or dropped by a hash of (key, i), so any thread
can work on any element, backward can ask again, and a resumed run needs nothing but the key.
"""

from __future__ import annotations

import math

import numpy as np


def dropout_forward(y: np.ndarray, x: np.ndarray, key: np.uint64, p: float) -> None:
    """Drop each element with probability `p`.

        u[i] = (upper 24 bits of hash(key, i)) / 2^24                        i counts the elements in C order
        y[i] = x[i] / (1 - p)  where u[i] >= p, else 0 x[i]

        hash(key, i): z = key + (i + 1) 0x9e3779b97f4a7c15                    all modulo 2^64
                      z = (z ^ z >> 30) 0xbf58476d1ce4e5b9
                      z = (z ^ z >> 27) 0x94d049bb133111eb
                      z ^ z >> 31
        which is output number i, counted from 0, of the generator SplitMix64 seeded with key (Steele, Lea & Flood 2014;
        with these constants in Java 8)

    Args:
        y: float, any shape. Written.
        x: the same shape and dtype. Read. NaN and infinity show (as NaN) even where they are dropped.
        key: another one for every layer and step.
        p: 0 <= p < 1.
    """
    y[...] = x * _factors(x, key, p)


def dropout_backward(dx: np.ndarray, dy: np.ndarray, key: np.uint64, p: float) -> None:
    """Differentiate dropout: the same mask and scale.

        dx[i] = dy[i] / (1 - p)  where u[i] >= p, else 0 dy[i]

    Args:
        dx: float, any shape. Overwritten.
        dy: the same shape and dtype. Read.
        key, p: those of the forward pass.
    """
    dx[...] = dy * _factors(dy, key, p)


def _factors(x: np.ndarray, key: np.uint64, p: float) -> np.ndarray:
    """What each element of x is multiplied by: 0 or 1 / (1 - p)."""
    z = np.arange(1, x.size + 1, dtype=np.uint64)  # arrays of uint64 wrap around, as the hash wants
    z *= np.uint64(0x9E3779B97F4A7C15)
    z += key
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    # u = n / 2^24 for an integer n, so that u >= p is n >= ceil(p 2^24)
    kept = (z >> np.uint64(40)) >= np.uint64(math.ceil(p * 2**24))
    return np.where(kept, x.dtype.type(1 / (1 - p)), x.dtype.type(0)).reshape(x.shape)

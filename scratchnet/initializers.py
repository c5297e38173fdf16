"""First values of weights: random, with a spread that keeps signals of one size from layer to layer.

    fan_in  = inputs of one unit:  D, or KH KW C          fan_out = units one input reaches:  U, or KH KW U

    he       variance 2 / fan_in                He et al. 2015, for ReLU, which drops half the signal
    glorot   variance 2 / (fan_in + fan_out)    Glorot & Bengio 2010, for tanh and linear layers
    lecun    variance 1 / fan_in                LeCun et al. 1998

Each is `f(weight, rng)`, writes `weight` in place, and draws in float64, so that a float32 and a float64 net of one
seed start from the same numbers up to rounding. Uniform ones draw from (-a, a) with a = sqrt(3 variance).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

Initializer = Callable[[np.ndarray, np.random.Generator], None]


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """(fan_in, fan_out) of a dense weight (D, U) or a convolution weight (KH, KW, C, U)."""
    if len(shape) < 2:
        raise ValueError(f"fans: expected the shape of a weight, (D, U) or (KH, KW, C, U), got {shape}")
    taps = math.prod(shape[:-2])
    return taps * shape[-2], taps * shape[-1]


def he_normal(weight: np.ndarray, rng: np.random.Generator) -> None:
    """N(0, 2 / fan_in)."""
    _normal(weight, rng, 2 / fans(weight.shape)[0])


def he_uniform(weight: np.ndarray, rng: np.random.Generator) -> None:
    """U(-a, a), a = sqrt(6 / fan_in)."""
    _uniform(weight, rng, 2 / fans(weight.shape)[0])


def glorot_normal(weight: np.ndarray, rng: np.random.Generator) -> None:
    """N(0, 2 / (fan_in + fan_out))."""
    _normal(weight, rng, 2 / sum(fans(weight.shape)))


def glorot_uniform(weight: np.ndarray, rng: np.random.Generator) -> None:
    """U(-a, a), a = sqrt(6 / (fan_in + fan_out))."""
    _uniform(weight, rng, 2 / sum(fans(weight.shape)))


def lecun_normal(weight: np.ndarray, rng: np.random.Generator) -> None:
    """N(0, 1 / fan_in)."""
    _normal(weight, rng, 1 / fans(weight.shape)[0])


def lecun_uniform(weight: np.ndarray, rng: np.random.Generator) -> None:
    """U(-a, a), a = sqrt(3 / fan_in)."""
    _uniform(weight, rng, 1 / fans(weight.shape)[0])


def zeros(weight: np.ndarray, rng: np.random.Generator) -> None:
    """All zeros: for a single-layer model, or the last layer of a branch. In two layers of zeros with ReLU or tanh
    between them no weight ever moves, only the last bias; with a sigmoid all units stay copies of one."""
    weight[...] = 0


def _normal(weight: np.ndarray, rng: np.random.Generator, variance: float) -> None:
    weight[...] = rng.standard_normal(weight.shape) * math.sqrt(variance)


def _uniform(weight: np.ndarray, rng: np.random.Generator, variance: float) -> None:
    limit = math.sqrt(3 * variance)
    weight[...] = rng.uniform(-limit, limit, weight.shape)

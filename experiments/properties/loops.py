"""Runs of a million steps, compiled whole. Each step calls the same compiled operation as scratchnet's optimizers.

What Adam and AMSGrad do here around the operation (step count, corrections) is what optimizers/moments.py does, and
the tests hold the two together, bit for bit.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from scratchnet import kernels

ADAM, AMSGRAD, ADAGRAD, SGD = range(4)
METHODS = {"Adam": ADAM, "AMSGrad": AMSGRAD, "AdaGrad": ADAGRAD, "SGD": SGD}

adam_update = kernels.adam_update.serial
adagrad_update = kernels.adagrad_update.serial


@numba.njit(error_model="numpy")
def take_step(method, x, state, gradient, t, lr, beta1, beta2, eps):  # type: ignore[no-untyped-def]
    """Move x (P,) by step t of a method, with state (3, P) that starts at 0.

    Adam as the paper's algorithm 1. AMSGrad as Reddi et al. 2018, algorithm 2: without bias corrections.
    """
    nothing = np.empty(0)
    if method == ADAM:
        correction1 = -math.expm1(t * math.log(beta1)) if beta1 > 0 else 1.0
        correction2 = -math.expm1(t * math.log(beta2))
        scales = lr / correction1, 1 / math.sqrt(correction2)
        adam_update(x, state[0], state[1], nothing, gradient, scales[0], scales[1], beta1, beta2, eps, 0.0, 0.0)
    elif method == AMSGRAD:
        adam_update(x, state[0], state[1], state[2], gradient, lr, 1.0, beta1, beta2, eps, 0.0, 0.0)
    elif method == ADAGRAD:
        adagrad_update(x, state[0], gradient, lr, eps, 0.0)
    else:
        x -= lr * gradient


@numba.njit(error_model="numpy")
def play(path, slopes, method, lr, beta1, beta2):  # type: ignore[no-untyped-def]
    """Play the online game f_t(x) = slopes[t] x on [-1, 1] from x = 0, at rate lr / sqrt(t).

    Args:
        path: (S,) float64: x after every T // S steps. Written.
        slopes: (T,) numbers. Read.

    Returns:
        (x_T, average regret against x = -1).
    """
    x, state, gradient = np.zeros(1), np.zeros((3, 1)), np.empty(1)
    regret, every = 0.0, len(slopes) // len(path)
    for t in range(1, len(slopes) + 1):
        gradient[0] = slopes[t - 1]
        regret += gradient[0] * (x[0] + 1)
        take_step(method, x, state, gradient, t, lr / math.sqrt(t), beta1, beta2, 0.0)
        x[0] = min(max(x[0], -1.0), 1.0)
        if t % every == 0:
            path[t // every - 1] = x[0]
    return x[0], regret / len(slopes)


@numba.njit(error_model="numpy")
def settle(rng, method, lr, before, scale, limit):  # type: ignore[no-untyped-def]
    """Count the steps that a method needs to follow a jump.

    A quadratic in 10 dimensions, gradient x - centre + N(0, 1), rate lr. The centre jumps from 0 to 5 after `before`
    steps, and the whole gradient is then multiplied by `scale`.

    Args:
        rng: a NumPy Generator. Advanced.

    Returns:
        steps after the jump until mean |x - 5| < 0.5, or limit.
    """
    x, state, gradient = np.zeros(10), np.zeros((3, 10)), np.empty(10)
    for t in range(1, before + limit + 1):
        centre, factor = (0.0, 1.0) if t <= before else (5.0, scale)
        for i in range(10):
            gradient[i] = factor * (x[i] - centre + rng.standard_normal())
        take_step(method, x, state, gradient, t, lr, 0.9, 0.999, 1e-8)
        if t > before and np.abs(x - 5).mean() < 0.5:
            return t - before
    return limit

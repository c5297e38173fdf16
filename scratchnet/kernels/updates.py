"""Optimizer updates, one pass over memory each; equations in reference/updates.py.

What limits a large update is memory, so nothing is read or written twice, and exact arithmetic costs no time: both
floors and any number of threads give the same bits (but for `squared_norm`, which sums in an order of its own). Scalars
come as Python floats; `real` casts them to the dtype of the arrays, or they would turn a float32 loop into float64.
`_flush` and `_maximum` compare so that NaN falls through to NaN.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from scratchnet.kernels.jit import exact, helper, kernel, workspace

CHUNK = 8192  # numbers summed by one thread at a time: fixed, so that the order of a sum is too


@helper
def _tiny(array: np.ndarray) -> float:
    """Where running means are set to 0: 2^27 times the smallest normal number of the array's dtype."""
    return array.dtype.type(np.finfo(array.dtype).tiny * 2.0**27)


@helper
def _flush(mean: float, tiny: float) -> float:
    """0 for what is nearly subnormal, else `mean`; no branch, and NaN stays."""
    return type(mean)(0) if abs(mean) < tiny else mean


@helper
def _maximum(a: float, b: float) -> float:
    """The larger of two numbers, NaN where one of them is."""
    return a if a > b or a != a else b


@exact
def sgd_update(
    params: np.ndarray,
    momentum_buffer: np.ndarray,
    grads: np.ndarray,
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
) -> None:
    """params -= lr b with b = momentum b + (1 - dampening) g; see reference.sgd_update."""
    real = params.dtype.type
    lr, momentum, dampening, weight_decay = real(lr), real(momentum), real(dampening), real(weight_decay)
    one, tiny = real(1), _tiny(params)
    buffered = momentum_buffer.size > 0
    for i in prange(params.size):
        step = grads[i] + weight_decay * params[i]
        if buffered:
            b = _flush(momentum * momentum_buffer[i] + (one - dampening) * step, tiny)
            momentum_buffer[i] = b
            step = step + momentum * b if nesterov else b
        params[i] -= lr * step


@exact
def adagrad_update(
    params: np.ndarray, square_sum: np.ndarray, grads: np.ndarray, lr: float, eps: float, weight_decay: float
) -> None:
    """params -= lr g / (sqrt(G) + eps) with G += g^2; see reference.adagrad_update."""
    real = params.dtype.type
    lr, eps, weight_decay = real(lr), real(eps), real(weight_decay)
    for i in prange(params.size):
        g = grads[i] + weight_decay * params[i]
        total = square_sum[i] + g * g
        square_sum[i] = total
        params[i] -= lr * g / (np.sqrt(total) + eps)


@exact
def adadelta_update(
    params: np.ndarray,
    v: np.ndarray,
    v_delta: np.ndarray,
    grads: np.ndarray,
    lr: float,
    rho: float,
    eps: float,
    weight_decay: float,
) -> None:
    """params -= lr sqrt(v_delta + eps) / sqrt(v + eps) g; see reference.adadelta_update."""
    real = params.dtype.type
    lr, rho, eps, weight_decay = real(lr), real(rho), real(eps), real(weight_decay)
    one, tiny = real(1), _tiny(params)
    for i in prange(params.size):
        g = grads[i] + weight_decay * params[i]
        v[i] = _flush(rho * v[i] + (one - rho) * g * g, tiny)
        delta = np.sqrt(v_delta[i] + eps) / np.sqrt(v[i] + eps) * g
        v_delta[i] = _flush(rho * v_delta[i] + (one - rho) * delta * delta, tiny)
        params[i] -= lr * delta


@exact
def rmsprop_update(
    params: np.ndarray,
    v: np.ndarray,
    m: np.ndarray,
    momentum_buffer: np.ndarray,
    grads: np.ndarray,
    lr: float,
    alpha: float,
    eps: float,
    momentum: float,
    weight_decay: float,
) -> None:
    """params -= lr g / (sqrt(v) + eps), centred and with momentum on request; see reference.rmsprop_update."""
    real = params.dtype.type
    lr, alpha, eps, momentum, weight_decay = real(lr), real(alpha), real(eps), real(momentum), real(weight_decay)
    one, zero, tiny = real(1), real(0), _tiny(params)
    centered, buffered = m.size > 0, momentum_buffer.size > 0
    for i in prange(params.size):
        g = grads[i] + weight_decay * params[i]
        variance = _flush(alpha * v[i] + (one - alpha) * g * g, tiny)
        v[i] = variance
        if centered:
            mean = _flush(alpha * m[i] + (one - alpha) * g, tiny)
            m[i] = mean
            variance = _maximum(variance - mean * mean, zero)
        step = g / (np.sqrt(variance) + eps)
        if buffered:
            step = _flush(momentum * momentum_buffer[i] + step, tiny)
            momentum_buffer[i] = step
        params[i] -= lr * step


@exact
def adam_update(
    params: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    v_max: np.ndarray,
    grads: np.ndarray,
    step_size: float,
    root_scale: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    shrink: float,
) -> None:
    """params -= shrink params + step_size m / (root_scale sqrt(v) + eps); see reference.adam_update."""
    real = params.dtype.type
    step_size, root_scale, beta1, beta2 = real(step_size), real(root_scale), real(beta1), real(beta2)
    eps, weight_decay, shrink = real(eps), real(weight_decay), real(shrink)
    one, tiny = real(1), _tiny(params)
    amsgrad = v_max.size > 0
    for i in prange(params.size):
        p = params[i]
        g = grads[i] + weight_decay * p
        first = _flush(beta1 * m[i] + (one - beta1) * g, tiny)
        second = _flush(beta2 * v[i] + (one - beta2) * g * g, tiny)
        m[i] = first
        v[i] = second
        if amsgrad:
            second = _maximum(v_max[i], second)
            v_max[i] = second
        params[i] = p - (shrink * p + step_size * first / (root_scale * np.sqrt(second) + eps))


@exact
def adamax_update(
    params: np.ndarray,
    m: np.ndarray,
    u: np.ndarray,
    grads: np.ndarray,
    step_size: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
) -> None:
    """params -= step_size m / u with u = max(beta2 u, |g| + eps); see reference.adamax_update."""
    real = params.dtype.type
    step_size, beta1, beta2 = real(step_size), real(beta1), real(beta2)
    eps, weight_decay = real(eps), real(weight_decay)
    one, tiny = real(1), _tiny(params)
    for i in prange(params.size):
        g = grads[i] + weight_decay * params[i]
        m[i] = _flush(beta1 * m[i] + (one - beta1) * g, tiny)
        u[i] = _maximum(beta2 * u[i], abs(g) + eps)
        params[i] -= step_size * m[i] / u[i]


@exact
def nadam_update(
    params: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    grads: np.ndarray,
    step_m: float,
    step_g: float,
    root_scale: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    shrink: float,
) -> None:
    """params -= shrink params + (step_m m + step_g g) / (root_scale sqrt(v) + eps); see reference.nadam_update."""
    real = params.dtype.type
    step_m, step_g, root_scale, beta1 = real(step_m), real(step_g), real(root_scale), real(beta1)
    beta2, eps, weight_decay, shrink = real(beta2), real(eps), real(weight_decay), real(shrink)
    one, tiny = real(1), _tiny(params)
    for i in prange(params.size):
        p = params[i]
        g = grads[i] + weight_decay * p
        m[i] = _flush(beta1 * m[i] + (one - beta1) * g, tiny)
        v[i] = _flush(beta2 * v[i] + (one - beta2) * g * g, tiny)
        params[i] = p - (shrink * p + (step_m * m[i] + step_g * g) / (root_scale * np.sqrt(v[i]) + eps))


@exact
def radam_update(
    params: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    grads: np.ndarray,
    step_size: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    shrink: float,
    rectified: bool,
) -> None:
    """params -= shrink params + step_size m / (sqrt(v) + eps), or step_size m; see reference.radam_update."""
    real = params.dtype.type
    step_size, beta1, beta2 = real(step_size), real(beta1), real(beta2)
    eps, weight_decay, shrink = real(eps), real(weight_decay), real(shrink)
    one, tiny = real(1), _tiny(params)
    for i in prange(params.size):
        p = params[i]
        g = grads[i] + weight_decay * p
        m[i] = _flush(beta1 * m[i] + (one - beta1) * g, tiny)
        v[i] = _flush(beta2 * v[i] + (one - beta2) * g * g, tiny)
        root = np.sqrt(v[i]) + eps if rectified else one
        params[i] = p - (shrink * p + step_size * m[i] / root)


@exact
def lion_update(
    params: np.ndarray, m: np.ndarray, grads: np.ndarray, lr: float, beta1: float, beta2: float, shrink: float
) -> None:
    """params -= shrink params + lr sign(beta1 m + (1 - beta1) g); see reference.lion_update."""
    real = params.dtype.type
    lr, beta1, beta2, shrink = real(lr), real(beta1), real(beta2), real(shrink)
    one, zero, tiny = real(1), real(0), _tiny(params)
    for i in prange(params.size):
        p, g = params[i], grads[i]
        c = beta1 * m[i] + (one - beta1) * g
        sign = one if c > zero else (-one if c < zero else c)  # 0 stays 0, NaN stays NaN
        params[i] = p - (shrink * p + lr * sign)
        m[i] = _flush(beta2 * m[i] + (one - beta2) * g, tiny)


@helper
def _sum_of_squares(numbers: np.ndarray) -> float:
    """Sum of the squares of some numbers, in float64."""
    total = 0.0
    for i in range(numbers.size):
        number = np.float64(numbers[i])
        total += number * number
    return total


def squared_norm(total: np.ndarray, grads: np.ndarray) -> None:
    """total[0] = sum of squares: chunks of fixed size, added in order; see reference.squared_norm."""
    chunks = -(-grads.size // CHUNK)
    _squared_norm(total, workspace("squared_norm", chunks, total.dtype)[:chunks], grads)


@kernel
def _squared_norm(total: np.ndarray, partial: np.ndarray, grads: np.ndarray) -> None:
    chunks = partial.size
    for c in prange(chunks):
        partial[c] = _sum_of_squares(grads[c * CHUNK : (c + 1) * CHUNK])
    total[0] = 0.0
    for c in range(chunks):
        total[0] += partial[c]


@exact
def scale_gradients(grads: np.ndarray, factor: float) -> None:
    """grads *= factor; see reference.scale_gradients."""
    real = grads.dtype.type
    factor = real(factor)
    for i in prange(grads.size):
        grads[i] *= factor


@exact
def clip_gradients(grads: np.ndarray, limit: float) -> None:
    """grads = min(max(grads, -limit), limit); see reference.clip_gradients."""
    real = grads.dtype.type
    limit = real(limit)
    for i in prange(grads.size):
        g = grads[i]
        grads[i] = -limit if g < -limit else (limit if g > limit else g)

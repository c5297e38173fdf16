"""Optimizer updates: one step of each method over the flat parameter array, and the norm that clipping needs.

All arrays of an update are 1-D, of one size P and one float dtype; an array that a mode does not use has size 0. What
changes with the step (bias corrections, schedules) is worked out by optimizers/ in float64, with the betas already
rounded to the dtype of the arrays. eps stands where PyTorch puts it, inside a root or outside, so that its users'
trajectories are ours.

    m, v   running means of the gradient and of its square: its first and second moment

    g      <- grads + weight_decay params        coupled decay, an L2 penalty: it enters the gradient and the moments
    params <- params - shrink params             decoupled decay (Loshchilov & Hutter 2019), shrink = lr weight_decay

A running mean that is fed zeros (a dead unit, a pixel that is always black) sinks into the subnormal numbers, where an
operation takes 30 times longer, for good. So it is set to 0 below 2^27 times the smallest normal number: below 2^-99,
about 1.6e-30, in float32; below 2^-995 in float64. Against the usual eps this changes no step. (Lion has no eps, and
would step by lr for as long as m is not 0; here it stops.) With eps = 0 a second moment of 0 divides by 0, and the
infinity shows; a gradient that was 0 from the start gives NaN.

NaN in a gradient reaches its parameter and its state. A gradient whose square overflows makes v infinite, and what is
divided by its root is 0 from then on, as in PyTorch: that parameter stands still, but for RMSprop's momentum, which
runs out, and RAdam's first steps, which do not divide. With centred RMSprop it becomes NaN where m^2 overflows too.
"""

from __future__ import annotations

import numpy as np


def _flush(mean: np.ndarray) -> None:
    """Set what is nearly subnormal to 0, in place; a comparison with NaN is False, so NaN stays."""
    mean[np.abs(mean) < np.finfo(mean.dtype).tiny * 2**27] = 0


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
    """Move `params` one step of gradient descent, in place.

        b      <- momentum b + (1 - dampening) g        Polyak 1964; b starts at 0
        params <- params - lr b                         without a buffer: params - lr g
        params <- params - lr (g + momentum b)          nesterov, in PyTorch's form of Sutskever et al. 2013

    In Nesterov's form params is the point looked ahead at, x + momentum v with v = -lr b: the paper's gradient is that.

    lr stands outside b: under a schedule this is not the papers' b <- momentum b - lr g.

    Args:
        params: (P,) float. Written.
        momentum_buffer: (P,) b, or (0,) for gradient descent without momentum. Written.
        grads: (P,). Read.
        lr, momentum, dampening, weight_decay: scalars of that dtype.
        nesterov: look ahead; needs a buffer.
    """
    g = grads + weight_decay * params
    if momentum_buffer.size == 0:
        params -= lr * g
        return
    momentum_buffer[...] = momentum * momentum_buffer + (1 - dampening) * g
    _flush(momentum_buffer)
    params -= lr * (g + momentum * momentum_buffer if nesterov else momentum_buffer)


def adagrad_update(
    params: np.ndarray, square_sum: np.ndarray, grads: np.ndarray, lr: float, eps: float, weight_decay: float
) -> None:
    """Move `params` one Adagrad step, in place.

        G      <- G + g^2                               Duchi, Hazan & Singer 2011
        params <- params - lr g / (sqrt(G) + eps)       eps is the paper's delta, outside the root

    Args:
        params: (P,) float. Written.
        square_sum: (P,) G. Written.
        grads: (P,). Read.
        lr, eps, weight_decay: scalars of that dtype.
    """
    g = grads + weight_decay * params
    square_sum += g * g
    params -= lr * g / (np.sqrt(square_sum) + eps)


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
    """Move `params` one Adadelta step, in place.

        v       <- rho v + (1 - rho) g^2                            Zeiler 2012, algorithm 1 (E[g^2], E[dx^2])
        delta    = sqrt(v_delta + eps) / sqrt(v + eps) g
        v_delta <- rho v_delta + (1 - rho) delta^2
        params  <- params - lr delta                                the paper has no lr: its lr is 1

    Args:
        params: (P,) float. Written.
        v, v_delta: (P,) running second moments of gradients and of steps. Written.
        grads: (P,). Read.
        lr, rho, eps, weight_decay: scalars of that dtype.
    """
    g = grads + weight_decay * params
    v[...] = rho * v + (1 - rho) * g * g
    _flush(v)
    delta = np.sqrt(v_delta + eps) / np.sqrt(v + eps) * g
    v_delta[...] = rho * v_delta + (1 - rho) * delta * delta
    _flush(v_delta)
    params -= lr * delta


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
    """Move `params` one RMSprop step, in place.

        v      <- alpha v + (1 - alpha) g^2                 Tieleman & Hinton 2012, lecture 6.5
        m      <- alpha m + (1 - alpha) g                   centred (Graves 2013, eq. 38-45): where m is given
        d       = sqrt(v - m^2) + eps                       eps outside the root, as PyTorch; without m: sqrt(v) + eps
        b      <- momentum b + g / d                        where a buffer is given
        params <- params - lr b                             without a buffer: params - lr g / d

    v - m^2 is a variance; where rounding makes it negative it is taken as 0 (PyTorch's square root gives NaN there).

    Args:
        params: (P,) float. Written.
        v: (P,) second moment. Written.
        m: (P,) mean gradient, or (0,) for RMSprop that is not centred. Written.
        momentum_buffer: (P,) b, or (0,) for RMSprop without momentum. Written.
        grads: (P,). Read.
        lr, alpha, eps, momentum, weight_decay: scalars of that dtype.
    """
    g = grads + weight_decay * params
    v[...] = alpha * v + (1 - alpha) * g * g
    _flush(v)
    variance = v
    if m.size:
        m[...] = alpha * m + (1 - alpha) * g
        _flush(m)
        variance = np.maximum(v - m * m, 0)
    step = g / (np.sqrt(variance) + eps)
    if momentum_buffer.size:
        momentum_buffer[...] = momentum * momentum_buffer + step
        _flush(momentum_buffer)
        step = momentum_buffer
    params -= lr * step


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
    """Move `params` one Adam step, in place; AdamW and AMSGrad too.

        m      <- beta1 m + (1 - beta1) g                                   Kingma & Ba 2015, algorithm 1
        v      <- beta2 v + (1 - beta2) g^2
        v_max  <- max(v_max, v), which then stands in for v                 Reddi et al. 2018; where v_max is given
        params <- params - shrink params - step_size m / (root_scale sqrt(v) + eps)

    With step_size = lr / (1 - beta1^t) and root_scale = 1 / sqrt(1 - beta2^t) this is the paper's
    lr m_hat / (sqrt(v_hat) + eps), where m_hat = m / (1 - beta1^t) and v_hat = v / (1 - beta2^t) in step t, without
    dividing whole arrays. m starts at 0: after t steps the weights (1 - beta1) beta1^(t - s) of its gradients add up to
    1 - beta1^t, not to 1.

    Args:
        params: (P,) float. Written.
        m, v: (P,) first and second moment. Written.
        v_max: (P,) largest uncorrected v so far, or (0,) for Adam. Written.
        grads: (P,). Read.
        step_size, root_scale, beta1, beta2, eps, weight_decay, shrink: scalars of that dtype.
    """
    g = grads + weight_decay * params
    m[...] = beta1 * m + (1 - beta1) * g
    v[...] = beta2 * v + (1 - beta2) * g * g
    _flush(m)
    _flush(v)
    second = v
    if v_max.size:
        np.maximum(v_max, v, out=v_max)
        second = v_max
    params -= shrink * params + step_size * m / (root_scale * np.sqrt(second) + eps)


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
    """Move `params` one AdaMax step, in place.

        m      <- beta1 m + (1 - beta1) g                Kingma & Ba 2015, algorithm 2
        u      <- max(beta2 u, |g| + eps)                the paper has no eps and divides 0 by 0; here as PyTorch
        params <- params - step_size m / u               step_size = lr / (1 - beta1^t)

    u is not flushed: it never falls below eps.

    Args:
        params: (P,) float. Written.
        m, u: (P,) first moment and infinity norm. Written.
        grads: (P,). Read.
        step_size, beta1, beta2, eps, weight_decay: scalars of that dtype.
    """
    g = grads + weight_decay * params
    m[...] = beta1 * m + (1 - beta1) * g
    _flush(m)
    np.maximum(beta2 * u, np.abs(g) + eps, out=u)
    params -= step_size * m / u


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
    """Move `params` one NAdam step, in place.

        m      <- beta1 m + (1 - beta1) g                Dozat 2016, algorithm 2, with PyTorch's beta1 in m,
        v      <- beta2 v + (1 - beta2) g^2              and without the paper's factor beta2 before v below
        params <- params - shrink params - (step_m m + step_g g) / (root_scale sqrt(v) + eps)

    The momentum part is already that of step t + 1, mu_(t+1) m: Nesterov's look-ahead. Each part is divided by its own
    bias correction:

        mu_t       = beta1 (1 - 0.96^(t momentum_decay) / 2)
        step_m     = lr mu_(t+1) / (1 - mu_1 ... mu_(t+1))
        step_g     = lr (1 - mu_t) / (1 - mu_1 ... mu_t)
        root_scale = 1 / sqrt(1 - beta2^t)

    Args:
        params: (P,) float. Written.
        m, v: (P,) first and second moment. Written.
        grads: (P,). Read.
        step_m, step_g, root_scale, beta1, beta2, eps, weight_decay, shrink: scalars of that dtype.
    """
    g = grads + weight_decay * params
    m[...] = beta1 * m + (1 - beta1) * g
    v[...] = beta2 * v + (1 - beta2) * g * g
    _flush(m)
    _flush(v)
    params -= shrink * params + (step_m * m + step_g * g) / (root_scale * np.sqrt(v) + eps)


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
    """Move `params` one RAdam step, in place.

        m      <- beta1 m + (1 - beta1) g                                   Liu et al. 2020, algorithm 2
        v      <- beta2 v + (1 - beta2) g^2
        params <- params - shrink params - step_size m / (sqrt(v) + eps)    rectified: the variance is tractable
        params <- params - shrink params - step_size m                      otherwise, in the first steps

    step_size = lr / (1 - beta1^t), times r sqrt(1 - beta2^t) when rectified, which is where rho_t > 5:

        rho_inf = 2 / (1 - beta2) - 1,   rho_t = rho_inf - 2 t beta2^t / (1 - beta2^t)
        r       = sqrt((rho_t - 4) (rho_t - 2) rho_inf / ((rho_inf - 4) (rho_inf - 2) rho_t))

    eps stands beside the uncorrected root, as in PyTorch.

    Args:
        params: (P,) float. Written.
        m, v: (P,) first and second moment. Written.
        grads: (P,). Read.
        step_size, beta1, beta2, eps, weight_decay, shrink: scalars of that dtype.
        rectified: divide by the second moment.
    """
    g = grads + weight_decay * params
    m[...] = beta1 * m + (1 - beta1) * g
    v[...] = beta2 * v + (1 - beta2) * g * g
    _flush(m)
    _flush(v)
    step = step_size * m
    params -= shrink * params + (step / (np.sqrt(v) + eps) if rectified else step)


def lion_update(
    params: np.ndarray, m: np.ndarray, grads: np.ndarray, lr: float, beta1: float, beta2: float, shrink: float
) -> None:
    """Move `params` one Lion step, in place.

        params <- params - shrink params - lr sign(beta1 m + (1 - beta1) g)         Chen et al. 2023, algorithm 2
        m      <- beta2 m + (1 - beta2) g                                           sign(0) = 0, sign(NaN) = NaN

    Args:
        params: (P,) float. Written.
        m: (P,) first moment. Written.
        grads: (P,). Read.
        lr, beta1, beta2, shrink: scalars of that dtype.
    """
    params -= shrink * params + lr * np.sign(beta1 * m + (1 - beta1) * grads)
    m[...] = beta2 * m + (1 - beta2) * grads
    _flush(m)


def squared_norm(total: np.ndarray, grads: np.ndarray) -> None:
    """Sum the squares of all gradients, in float64.

        total[0] = sum_i grads[i]^2

    Args:
        total: (1,) float64. Written: NaN where a gradient is NaN, infinity where one is infinite (or where the squares
            overflow float64, above 1e154).
        grads: (P,) float. Read.
    """
    total[0] = np.sum(np.square(grads, dtype=np.float64))


def scale_gradients(grads: np.ndarray, factor: float) -> None:
    """Multiply all gradients by one number, in place.

        grads <- factor grads

    Args:
        grads: (P,) float. Written. NaN stays NaN.
        factor: scalar of that dtype.
    """
    grads *= factor


def clip_gradients(grads: np.ndarray, limit: float) -> None:
    """Clamp every gradient into [-limit, limit], in place.

        grads <- min(max(grads, -limit), limit)

    Args:
        grads: (P,) float. Written. NaN stays NaN; an infinity becomes the limit of its sign.
        limit: scalar of that dtype, > 0.
    """
    np.clip(grads, -limit, limit, out=grads)

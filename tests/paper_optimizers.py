"""The optimizers once more, transcribed from their papers: one number, plain Python, nothing shared with the package.

Each is `method(x, gradient, steps, ...)`, where gradient(x, t) is dLoss/dx at step t, and returns x after every step.
Where PyTorch, and so the package, departs from its paper, the docstring says how, and test_optimizers.py how it is met.
"""

from __future__ import annotations

import math


def momentum(x, gradient, steps, lr, mu):
    """Polyak 1964: v <- mu v - lr g, x <- x + v. PyTorch keeps lr out of v: the same at constant lr."""
    path, v = [], 0.0
    for t in range(1, steps + 1):
        v = mu * v - lr * gradient(x, t)
        x += v
        path.append(x)
    return path


def nesterov(x, gradient, steps, lr, mu):
    """Sutskever et al. 2013: v <- mu v - lr grad(x + mu v), x <- x + v.

    PyTorch's parameter is x + mu v, where the gradient is taken; that is what is returned. At constant lr only.
    """
    path, v = [], 0.0
    for t in range(1, steps + 1):
        v = mu * v - lr * gradient(x + mu * v, t)
        x += v
        path.append(x + mu * v)
    return path


def adagrad(x, gradient, steps, lr):
    """Duchi, Hazan & Singer 2011, figure 1, diagonal, with delta = 0; PyTorch calls it eps."""
    path, total = [], 0.0
    for t in range(1, steps + 1):
        g = gradient(x, t)
        total += g**2
        x -= lr * g / math.sqrt(total)
        path.append(x)
    return path


def adadelta(x, gradient, steps, rho, eps):
    """Zeiler 2012, algorithm 1. No lr; PyTorch's default is 1."""
    path, squares, deltas = [], 0.0, 0.0
    for t in range(1, steps + 1):
        g = gradient(x, t)
        squares = rho * squares + (1 - rho) * g**2
        delta = -math.sqrt(deltas + eps) / math.sqrt(squares + eps) * g
        deltas = rho * deltas + (1 - rho) * delta**2
        x += delta
        path.append(x)
    return path


def rmsprop(x, gradient, steps, lr, decay):
    """Tieleman & Hinton 2012, lecture 6.5. No eps; PyTorch adds one to the root."""
    path, squares = [], 0.0
    for t in range(1, steps + 1):
        g = gradient(x, t)
        squares = decay * squares + (1 - decay) * g**2
        x -= lr * g / math.sqrt(squares)
        path.append(x)
    return path


def rmsprop_graves(x, gradient, steps, lr, decay, mu):
    """Graves 2013, equations 38-41: centred, with momentum. His eps stands inside the root, PyTorch's beside it."""
    path, n, mean, delta = [], 0.0, 0.0, 0.0
    for t in range(1, steps + 1):
        g = gradient(x, t)
        n = decay * n + (1 - decay) * g**2
        mean = decay * mean + (1 - decay) * g
        delta = mu * delta - lr * g / math.sqrt(n - mean**2)
        x += delta
        path.append(x)
    return path


def adam(x, gradient, steps, alpha, b1, b2, eps, decay=0.0):
    """Kingma & Ba 2015, algorithm 1. With decay: Loshchilov & Hutter 2019, algorithm 2 (AdamW).

    There alpha does not multiply the decay; in PyTorch lr does.
    """
    path, m, v = [], 0.0, 0.0
    for t in range(1, steps + 1):
        g = gradient(x, t)
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        mh = m / (1 - b1**t)
        vh = v / (1 - b2**t)
        x = x - alpha * mh / (math.sqrt(vh) + eps) - decay * x
        path.append(x)
    return path


def amsgrad(x, gradient, steps, alpha, b1, b2):
    """Reddi et al. 2018, algorithm 2, without its projection. No bias correction and no eps; PyTorch has both."""
    path, m, v, vh = [], 0.0, 0.0, 0.0
    for t in range(1, steps + 1):
        g = gradient(x, t)
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        vh = max(vh, v)
        x -= alpha * m / math.sqrt(vh)
        path.append(x)
    return path


def adamax(x, gradient, steps, alpha, b1, b2):
    """Kingma & Ba 2015, algorithm 2. No eps; PyTorch adds one to |g|."""
    path, m, u = [], 0.0, 0.0
    for t in range(1, steps + 1):
        g = gradient(x, t)
        m = b1 * m + (1 - b1) * g
        u = max(b2 * u, abs(g))
        x -= alpha / (1 - b1**t) * m / u
        path.append(x)
    return path


def nadam(x, gradient, steps, alpha, b1, b2, eps, psi, constant_mean=True):
    """Dozat 2016, with the schedule mu_t = b1 (1 - 0.96^(t psi) / 2).

    The paper's m decays by mu_t (constant_mean=False), PyTorch's by b1; where the schedule has ended, mu_t = b1 and
    they agree. The paper of 2016 has v_hat = b2 v / (1 - b2^t); its report of 2015 and PyTorch have no b2 there, nor
    has this.
    """
    path, m, v, product = [], 0.0, 0.0, 1.0
    for t in range(1, steps + 1):
        g = gradient(x, t)
        mu, mu_next = (b1 * (1 - 0.5 * 0.96 ** (k * psi)) for k in (t, t + 1))
        product *= mu
        kept = b1 if constant_mean else mu
        m = kept * m + (1 - kept) * g
        v = b2 * v + (1 - b2) * g**2
        mh = mu_next * m / (1 - product * mu_next) + (1 - mu) * g / (1 - product)
        x -= alpha * mh / (math.sqrt(v / (1 - b2**t)) + eps)
        path.append(x)
    return path


def radam(x, gradient, steps, alpha, b1, b2, threshold):
    """Liu et al. 2020, algorithm 2. No eps, and the threshold is 4; PyTorch has both an eps and 5."""
    path, m, v = [], 0.0, 0.0
    rho_inf = 2 / (1 - b2) - 1
    for t in range(1, steps + 1):
        g = gradient(x, t)
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        mh = m / (1 - b1**t)
        rho = rho_inf - 2 * t * b2**t / (1 - b2**t)
        if rho > threshold:
            r = math.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
            x -= alpha * r * mh * math.sqrt((1 - b2**t) / v)
        else:
            x -= alpha * mh
        path.append(x)
    return path


def lion(x, gradient, steps, lr, b1, b2, decay):
    """Chen et al. 2023, algorithm 2."""
    path, m = [], 0.0
    for t in range(1, steps + 1):
        g = gradient(x, t)
        c = b1 * m + (1 - b1) * g
        x = x - lr * (math.copysign(1, c) if c else 0.0) - lr * decay * x
        m = b2 * m + (1 - b2) * g
        path.append(x)
    return path

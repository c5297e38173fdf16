"""Nesterov's momentum with the learning rate inside the velocity, for rates that change with the step."""

from __future__ import annotations

import numpy as np

from scratchnet.optimizers import SGD


class SutskeverNesterov(SGD):
    """Momentum as Sutskever et al. (2013) wrote it, which the figures with alpha / sqrt(t) need.

        v      <- mu v - lr_t g
        params <- params + mu v - lr_t g                with the new v

    PyTorch keeps the rate outside of its buffer b: params <- params - lr_t (g + mu b), b <- mu b + g. For a constant
    rate v = -lr b and both are the same; a falling rate also shrinks what PyTorch's buffer holds already. So the buffer
    is scaled by lr_(t-1) / lr_t before each step: then v = -lr_t b always, and the rest is SGD's.
    """

    def __init__(self, params: np.ndarray, lr: object, momentum: float = 0.9, weight_decay: float = 0.0) -> None:
        super().__init__(params, lr, momentum=momentum, weight_decay=weight_decay, nesterov=True)

    def _update(self, grads: np.ndarray, lr: float) -> None:
        if callable(self.lr) and self.t > 1:
            self.state["momentum_buffer"] *= self.lr(self.t - 1) / lr
        super()._update(grads, lr)

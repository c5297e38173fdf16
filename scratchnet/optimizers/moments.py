"""Adam and its family: running means of the gradient and of its size, corrected for their start at 0."""

from __future__ import annotations

import math
from types import ModuleType

import numpy as np

from scratchnet import kernels
from scratchnet.optimizers.base import Betas, LearningRate, Optimizer


class _Moments(Optimizer):
    """What these methods have in common: two decay rates, eps, weight decay; m and one more state array."""

    arguments: tuple[str, ...] = ("betas", "eps", "weight_decay")
    fixed = ("decoupled_weight_decay",)  # AdamW's is no argument
    decoupled_weight_decay = False

    def __init__(
        self,
        params: np.ndarray,
        lr: LearningRate,
        betas: Betas,
        eps: float,
        weight_decay: float,
        ops: ModuleType,
        second: str = "v",
    ) -> None:
        super().__init__(params, lr, ops)
        self.betas = self._check_betas(betas)
        self.eps = self._number("eps", eps)
        self.weight_decay = self._number("weight_decay", weight_decay)
        self._betas = self._rounded(self.betas[0]), self._rounded(self.betas[1])
        self._allocate("m")
        self._allocate(second)

    def _decay(self, lr: float) -> tuple[float, float]:
        """(weight_decay, shrink) for an operation that knows both kinds of decay; one of them is 0."""
        return (0.0, lr * self.weight_decay) if self.decoupled_weight_decay else (self.weight_decay, 0.0)


class Adam(_Moments):
    """Steps from estimates of the gradient's first and second moment (Kingma & Ba 2015, algorithm 1).

    Args:
        params: (P,) float, e.g. net.params. Written by step.
        lr: > 0, or a schedule t -> lr. The paper's alpha.
        betas: decay of m and of v, each in [0, 1).
        eps: >= 0, beside the root of the corrected v, as in the paper.
        weight_decay: >= 0; added to the gradient, an L2 penalty.
        amsgrad: divide by the largest v so far (Reddi et al. 2018), the uncorrected one as in PyTorch.
        decoupled_weight_decay: shrink params by lr weight_decay instead: AdamW.
        bias_correction: False leaves out both corrections, as the paper's section 6.4 does for comparison.
        ops: the floor to run on, kernels or reference.

    State: m, v; v_max with amsgrad.
    """

    arguments = (*_Moments.arguments, "amsgrad", "decoupled_weight_decay", "bias_correction")

    def __init__(
        self,
        params: np.ndarray,
        lr: LearningRate = 1e-3,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        decoupled_weight_decay: bool = False,
        bias_correction: bool = True,
        ops: ModuleType = kernels,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, ops)
        self.amsgrad = self._flag("amsgrad", amsgrad)
        self.decoupled_weight_decay = self._flag("decoupled_weight_decay", decoupled_weight_decay)
        self.bias_correction = self._flag("bias_correction", bias_correction)
        self._allocate("v_max", used=self.amsgrad)

    def _update(self, grads: np.ndarray, lr: float) -> None:
        m, v, v_max = self.state["m"], self.state["v"], self._array("v_max")
        correction1, correction2 = 1.0, 1.0
        if self.bias_correction:
            correction1, correction2 = bias_correction(self._betas[0], self.t), bias_correction(self._betas[1], self.t)
        step_size, root_scale = lr / correction1, 1 / math.sqrt(correction2)
        self.ops.adam_update(
            self.params, m, v, v_max, grads, step_size, root_scale, *self._betas, self.eps, *self._decay(lr)
        )


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019), in PyTorch's form: params shrink by lr weight_decay.

    Arguments and state as Adam; weight_decay is 0.01 unless given.
    """

    arguments = (*_Moments.arguments, "amsgrad", "bias_correction")

    def __init__(
        self,
        params: np.ndarray,
        lr: LearningRate = 1e-3,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        bias_correction: bool = True,
        ops: ModuleType = kernels,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            decoupled_weight_decay=True,
            bias_correction=bias_correction,
            ops=ops,
        )


class Adamax(_Moments):
    """Adam with the infinity norm in place of the second moment (Kingma & Ba 2015, algorithm 2).

    Args:
        lr, betas, eps, weight_decay (coupled): as Adam. eps stands beside |g|, as in PyTorch; the paper has none.

    State: m, u.
    """

    def __init__(
        self,
        params: np.ndarray,
        lr: LearningRate = 2e-3,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        ops: ModuleType = kernels,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, ops, second="u")

    def _update(self, grads: np.ndarray, lr: float) -> None:
        step_size = lr / bias_correction(self._betas[0], self.t)
        m, u = self.state["m"], self.state["u"]
        self.ops.adamax_update(self.params, m, u, grads, step_size, *self._betas, self.eps, self.weight_decay)


class NAdam(_Moments):
    """Adam with Nesterov's look-ahead and a momentum that warms up (Dozat 2016).

    Args:
        lr, betas, eps, weight_decay, decoupled_weight_decay: as Adam.
        momentum_decay: >= 0; mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2). The paper's is 1/250.

    State: m, v, and the scalar mu_product = mu_1 mu_2 ... mu_t.
    """

    arguments = (*_Moments.arguments, "momentum_decay", "decoupled_weight_decay")
    scalars = ("mu_product",)

    def __init__(
        self,
        params: np.ndarray,
        lr: LearningRate = 2e-3,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        ops: ModuleType = kernels,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, ops)
        self.momentum_decay = self._number("momentum_decay", momentum_decay)
        self.decoupled_weight_decay = self._flag("decoupled_weight_decay", decoupled_weight_decay)
        self.mu_product = 1.0

    def _mu(self, t: int) -> float:
        return self._betas[0] * (1 - 0.5 * 0.96 ** (t * self.momentum_decay))

    def _update(self, grads: np.ndarray, lr: float) -> None:
        mu, mu_next = self._mu(self.t), self._mu(self.t + 1)
        self.mu_product *= mu
        step_m = lr * mu_next / (1 - self.mu_product * mu_next)
        step_g = lr * (1 - mu) / (1 - self.mu_product)
        root_scale = 1 / math.sqrt(bias_correction(self._betas[1], self.t))
        m, v = self.state["m"], self.state["v"]
        self.ops.nadam_update(
            self.params, m, v, grads, step_m, step_g, root_scale, *self._betas, self.eps, *self._decay(lr)
        )


class RAdam(_Moments):
    """Adam that does without v until the variance of the step is tractable (Liu et al. 2020).

    Args:
        lr, betas, eps, weight_decay, decoupled_weight_decay: as Adam. It divides by v once rho_t > 5, as PyTorch (the
            paper: > 4): from step 6 on at the default beta2, never for beta2 <= 2/3.

    State: m, v.
    """

    arguments = (*_Moments.arguments, "decoupled_weight_decay")

    def __init__(
        self,
        params: np.ndarray,
        lr: LearningRate = 1e-3,
        betas: Betas = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        ops: ModuleType = kernels,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, ops)
        self.decoupled_weight_decay = self._flag("decoupled_weight_decay", decoupled_weight_decay)

    def _update(self, grads: np.ndarray, lr: float) -> None:
        beta1, beta2 = self._betas
        correction1, correction2 = bias_correction(beta1, self.t), bias_correction(beta2, self.t)
        longest = 2 / (1 - beta2) - 1  # rho_inf: the length of the average behind v, once it is full
        length = longest - 2 * self.t * (1 - correction2) / correction2  # rho_t
        rectified = length > 5
        step_size = lr / correction1
        if rectified:
            ratio = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
            step_size *= math.sqrt(ratio * correction2)
        m, v = self.state["m"], self.state["v"]
        self.ops.radam_update(self.params, m, v, grads, step_size, beta1, beta2, self.eps, *self._decay(lr), rectified)


def bias_correction(beta: float, t: int) -> float:
    """1 - beta^t: what the weights of a running mean that started at 0 add up to; exact also for beta near 1."""
    return -math.expm1(t * math.log(beta)) if beta else 1.0

"""Gradient clipping, between `net.backward` and `optimizer.step`: by the global norm, or by value.

Both write `grads` in place, and what is NaN before is NaN afterwards. An infinity stays one under the norm; by value it
becomes the limit.
"""

from __future__ import annotations

import math
from types import ModuleType

import numpy as np

from scratchnet import kernels
from scratchnet.arrays import check_in_place, check_number, check_ops


def clip_grad_norm(grads: np.ndarray, max_norm: float, ops: ModuleType = kernels) -> float:
    """Shorten the gradient to a largest length, keeping its direction (Pascanu et al. 2013).

        norm   = sqrt(sum_i grads[i]^2)                                  in float64, the same bits for any thread count
        grads <- min(1, max_norm / (norm + 1e-6)) grads                  as PyTorch's clip_grad_norm_

    A norm that is NaN or infinite scales nothing: the gradients stay as they are, for the caller to find the bad ones
    (PyTorch would multiply by NaN or 0). Check the returned norm: `if not math.isfinite(norm)`.

    Args:
        grads: (P,) float, e.g. net.grads. Written.
        max_norm: > 0; infinity only measures.
        ops: the floor to run on, kernels or reference.

    Returns:
        the norm before clipping.
    """
    check_in_place("clip_grad_norm: grads", grads, (None,))
    check_ops("clip_grad_norm: ops", ops)
    if isinstance(max_norm, np.ndarray) or max_norm != math.inf:
        max_norm = check_number("clip_grad_norm: max_norm", max_norm, 0, include_low=False)
    total = np.empty(1, np.float64)
    ops.squared_norm(total, grads)
    norm = math.sqrt(total[0])
    factor = max_norm / (norm + 1e-6)
    if factor < 1 and math.isfinite(norm):
        ops.scale_gradients(grads, factor)
    return norm


def clip_grad_value(grads: np.ndarray, limit: float, ops: ModuleType = kernels) -> None:
    """Clamp every gradient into [-limit, limit], as PyTorch's clip_grad_value_.

        grads <- min(max(grads, -limit), limit)                          NaN stays NaN; infinity becomes the limit

    Args:
        grads: (P,) float, e.g. net.grads. Written.
        limit: > 0.
        ops: the floor to run on, kernels or reference.
    """
    check_in_place("clip_grad_value: grads", grads, (None,))
    check_ops("clip_grad_value: ops", ops)
    ops.clip_gradients(grads, check_number("clip_grad_value: limit", limit, 0, include_low=False))

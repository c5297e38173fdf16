"""The place where a residual branch joins its shortcut (He et al. 2016)."""

from __future__ import annotations

import numpy as np


def residual_forward(y: np.ndarray, x: np.ndarray, branch: np.ndarray) -> None:
    """Add a branch f(x) to its input.

        y = x + branch

    Args:
        y: float, any shape. Written.
        x, branch: the same shape and dtype. Read.
    """
    np.add(x, branch, out=y)


def residual_backward(dx: np.ndarray, dy: np.ndarray, dbranch: np.ndarray) -> None:
    """Add the gradients of both ways from x to y: where a value forks, its gradients add up.

        dx = dy + dbranch          dbranch = dL/dx through the branch alone

    Args:
        dx: float, any shape. Overwritten.
        dy, dbranch: the same shape and dtype. Read.
    """
    np.add(dy, dbranch, out=dx)

"""Where a residual branch joins its shortcut; equations in reference/residual.py."""

from __future__ import annotations

import numpy as np
from numba import prange

from scratchnet.kernels.jit import elementwise


@elementwise
def residual_forward(y: np.ndarray, x: np.ndarray, branch: np.ndarray) -> None:
    """y = x + branch; see reference.residual_forward."""
    for i in prange(x.size):
        y[i] = x[i] + branch[i]


@elementwise
def residual_backward(dx: np.ndarray, dy: np.ndarray, dbranch: np.ndarray) -> None:
    """dx = dy + dbranch; see reference.residual_backward."""
    for i in prange(dy.size):
        dx[i] = dy[i] + dbranch[i]

"""The few directions that an optimizer has seen, as an orthonormal basis that grows, and is cut when it is full."""

from __future__ import annotations

import numpy as np


class Subspace:
    """An orthonormal basis of the directions seen so far: x = at @ basis.

    It holds at most K = 1.5 * smallest directions; then `collapse` keeps those that matter. Where so many would span
    the whole space, the basis is that of the space itself and nothing is ever new.

    Args:
        x: (M,) the first point. smallest: directions that must survive a collapse.
    """

    def __init__(self, x: np.ndarray, smallest: int) -> None:
        self.most = min(x.size, -(-3 * smallest // 2))
        self.x = x.copy()
        self.vectors = np.empty((self.most, x.size), x.dtype)  # (K, M), the first `size` in use
        self.size = 0
        if self.most == x.size:
            self.vectors[:] = np.eye(x.size)
            self.size = x.size
        elif x.any():
            self.append(x)

    @property
    def full(self) -> bool:
        return self.size == self.most

    @property
    def nbytes(self) -> int:
        return self.vectors.nbytes + self.x.nbytes

    def project(self, vector: np.ndarray) -> np.ndarray:
        """The coordinates of a vector, (K,) float64."""
        at = np.zeros(self.most)
        at[: self.size] = self.vectors[: self.size] @ vector.astype(self.x.dtype, copy=False)
        return at

    def locate(self, at: np.ndarray) -> None:
        """Compute x from its coordinates."""
        np.matmul(at[: self.size].astype(self.x.dtype), self.vectors[: self.size], out=self.x)

    def novelty(self, vector: np.ndarray) -> np.ndarray | None:
        """The part of a vector that lies outside the basis, or None where that is rounding."""
        if self.size == self.x.size:
            return None
        rest = vector.astype(self.x.dtype)
        least = 10 * np.finfo(self.x.dtype).eps * np.linalg.norm(rest)
        for _ in range(2):  # Gram-Schmidt: twice is enough (Kahan), and once where little cancels
            length = np.linalg.norm(rest)
            rest -= (self.vectors[: self.size] @ rest) @ self.vectors[: self.size]
            if np.linalg.norm(rest) > 0.5 * length:
                break
        return rest if np.linalg.norm(rest) > least else None

    def append(self, vector: np.ndarray) -> None:
        """Make a vector that is orthogonal to the basis part of it."""
        self.vectors[self.size] = vector / np.linalg.norm(vector)
        self.size += 1

    def collapse(self, wanted: np.ndarray, block: int = 65536) -> np.ndarray:
        """Keep only the span of the rows of `wanted`, (W, K) coordinates. Returns the rotation (K, K) of coordinates.

        The basis is turned in place, some columns at a time: a copy would double the memory of the method.
        """
        turn = np.zeros((self.most, self.most))
        kept, _ = np.linalg.qr(wanted[:, : self.size].T)  # (size, W)
        turn[: self.size, : kept.shape[1]] = kept
        narrow = kept.T.astype(self.x.dtype)
        for start in range(0, self.x.size, block):
            part = self.vectors[:, start : start + block]
            part[: len(narrow)] = narrow @ part[: self.size]
        self.size = kept.shape[1]
        return turn

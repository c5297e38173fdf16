"""The Sum-of-Functions Optimizer (Sohl-Dickstein, Poole & Ganguli, ICML 2014), against which the Adam paper races Adam.

It minimises F(x) = sum_i f_i(x) over N functions that stay the same, such as the costs of N fixed minibatches. Each has
a quadratic model around the point x_i where it was last evaluated,

    q_i(x) = f_i(x_i) + g_i . (x - x_i) + (x - x_i)' H_i (x - x_i) / 2

and each step evaluates one f_j anew, then moves towards the minimum of sum_i q_i: a quasi-Newton step for the price of
one minibatch. What it costs instead is memory: all x_i and g_i, hence 2 N + 2 directions of M numbers.

Reading order: SFO.step is the algorithm, fit_hessian makes H_i, and Subspace (sfo_subspace.py) makes it affordable:
points and gradients are written in an orthonormal basis of the few directions seen, so that all but the gradient itself
and its projection is arithmetic on some hundred coordinates. Shapes: N functions, M numbers in x, K coordinates.

Written from the description of the method, whose constants are the capitals below. What it leaves open is marked "our
choice".
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sfo_subspace import Subspace

Evaluate = Callable[[np.ndarray, int], tuple[float, np.ndarray]]

HISTORY = 10  # pairs (dx, dg) kept of each f_i
FIRST_HESSIAN = 1e5  # of the first f_i: a first step so short that it does no harm
FIRST_ACTIVE = 2  # functions in the sum at the start
LARGEST_CONDITION = 1e8  # of H_i
LARGEST_NOISE = 1.0  # squared error of the mean gradient by its squared length: above it, more functions are needed
LONGEST_STEP = 10.0  # times the average one, after the first pass
SHORTEST_STEP = 1e-8


class SFO:
    """Minimise sum_i f_i(x), one f_i at a time.

    Args:
        x: (M,) where to start. Read.
        count: N, the number of functions.
        evaluate: (x, i) -> (f_i(x), gradient (M,)). It must give the same numbers for the same x and i: with fresh
            noise in every call differences of gradients say nothing of curvature, and the steps nothing of progress.
        dtype: of x and of the basis, which is nearly all of the memory. Coordinates are always float64.
        seed: of the coin that is tossed between two distances.
        first_hessian: the curvature assumed before any is known.
        longest_step: length of the longest step after the first pass, in average ones.

    Attributes:
        x: (M,) the current point. passes: evaluations / N. failures: steps taken back.
        active: (N,) bool, the functions in the sum. nbytes: of all arrays that are kept between two steps.
    """

    def __init__(
        self,
        x: np.ndarray,
        count: int,
        evaluate: Evaluate,
        dtype: str = "float64",
        seed: int = 0,
        first_hessian: float = FIRST_HESSIAN,
        longest_step: float = LONGEST_STEP,
    ) -> None:
        self.evaluate, self.count, self.longest_step = evaluate, count, longest_step
        self.rng = np.random.default_rng(seed)
        self.basis = Subspace(np.asarray(x, dtype), smallest=2 * count + 2)
        size = self.basis.most
        self.at = self.basis.project(self.basis.x)  # (K,) coordinates of x
        self.before = self.at.copy()  # (K,) of the point before the last step
        self.points = np.zeros((count, size))  # x_i
        self.slopes = np.zeros((count, size))  # g_i
        self.values = np.zeros(count)  # f_i(x_i)
        self.moves = np.zeros((count, HISTORY, size))  # dx, the newest last
        self.changes = np.zeros((count, HISTORY, size))  # dg
        self.pairs = np.zeros(count, np.int64)  # how many of them there are
        # H_i = floor_i I + rows_i' diag(weights_i) rows_i
        self.floors = np.full(count, float(first_hessian))
        self.rows = np.zeros((count, 2 * HISTORY, size))
        self.weights = np.zeros((count, 2 * HISTORY))
        self.seen = np.zeros(count, np.int64)  # evaluations of each f_i
        self.active = np.arange(count) < FIRST_ACTIVE
        self.evaluations = self.since_growth = self.failures = 0
        self.step_scale, self.mean_length, self.steps = 1.0, 0.0, 0

    @property
    def x(self) -> np.ndarray:
        return self.basis.x

    @property
    def passes(self) -> float:
        return self.evaluations / self.count

    @property
    def nbytes(self) -> int:
        arrays = [value for value in vars(self).values() if isinstance(value, np.ndarray)]
        return sum(array.nbytes for array in arrays) + self.basis.nbytes

    def step(self) -> tuple[int, float]:
        """Evaluate one function, learn from it, and move. Returns which one, and its value."""
        j = self._choose()
        value, gradient = self.evaluate(self.x, j)
        self.evaluations += 1
        self.since_growth += 1
        failed = not self._learn(j, value, gradient)
        if failed:
            self.failures += 1
            self.step_scale /= 2
        else:  # back to 1 in some passes
            self.step_scale = 1 / self.count + (1 - 1 / self.count) * self.step_scale
        hessian = self._hessian()
        self._grow(failed, hessian)
        self._move(hessian)
        return j, value

    # --- which function ----------------------------------------------------------------------------------------------

    def _choose(self) -> int:
        """Return one that was not evaluated twice yet, else the one evaluated farthest from here.

        The distance is (x - x_i)' A (x - x_i); a coin decides whether A is the Hessian of the sum or H_i.
        """
        new = np.flatnonzero(self.active & (self.seen < 2))
        if new.size:
            return int(new[0])
        away = self.at - self.points  # (N, K)
        bent = away @ self._hessian() if self.rng.random() < 0.5 else self._times_own(away)
        return int(np.argmax(np.where(self.active, (away * bent).sum(1), -1.0)))

    # --- the models --------------------------------------------------------------------------------------------------

    def _times_own(self, vectors: np.ndarray) -> np.ndarray:
        """H_i v_i for every i; vectors: (N, K)."""
        along = np.einsum("irk,ik->ir", self.rows, vectors) * self.weights
        return self.floors[:, None] * vectors + np.einsum("ir,irk->ik", along, self.rows)

    def _models(self, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return q_i and its gradient g_i + H_i (x - x_i) for every i, (N,) and (N, K)."""
        away = at - self.points
        bent = self._times_own(away)
        return self.values + (away * (self.slopes + bent / 2)).sum(1), self.slopes + bent

    def _hessian(self) -> np.ndarray:
        """sum_i H_i over the active functions that have been evaluated, (K, K)."""
        used = self._used()
        rows = self.rows[used].reshape(-1, self.rows.shape[2])
        total = (rows * self.weights[used].reshape(-1, 1)).T @ rows
        total[np.diag_indices_from(total)] += self.floors[used].sum()
        return total

    def _used(self) -> np.ndarray:
        return self.active & (self.seen > 0)

    # --- learn from an evaluation ------------------------------------------------------------------------------------

    def _learn(self, j: int, value: float, gradient: np.ndarray) -> bool:
        """Put f_j's value and gradient here into its model; after a failed step go back, and return False.

        A failed step still tells of the curvature. It is undone; but where f_j was lower at x_j by more than the
        functions differ among themselves, x_j is the better point to go back to, and the model stays there (our choice:
        always to go back to x_j does not converge on quadratics, never to do it not on nets).
        """
        if not (np.isfinite(value) and np.isfinite(gradient).all()):
            self.at = self.before.copy()
            return False
        slope = self._coordinates(gradient)
        known, failed = self.seen[j] > 0, self._failed(j, value)
        if known:
            self._remember(j, self.at - self.points[j], slope - self.slopes[j])
        else:
            self.floors[j] = self._typical_curvature(j)
        here = self.at
        if failed and known and value > self.values[j] + self.values[self._used()].std():
            self.at = self.points[j].copy()
        else:
            self.points[j], self.slopes[j], self.values[j] = here, slope, value
            if failed:
                self.at = self.before.copy()
        self.seen[j] += 1
        return not failed

    def _coordinates(self, gradient: np.ndarray) -> np.ndarray:
        """Project a gradient onto the basis, after adding to it what of the gradient is new."""
        rest = self.basis.novelty(gradient)
        if rest is not None:
            if self.basis.full:
                used = self._used()
                self._rotate(self.basis.collapse(np.vstack([self.slopes[used], self.points[used], self.at])))
            self.basis.append(rest)
        return self.basis.project(gradient)

    def _rotate(self, turn: np.ndarray) -> None:
        """Write every vector in the new basis: v -> v turn, with turn of shape (K, K), 0 where the new basis ends."""
        for name in ("at", "before", "points", "slopes", "moves", "changes", "rows"):
            setattr(self, name, getattr(self, name) @ turn)

    def _failed(self, j: int, value: float) -> bool:
        """Whether f_j(x) shows that the last step did harm.

        Of a new function: it lies more than 3 standard deviations above the others. Of a known one: it rose, and its
        model is wrong about it by more than the step was believed to gain for all the others.
        """
        others = self._used()
        others[j] = False
        if not self.seen[j]:
            values = self.values[others]
            return values.size > 1 and value > values.mean() + 3 * values.std()  # 1 value has no deviation
        now, _ = self._models(self.at)
        then, _ = self._models(self.before)
        return value > self.values[j] and value - now[j] > (then - now)[others].sum()

    def _remember(self, j: int, move: np.ndarray, change: np.ndarray) -> None:
        """Add a pair to f_j's history, and build H_j of it anew."""
        if not move.any():
            return
        for history, newest in ((self.moves[j], move), (self.changes[j], change)):
            history[:-1] = history[1:]
            history[-1] = newest
        self.pairs[j] = min(self.pairs[j] + 1, HISTORY)
        fitted = fit_hessian(self.moves[j, -self.pairs[j] :], self.changes[j, -self.pairs[j] :])
        if fitted is not None:
            self.floors[j], rows, weights = fitted
            self.rows[j], self.weights[j] = 0, 0
            self.rows[j, : len(rows)], self.weights[j, : len(rows)] = rows, weights

    def _typical_curvature(self, j: int) -> float:
        """What to assume of a function evaluated once: the median eigenvalue of the sum, by the functions in it."""
        used = np.count_nonzero(self._used())
        if not used:
            return float(self.floors[j])
        known = self.basis.size
        return float(np.median(np.linalg.eigvalsh(self._hessian()[:known, :known])) / used)

    # --- how many functions, and the step ----------------------------------------------------------------------------

    def _grow(self, failed: bool, hessian: np.ndarray) -> None:
        """Take one more function into the sum where the mean gradient of the active ones no longer tells the way.

        That is when its squared standard error is as large as its squared length, both measured by the inverse Hessian;
        after a failure; and after as many evaluations without growth as functions are active (our choice of "a pass").
        """
        if self.active.all() or (self.seen[self.active] < 2).any():
            return
        _, slopes = self._models(self.at)
        slopes, n = slopes[self.active], np.count_nonzero(self.active)
        mean = slopes.mean(0)
        apart = slopes - mean
        error = (apart * np.linalg.solve(hessian, apart.T).T).sum() / (n * (n - 1))
        if failed or self.since_growth >= n or error >= LARGEST_NOISE * mean @ np.linalg.solve(hessian, mean):
            self.active[n] = True
            self.since_growth = 0

    def _move(self, hessian: np.ndarray) -> None:
        """Step towards the minimum of the sum of the models: x <- x - scale H^-1 sum_i grad q_i(x)."""
        _, slopes = self._models(self.at)
        move = -self.step_scale * np.linalg.solve(hessian, slopes[self._used()].sum(0))
        length = np.linalg.norm(move)
        longest = self.longest_step * self.mean_length if self.evaluations > self.count else np.inf
        wanted = min(max(length, SHORTEST_STEP), longest)
        if length > 0:
            move *= wanted / length
        self.steps += 1
        self.mean_length += (np.linalg.norm(move) - self.mean_length) / self.steps
        self.before, self.at = self.at, self.at + move
        self.basis.locate(self.at)


def fit_hessian(moves: np.ndarray, changes: np.ndarray) -> tuple[float, np.ndarray, np.ndarray] | None:
    """Fit a positive definite H to H dx = dg, for the pairs of a history.

        H = floor I + rows' diag(weights) rows

    BFGS (Nocedal & Wright 2006, 6.19) from floor I, oldest pair first, within the span of the history, the only part of
    space it changes. floor is the smallest curvature found along the history: the smallest singular value that is not 0
    of dG pinv(dX). A pair of negative curvature is left out (our choice).

    Args:
        moves, changes: (m, K) dx and dg, the newest last.

    Returns:
        floor, rows (R, K) orthonormal, weights (R,), R <= 2 m; None where no gradient changed.
    """
    m = len(moves)
    both = np.vstack([moves, changes])
    scales = np.linalg.norm(both, axis=1, keepdims=True)
    _, sizes, rows = np.linalg.svd(both / np.where(scales > 0, scales, 1), full_matrices=False)
    rows = rows[sizes > 1e-10 * sizes[0]]  # (R, K) orthonormal, spanning the history
    dx, dg = moves @ rows.T, changes @ rows.T  # (m, R)
    curvatures = np.linalg.svd(np.linalg.pinv(dx) @ dg, compute_uv=False)[:m]
    curvatures = curvatures[curvatures > curvatures[0] / LARGEST_CONDITION]
    if not curvatures.size:
        return None
    floor = float(curvatures[-1])
    h = floor * np.eye(len(rows))
    for s, y in zip(dx, dg):
        if s @ y > 1e-10 * np.linalg.norm(s) * np.linalg.norm(y):
            hs = h @ s
            h += np.outer(y, y) / (s @ y) - np.outer(hs, hs) / (s @ hs)
    eigenvalues, vectors = np.linalg.eigh((h + h.T) / 2)
    small = eigenvalues < eigenvalues[-1] / LARGEST_CONDITION
    eigenvalues[small] = np.median(eigenvalues[eigenvalues > 0])
    return floor, vectors.T @ rows, eigenvalues - floor

"""Is this backward pass the derivative of that forward pass? Ask finite differences, in float64.

    dL/dw ~ [L(w - 2h) - 8 L(w - h) + 8 L(w + h) - L(w + 2h)] / (12 h)          error O(h^4)

Small arrays are checked coordinate by coordinate; a large one along random directions v, where <dL/dw, v> is compared
with the difference quotient along v. ReLU and max have kinks, at which no derivative exists: a step that changes which
side of a kink any number lies on is tried again with a smaller h, and left out (and counted) when it still crosses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from scratchnet.arrays import check_callable, check_integer, check_number, is_sparse
from scratchnet.losses import check_returned, on_floor
from scratchnet.network import Sequential, walk

Loss = Callable[..., tuple[float, np.ndarray]]

STEPS = (1e-4, 1e-5, 1e-6)  # the first that crosses no kink is used
TRUSTED = 0.3  # at least this share must have been checked for a verdict
VERDICTS = ("ok", "NOT CHECKED", "WRONG")


@dataclass(frozen=True)
class Row:
    """The verdict on one array: `checked` of its coordinates or directions were compared, `skipped` crossed a kink."""

    name: str
    checked: int
    skipped: int
    max_error: float
    verdict: str  # one of VERDICTS

    @property
    def passed(self) -> bool:
        return self.verdict == VERDICTS[0]


@dataclass(frozen=True)
class Report:
    """What check_gradients found. `passed` is the verdict, `rows` one line per array, print() shows a table."""

    rows: list[Row]
    tolerance: float

    @property
    def passed(self) -> bool:
        return all(row.passed for row in self.rows)

    @property
    def verdict(self) -> str:
        """The worst of all rows."""
        return max((row.verdict for row in self.rows), key=VERDICTS.index)

    @property
    def max_error(self) -> float:
        """The largest relative error of all rows (NaN if there is one)."""
        return float(np.max([row.max_error for row in self.rows]))

    def __str__(self) -> str:
        width = max(len("gradient of"), *(len(row.name) for row in self.rows))
        lines = [f"{'gradient of':<{width}}  {'checked':>7}  {'at kinks':>8}  {'max rel. error':>14}  verdict"]
        for row in self.rows:
            numbers = f"{row.checked:>7}  {row.skipped:>8}  {row.max_error:>14.1e}"
            lines.append(f"{row.name:<{width}}  {numbers}  {row.verdict}")
        lines.append(f"tolerance {self.tolerance:.0e}: {'all gradients are right' if self.passed else 'FAILED'}")
        return "\n".join(lines)


def check_gradients(
    net: Sequential,
    loss: Loss,
    x: Any,
    y: Any,
    tolerance: float = 1e-6,
    max_coordinates: int = 500,
    directions: int = 20,
    seed: int = 0,
) -> Report:
    """Compare every gradient of `net` under `loss` with finite differences at one batch.

        relative error = |analytic - numeric| / max(|analytic|, |numeric|, floor)

    The floor is 1e-3 of the largest derivative that is compared of an array, and 1e-5 of the loss: smaller ones drown
    in rounding (a loss that is rounded by 2^-53 of itself moves the quotient by up to 2e-12 of it).

    Args:
        net: built with dtype="float64". Its parameters and state are as before when this returns.
        loss: `(outputs, y) -> (loss, gradient by outputs)`, such as softmax_cross_entropy; if it takes `ops`, net.ops.
        x: a batch, (N, *input_shape) float64 or CSR; 2 to 10 examples are enough. Drawn numbers leave fewer NOT CHECKED
            than images: where a black window meets a bias of 0, ReLU is exactly at its kink.
        y: what `loss` wants.
        tolerance: the largest relative error that passes.
        max_coordinates: arrays of more numbers are checked along random directions.
        directions: how many of them.
        seed: of the directions.

    Returns:
        a Report; print it.

    Raises:
        TypeError, ValueError: an argument is not what it should be; the net is not float64, the loss is not finite at
            this point, or two backward passes over the same batch differ.
    """
    if not isinstance(net, Sequential):
        raise TypeError(f"check_gradients: net: expected a Sequential, got {type(net).__name__}")
    check_callable("check_gradients: loss", loss, "softmax_cross_entropy")
    check_integer("check_gradients: seed", seed, minimum=0)
    check_number("check_gradients: tolerance", tolerance, low=0, include_low=False)
    check_integer("check_gradients: max_coordinates", max_coordinates, minimum=0)
    check_integer("check_gradients: directions", directions, minimum=1)
    if net.dtype != np.float64:
        raise ValueError(
            f"check_gradients: expected a float64 net, got {net.dtype}; float32 leaves too few digits for differences: "
            'build the net with dtype="float64"'
        )
    probe = _Probe(net, loss, x, y)
    rng = np.random.default_rng(seed)
    rows = []
    try:
        probe.start()
        for name, values, gradient in probe.arrays():
            if values.size <= max_coordinates:
                steps = _coordinates(values.shape)
            else:
                steps = _random_directions(values.shape, directions, rng)
            rows.append(_check_array(name, values, gradient, steps, probe, tolerance))
    finally:
        probe.restore()
    return Report(rows, tolerance)


def _check_array(
    name: str, values: np.ndarray, gradient: np.ndarray, steps: Iterator[np.ndarray], probe: _Probe, tolerance: float
) -> Row:
    """Compare <gradient, v> with the difference quotient along each v of `steps`."""
    skipped = 0
    pairs = []
    for v in steps:
        numeric = probe.derivative(values, v)
        if numeric is None:
            skipped += 1
        else:
            pairs.append((float(np.sum(gradient * v)), numeric))
    if not pairs:
        return Row(name, 0, skipped, float("nan"), "NOT CHECKED")
    analytic, numeric_all = np.array(pairs).T
    sizes = np.maximum(np.abs(analytic), np.abs(numeric_all))
    floor = max(1e-3 * float(np.max(sizes)), 1e-5 * abs(probe.value), 1e-12)
    error = float(np.max(np.abs(analytic - numeric_all) / np.maximum(sizes, floor)))
    enough = len(pairs) >= TRUSTED * (len(pairs) + skipped)
    verdict = "WRONG" if not error <= tolerance else "ok" if enough else "NOT CHECKED"  # WRONG where it is NaN
    return Row(name, len(pairs), skipped, error, verdict)


def _coordinates(shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    for index in np.ndindex(shape):
        v = np.zeros(shape)
        v[index] = 1
        yield v


def _random_directions(shape: tuple[int, ...], count: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    for _ in range(count):
        v = rng.standard_normal(shape)
        yield v / np.linalg.norm(v)


class _Probe:
    """The loss as a function of any array in it, with the same dropout masks and running statistics at every call."""

    def __init__(self, net: Sequential, loss: Loss, x: Any, y: Any) -> None:
        self.net, self.loss, self.y = net, on_floor(loss, net.ops), y
        self.sparse = is_sparse(x)
        self.x = x if self.sparse else np.array(x)
        self.state = {name: value.copy() for name, value in net.state().items()}

    def start(self) -> None:
        """Compute the gradients to be checked, and on which sides of its kinks the net stands."""
        self.value, self.gradients = self._gradients()
        _, again = self._gradients()
        if not np.isfinite(self.value):
            raise ValueError(f"check_gradients: expected a finite loss at this batch, got {self.value}")
        if any(not np.array_equal(self.gradients[name], again[name], equal_nan=True) for name in again):
            raise ValueError("check_gradients: two backward passes over one batch differ; the net is not deterministic")
        self.sides = self._sides()

    def arrays(self) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """(name, array, analytic gradient) of every parameter and, for a dense batch, of the input."""
        for name, values in self.net.parameters().items():
            yield name, values, self.gradients[name]
        if not self.sparse:
            yield "input", self.x, self.gradients["input"]

    def derivative(self, values: np.ndarray, v: np.ndarray) -> float | None:
        """The difference quotient along `v`, or None where every step crosses a kink."""
        origin = values.copy()
        try:
            for h in STEPS:
                total = 0.0
                for factor, coefficient in ((-2, 1), (-1, -8), (1, 8), (2, -1)):
                    values[...] = origin + factor * h * v
                    total += coefficient * self._loss()
                    if self._crossed():
                        break
                else:
                    return total / (12 * h)
            return None
        finally:
            values[...] = origin

    def restore(self) -> None:
        for name, value in self.net.state().items():
            value[...] = self.state[name]

    def _loss(self) -> float:
        self.restore()
        return check_returned("check_gradients: loss", self.loss(self.net.forward(self.x, train=True), self.y))[0]

    def _gradients(self) -> tuple[float, dict[str, np.ndarray]]:
        self.restore()
        outputs = self.net.forward(self.x, train=True)
        value, dy = check_returned("check_gradients: loss", self.loss(outputs, self.y))
        dx = self.net.backward(dy, input_gradient=not self.sparse)
        gradients = {name: gradient.copy() for name, gradient in self.net.gradients().items()}
        if dx is not None:
            gradients["input"] = dx.copy()
        return value, gradients

    def _sides(self) -> list[np.ndarray]:
        return [np.array(kinks) for _, layer in walk(self.net.layers) if (kinks := layer.kinks()) is not None]

    def _crossed(self) -> bool:
        return any(not np.array_equal(now, before) for now, before in zip(self._sides(), self.sides))

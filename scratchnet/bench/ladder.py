"""From loops to the register tile: one dense product and one 3x3 convolution, rung by rung.

The loops below are one source, run three times: by Python, compiled, and compiled with the outermost loop split over
threads. Python gets a small piece of the work, and its time is scaled by the multiply-adds: the table says so. All
other rungs do the whole work on the same arrays, in turns, and must agree with NumPy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import prange

from scratchnet import kernels, reference
from scratchnet.bench.limits import Limits
from scratchnet.bench.timing import Timing, Variant, first_call, measure
from scratchnet.kernels import winograd
from scratchnet.kernels.jit import OPTIONS

ERROR = 1e-4  # of the largest output: what another order of summation may change

Run = Callable[..., Any]  # (y, x, weight, bias)


class Problem(NamedTuple):
    """What all rungs compute: y, of a shape, from x, weight and bias; a `piece` of it is enough for Python."""

    name: str
    flops: int
    inputs: tuple[np.ndarray, ...]
    shape: tuple[int, ...]
    loops: Run
    piece: tuple[tuple[int, ...], tuple[np.ndarray, ...]]
    operation: str
    numpy: Run
    tiles: list[tuple[str, Run]]


class Rung(NamedTuple):
    """One way to compute it: its time, the part of the work that was done in that time, the share of the peak."""

    name: str
    threads: int
    timing: Timing
    part: float
    percent: float

    @property
    def seconds(self) -> float:
        """Of the whole work."""
        return self.timing.median / self.part


class Ladder(NamedTuple):
    """The rungs of one problem."""

    problem: str
    flops: int
    rungs: list[Rung]


def problems() -> list[Problem]:
    """The second layer of the MLP, and the second convolution of the CNN, both as in cases.py."""
    rng = np.random.default_rng(0)
    n, d, u = 128, 1000, 1000
    x, weight, bias = (rng.standard_normal(shape, np.float32) for shape in ((n, d), (d, u), (u,)))
    piece = (1, 40), (x[:1], weight[:, :40].copy(), bias[:40])
    dense = Problem(
        f"dense product, {n}x{d} times {d}x{u}",
        *(2 * n * d * u, (x, weight, bias), (n, u), _product, piece, "dense_forward", reference.dense_forward),
        [("register tile", kernels.dense_forward)],
    )
    h, c, u, k = 13, 32, 64, 3
    out = h - k + 1
    x, weight, bias = (rng.standard_normal(shape, np.float32) for shape in ((n, h, h, c), (k, k, c, u), (u,)))
    corner = (1, 2, 2, u), (x[:1, : k + 1, : k + 1].copy(), weight, bias)
    conv = Problem(
        f"convolution, {n} images of {h}x{h}x{c}, {k}x{k}, {u} channels",
        *(2 * n * out * out * k * k * c * u, (x, weight, bias), (n, out, out, u), _convolution, corner),
        *("conv2d_forward", _on(reference), _convolutions()),
    )
    return [dense, conv]


def climb(limits: Limits, seconds: float, wanted: Callable[[str], bool] = lambda name: True) -> Iterator[Ladder]:
    """Measure the ladders of the problems that are wanted by name.

    Raises:
        ArithmeticError: a rung computes something else than NumPy.
    """
    for problem in problems():
        if wanted(problem.name):
            yield _climb(problem, limits, seconds)


def _climb(problem: Problem, limits: Limits, seconds: float) -> Ladder:
    rungs = _rungs(problem, limits.threads)
    outputs = {name: np.full(problem.shape, np.nan, np.float32) for name in rungs}

    def whole(name: str) -> Variant:
        run, threads = rungs[name]
        return Variant(lambda: run(outputs[name], *problem.inputs), threads)

    variants = {name: whole(name) for name in rungs}
    for variant in variants.values():
        first_call(variant)
    _check(outputs)
    shape, inputs = problem.piece
    y = np.empty(shape, np.float32)
    part = y.size / np.prod(problem.shape)  # each output takes as many multiply-adds
    python = measure({"Python": Variant(lambda: problem.loops(y, *inputs), 1)}, seconds)["Python"]
    times = measure(variants, seconds)
    title = f"Python loops (1/{1 / part:,.0f} of the work, scaled)"
    measured = [(title, 1, python, part), *((name, rungs[name][1], times[name], 1.0) for name in rungs)]
    return Ladder(
        problem.name,
        problem.flops,
        [Rung(*m, 100 * problem.flops * m[3] / m[2].median / limits.peak[m[1]]) for m in measured],
    )


def _rungs(problem: Problem, most: int) -> dict[str, tuple[Run, int]]:
    """name -> how to do the whole work, on how many threads; NumPy first, for the others are checked against it."""
    serial, parallel = numba.njit(**OPTIONS)(problem.loops), numba.njit(parallel=True, **OPTIONS)(problem.loops)
    rungs: dict[str, tuple[Run, int]] = {f"NumPy, {problem.operation} of reference/": (problem.numpy, most)}
    for name, one, many in (("the same loops, compiled", serial, parallel), *((n, t, t) for n, t in problem.tiles)):
        rungs[name] = one, 1
        if most > 1:
            rungs[f"{name}, parallel"] = many, most
    return rungs


def _on(floor: Any) -> Run:
    return lambda y, x, weight, bias: floor.conv2d_forward(y, x, weight, bias, (1, 1), (0, 0))


def _convolutions() -> list[tuple[str, Run]]:
    """The tile's ways to convolve: directly, and by Winograd's transforms."""
    run = _on(kernels)

    def direct(y: np.ndarray, x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> None:
        on = winograd.is_on()
        winograd.use(False)
        try:
            run(y, x, weight, bias)
        finally:
            winograd.use(on)

    def transformed(y: np.ndarray, x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> None:
        winograd.forward(y, x, weight, bias, (0, 0))

    return [("register tile", direct), ("register tile, Winograd", transformed)]


def _check(outputs: dict[str, np.ndarray]) -> None:
    """Refuse to time what is wrong."""
    first, *others = outputs
    for name in others:
        error = np.abs(outputs[name] - outputs[first]).max() / np.abs(outputs[first]).max()
        if not error <= ERROR:
            raise ArithmeticError(f"bench: {name!r} differs from {first!r} by {error:.1e} of the largest output")


def _product(y: np.ndarray, x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> None:
    """y = x weight + bias."""
    for n in prange(y.shape[0]):
        for u in range(y.shape[1]):
            y[n, u] = bias[u]
        for d in range(x.shape[1]):
            for u in range(y.shape[1]):
                y[n, u] += x[n, d] * weight[d, u]


def _convolution(y: np.ndarray, x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> None:
    """y[n, h, w] = the window of x at (h, w) times weight + bias; stride 1, no padding."""
    for n in prange(y.shape[0]):
        for h in range(y.shape[1]):
            for w in range(y.shape[2]):
                for u in range(y.shape[3]):
                    y[n, h, w, u] = bias[u]
                for i in range(weight.shape[0]):
                    for j in range(weight.shape[1]):
                        for c in range(weight.shape[2]):
                            for u in range(y.shape[3]):
                                y[n, h, w, u] += x[n, h + i, w + j, c] * weight[i, j, c, u]

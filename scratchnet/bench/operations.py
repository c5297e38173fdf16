"""Time an operation: on NumPy's floor, compiled on one thread, on all; and hold it against the machine's limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from scratchnet import kernels, reference
from scratchnet.bench.cases import Case
from scratchnet.bench.limits import Limits
from scratchnet.bench.timing import Timing, Variant, first_call, measure
from scratchnet.kernels import winograd


class Row(NamedTuple):
    """What was measured of a case.

    Attributes:
        flops, bytes: what the call can't do without.
        reference, one, all: NumPy on all threads, the kernel on one thread, on all.
        first: seconds of the kernel's first calls, which compile or load what was compiled.
        bound: "compute" or "memory", what decides on all threads.
        percent_one, percent_all: of the machine's limit on as many threads.
    """

    operation: str
    size: str
    flops: int
    bytes: int
    reference: Timing
    one: Timing
    all: Timing
    first: float
    bound: str
    percent_one: float
    percent_all: float

    @property
    def rate(self) -> float:
        """Operations per second on all threads, or bytes where memory decides."""
        return (self.flops if self.bound == "compute" else self.bytes) / self.all.median


def functions_of(case: Case) -> tuple[Callable[..., None], Callable[..., None]]:
    """The kernel and the NumPy function of a case."""
    return case.functions or (getattr(kernels, case.operation), getattr(reference, case.operation))


def time_case(case: Case, limits: Limits, seconds: float) -> Row:
    """Measure one case, all variants on the same arrays."""
    arguments, size = case.arguments(np.random.default_rng(0))
    compiled, plain = functions_of(case)
    run: dict[str, Any] = {
        "reference": Variant(lambda: plain(*arguments), limits.threads),
        "one": Variant(lambda: compiled(*arguments), 1),
        "all": Variant(lambda: compiled(*arguments), limits.threads),
    }
    on = winograd.is_on()
    winograd.use(on and case.winograd)
    try:
        with np.errstate(all="ignore"):
            first = first_call(run["one"]) + first_call(run["all"])
            times = measure(run, seconds)
    finally:
        winograd.use(on)
    least_one, _ = limits.seconds(case.flops, size, 1, case.in_place)
    least_all, bound = limits.seconds(case.flops, size, limits.threads, case.in_place)
    percents = 100 * least_one / times["one"].median, 100 * least_all / times["all"].median
    return Row(
        case.operation,
        case.size,
        case.flops,
        size,
        **times,
        first=first,
        bound=bound,
        percent_one=percents[0],
        percent_all=percents[1],
    )

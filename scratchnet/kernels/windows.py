"""Windows that slide over an image: which part of one lies in the image."""

from __future__ import annotations

from scratchnet.kernels.jit import helper

Pair = tuple[int, int]


@helper
def inside(position: int, step: int, before: int, cells: int, length: int) -> tuple[int, int, int]:
    """Place window number `position` along one axis.

    Returns:
        (start, first, last): the window starts at `start`, negative in the padding, and of its `cells` those with
        first <= i < last lie in the image, at start + i in [0, length).
    """
    start = position * step - before
    first = min(max(0, -start), cells)
    return start, first, max(first, min(cells, length - start))

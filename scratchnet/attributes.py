"""Attributes that are assigned once: what was made from them, or looks into them, would not follow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from operator import attrgetter
from typing import Any

import numpy as np


def assigned_once(name: str, refusal: str, once: str | None = None) -> Any:
    """A property that takes one value, and from then on only that same object.

    So `layer.weight -= step`, which assigns the same array again after it has written, passes. Anything else is refused
    by an AttributeError that says `refusal`, in which {owner} and {name} are filled in. Where the name of another
    attribute is given as `once`, the value stays from when that one is true.
    """

    def write(owner: Any, value: Any) -> None:
        held = getattr(owner, f"_{name}", None)
        if held is None or (once is not None and not getattr(owner, once, False)):
            setattr(owner, f"_{name}", value)
        elif value is not held:
            raise AttributeError(refusal.format(owner=type(owner).__name__, name=name))

    return property(attrgetter(f"_{name}"), write)


class HeldArrays(Mapping[str, np.ndarray]):
    """Arrays by name, which can be written, as in `held[name] *= 2`, but not replaced by others."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self._arrays = arrays  # whoever keeps this dict may add to it

    def __getitem__(self, name: str) -> np.ndarray:
        return self._arrays[name]

    def __setitem__(self, name: str, value: Any) -> None:
        if value is not self._arrays.get(name):
            raise TypeError(f"expected {name!r} to stay the array it is; write [{name!r}][...] = value")

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        return repr(self._arrays)

"""Attributes that are assigned once: what was made from them, or looks into them, would not follow."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

FIXED = "{owner}.{name}: expected to stay what the layer was made with; make another layer, and a net of it"


def assigned_once(name: str, refusal: str) -> Any:
    """A property that takes one value, and from then on only that same object.

    So `layer.weight -= step`, which assigns the same array again after it has written, passes. Anything else is refused
    by an AttributeError that says `refusal`, in which {owner} and {name} are filled in.
    """

    def write(owner: Any, value: Any) -> None:
        held = getattr(owner, f"_{name}", None)
        if held is None:
            setattr(owner, f"_{name}", value)
        elif value is not held:
            raise AttributeError(refusal.format(owner=type(owner).__name__, name=name))

    return property(attrgetter(f"_{name}"), write)

"""What a loaded dataset is, and how a validation part is taken from its training part."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scratchnet.arrays import Shape, check_number, is_sparse, show_shape
from scratchnet.data.batches import LARGEST_SEED, Rows, shuffled


@dataclass(frozen=True, eq=False)
class Split:
    """Examples and their labels.

    Attributes:
        x: (N, H, W, C) uint8, memory-mapped and read-only (or Rows of that); or (N, D) float32 CSR of zeros and ones.
        y: (N,) int64 labels.
    """

    x: Any
    y: np.ndarray

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A dataset, as `load` returns it.

    Attributes:
        name: "digits", the id on the Hub, or the folder.
        kind: "image" or "text".
        train, test: the splits.
        classes: the name of each class.
        input_shape: of one example: (H, W, C), or (D,) for text.
        vocabulary: for text, the word that each of the D columns stands for; None for images.
        fingerprint: SHA-256 of the decoded content, its order included: equal means the same data.
        digests: split -> digest of its rows in any order (see known.py).
        revision: of the Hub's repository, where it came from there and the Hub said so.
    """

    name: str
    kind: str
    train: Split
    test: Split
    classes: list[str]
    input_shape: Shape
    fingerprint: str
    vocabulary: list[str] | None = None
    digests: dict[str, str] = field(default_factory=dict)
    revision: str | None = None


def hold_out(split: Split, fraction: float = 0.1, seed: int = 0) -> tuple[Split, Split]:
    """Take a validation part out of a split. Images are shared, by index, not copied.

    Both parts have the split's share of every class, up to rounding. The same arguments give the same parts.

    Args:
        split: usually `dataset.train`.
        fraction: of the rows that go to the validation part, in (0, 1).
        seed: which rows.

    Returns:
        (train, validation), each in the order of the split.

    Raises:
        ValueError: one part would be empty.
    """
    if not isinstance(split, Split):
        raise TypeError(f"hold_out: split: expected a Split, got {type(split).__name__}; make one with Split(x, y)")
    if not hasattr(split.x, "shape") or not hasattr(split.y, "shape"):
        raise TypeError("hold_out: split: expected arrays in it, got lists or the like; convert them with np.asarray")
    if split.x.shape[:1] != split.y.shape:
        raise ValueError(
            "hold_out: split: expected one label per row, "
            f"got x {show_shape(split.x.shape)} and y {show_shape(split.y.shape)}"
        )
    fraction = check_number("hold_out: fraction", fraction, 0, 1, include_low=False)
    count = round(fraction * len(split))
    if not 0 < count < len(split):
        raise ValueError(
            f"hold_out: fraction: expected one that leaves rows in both parts, "
            f"got {fraction:g} of {len(split)} rows, which takes {count}"
        )
    taken = stratified(split.y, count, seed)
    return _select(split, ~taken), _select(split, taken)


def stratified(y: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Mark `count` of the rows, of every class its share: the whole part of it, then one more by largest remainder.

    Returns:
        (N,) bool.
    """
    classes, sizes = np.unique(y, return_counts=True)
    quotas, remainders = np.divmod(sizes * count, len(y))
    quotas[np.argsort(-remainders, kind="stable")[: count - quotas.sum()]] += 1
    order = shuffled(len(y), seed, LARGEST_SEED)  # no epoch has this number: unrelated to the order of training
    taken = np.zeros(len(y), bool)
    for label, quota in zip(classes, quotas):
        taken[order[y[order] == label][:quota]] = True
    return taken


def _select(split: Split, chosen: np.ndarray) -> Split:
    index = np.flatnonzero(chosen)
    if is_sparse(split.x):
        return Split(split.x[index], split.y[index])
    array, rows = (split.x.array, split.x.index[index]) if isinstance(split.x, Rows) else (split.x, index)
    return Split(Rows(array, rows), split.y[index])

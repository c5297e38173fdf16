"""Is it the real one? Row and class counts, and a digest of the rows, of the datasets with a short name.

The digest of a split is the sum over its rows, modulo 2^256, of SHA-256(label as 8 bytes, little-endian, + row): a row
is the decoded pixels in C order, or the text in UTF-8. A sum knows no order, so that copies whose rows are arranged
differently have the same digest. To record it again:

    python -c "from scratchnet.data import load; print(load('mnist').digests)"
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np


class Known(NamedTuple):
    """What a dataset must be.

    Attributes:
        counts: split -> rows of each class.
        digests: split -> digest; a split without one is checked by its counts alone.
    """

    counts: dict[str, list[int]]
    digests: dict[str, str]


KNOWN = {
    "digits": Known(
        {
            "train": [142, 145, 142, 146, 145, 146, 145, 143, 139, 144],
            "test": [36, 37, 35, 37, 36, 36, 36, 36, 35, 36],
        },
        {
            "train": "7b1cb991a5b0d7e240e8740ee492edd487571821fea3addf9b1750418a9e7a64",
            "test": "e91d4d66eb40c1c2bac60c82f12a47efa1ebe759436de6d309d76ab69804aca9",
        },
    ),
    "ylecun/mnist": Known(
        {
            "train": [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
            "test": [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
        },
        {
            "train": "1575eea92717afaedce8182f417a11c6369226ead6c2b1b925f39453a0f06017",
            "test": "65c1172e1912a74a17981ca6fefce76ad7872f7383cb2dc236dfdbdfee28ce09",
        },
    ),
    # Counts as published (Xiao et al. 2017); its digests are still to be recorded.
    "zalando-datasets/fashion_mnist": Known({"train": [6000] * 10, "test": [1000] * 10}, {}),
    # No digest of test: copies are in use in which 20 of its images were saved as JPEG.
    "uoft-cs/cifar10": Known(
        {"train": [5000] * 10, "test": [1000] * 10},
        {"train": "106faa3c2e4718457ff38c088a6c3aa51d9e448b8e72a8d36d3e1d40f438e613"},
    ),
    "stanfordnlp/imdb": Known(
        {"train": [12500] * 2, "test": [12500] * 2},
        {
            "train": "0c5fc9326a15d2e0c493bb53cc1e1101ed8f8fab81fecc83748ccf5a50e14ab5",
            "test": "0ae633cd335d783ee36943871634d2d95f3d698e2faf18c76fccedcef7fcd5fc",
        },
    ),
}


def row_digest(rows: Iterable[bytes], labels: np.ndarray) -> str:
    """Digest rows and their labels, whatever their order; 64 hexadecimal digits."""
    total = 0
    for row, label in zip(rows, labels.tolist()):
        content = hashlib.sha256(label.to_bytes(8, "little", signed=True) + row)
        total += int.from_bytes(content.digest(), "little")
    return f"{total % 2**256:064x}"


def check_counts(name: str, counts: dict[str, list[int]]) -> None:
    """Refuse a dataset of a known name that has other rows or classes.

    Raises:
        ValueError: says split, expected and got.
    """
    for split, expected in KNOWN[name].counts.items() if name in KNOWN else ():
        got = counts[split]
        if len(got) != len(expected):
            raise ValueError(f"{name}: expected {len(expected)} classes, got {len(got)}; {_remedy(name)}")
        if got != expected:
            raise ValueError(
                f"{name}: expected {sum(expected)} rows in {split}, of each class {expected}, "
                f"got {sum(got)}, of each class {got}; {_remedy(name)}"
            )


def warn_digests(name: str, digests: dict[str, str], stacklevel: int) -> None:
    """Warn where the rows of a dataset of a known name are not the recorded ones."""
    for split, expected in KNOWN[name].digests.items() if name in KNOWN else ():
        if digests[split] != expected:
            warnings.warn(
                f"{name}: THE ROWS OF {split} ARE NOT THE RECORDED ONES: expected digest {expected}, "
                f"got {digests[split]}; results from this copy can't be compared with published ones",
                RuntimeWarning,
                stacklevel=stacklevel + 1,
            )


def _remedy(name: str) -> str:
    return (
        f"this copy is incomplete or another dataset under the name of {name}: replace it, or name its folder instead"
    )

"""The embedded default: 1,797 handwritten digits of 8x8 pixels, which scikit-learn carries. No network, no extras."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from scratchnet.data import known, store
from scratchnet.data.splits import stratified

TEST_ROWS = 360
SPLIT_SEED = 0  # of the division into train and test; training has seeds of its own


def write_digits(folder: Path) -> store.Manifest:
    """Write the digits as images, pixels brought from 0..16 to 0..255, 1,437 of them as train and 360 as test.

    The division is fixed: every class has its share in both, and no seed of training moves a row.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None]  # (1797, 8, 8, 1)
    labels = digits.target.astype(np.int64)
    store.prepare(folder)
    in_test = stratified(labels, TEST_ROWS, SPLIT_SEED)
    manifest = store.Manifest("image", [str(name) for name in digits.target_names], {}, {}, {})
    for split, rows in (("train", ~in_test), ("test", in_test)):
        x, y = images[rows], labels[rows]
        manifest.files[f"{split}_x"] = _write(folder, f"{split}_x", x)
        manifest.files[f"{split}_y"] = _write(folder, f"{split}_y", y)
        manifest.counts[split] = np.bincount(y, minlength=10).tolist()
        manifest.digests[split] = known.row_digest((image.tobytes() for image in x), y)
    return manifest


def _write(folder: Path, name: str, array: np.ndarray) -> dict[str, Any]:
    return store.write_array(folder, name, array.dtype, array.shape, [array])

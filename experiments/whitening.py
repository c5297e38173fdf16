"""Whitened CIFAR-10: images whose numbers have mean 0, variance 1 and no correlation, nearly."""

from __future__ import annotations

import os

import numpy as np

from scratchnet.cache import cache_root
from scratchnet.data import Dataset, Split

CONTRAST, RAISED = 10.0, 0.1
ROWS_AT_ONCE = 5000


def normalize_contrast(images: np.ndarray) -> np.ndarray:
    """Bring each image to mean 0 and deviation 1.

        y = (x - mean(x)) / max(sd(x), 10)          an image of one colour stays nearly 0

    Args:
        images: (N, ...) uint8. Read.

    Returns:
        (N, D) float32.
    """
    flat = images.reshape(len(images), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    return flat / np.maximum(flat.std(axis=1, keepdims=True), CONTRAST)


def zca(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the whitening that stays nearest to the image (Krizhevsky 2009, appendix A).

        y = (x - mean) W,      W = V (L + 0.1)^(-1/2) V'      where V L V' is the covariance of the rows

    The 0.1 keeps directions in which images hardly differ, which are noise, from being blown up.

    Args:
        rows: (N, D) float32. Read.

    Returns:
        mean (D,), W (D, D).
    """
    mean = rows.mean(axis=0)
    centred = rows - mean
    values, vectors = np.linalg.eigh(centred.T @ centred / len(rows))
    return mean, (vectors / np.sqrt(np.maximum(values, 0) + RAISED)) @ vectors.T


def whiten(data: Dataset) -> tuple[Split, Split]:
    """Whiten both splits by the statistics of the training images; kept in scratchnet's cache and mapped from there."""
    folder = cache_root() / "whitened" / f"{data.fingerprint[:16]}-{CONTRAST:g}-{RAISED:g}"
    paths = {name: folder / f"{name}.npy" for name in ("train", "test")}
    if not all(path.exists() for path in paths.values()):
        folder.mkdir(parents=True, exist_ok=True)
        mean, matrix = zca(normalize_contrast(data.train.x))
        for name, split in (("train", data.train), ("test", data.test)):
            partial = folder / f"{name}-{os.getpid()}.partial.npy"  # another process may be doing the same
            out = np.lib.format.open_memmap(partial, "w+", np.float32, split.x.shape)
            for first in range(0, len(split), ROWS_AT_ONCE):
                block = split.x[first : first + ROWS_AT_ONCE]
                out[first : first + len(block)] = ((normalize_contrast(block) - mean) @ matrix).reshape(block.shape)
            out.flush()
            partial.replace(paths[name])  # only whole files have the name that is looked for
    train, test = (np.load(paths[name], mmap_mode="r") for name in ("train", "test"))
    return Split(train, data.train.y), Split(test, data.test.y)

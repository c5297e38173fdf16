"""Text: each document becomes the set of its frequent words, one row of a sparse matrix of zeros and ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scratchnet.data import known, store
from scratchnet.data.hub import Source

WORDS = 10_000

if TYPE_CHECKING:
    import scipy.sparse


def write_text(folder: Path, source: Source, manifest: store.Manifest, labels: dict[str, np.ndarray]) -> None:
    """Write every split's bag of words as `<split>_indptr.npy` and `<split>_indices.npy`: the values are all ones.

    Raises:
        ValueError: a text is missing (says which row), or no word occurs anywhere.
    """
    texts = {split: _documents(source, split) for split in labels}
    bags, manifest.vocabulary = bag_of_words(source.name, texts)
    for split, y in labels.items():
        for part in ("indptr", "indices"):
            array = getattr(bags[split], part).astype(np.int32)
            name = f"{split}_{part}"
            manifest.files[name] = store.write_array(folder, name, array.dtype, array.shape, [array])
        manifest.digests[split] = known.row_digest((text.encode() for text in texts[split]), y)


def read_bag(folder: Path, split: str, files: dict[str, Any], words: int) -> scipy.sparse.csr_array:
    """Return a split's bag of words, (N, words) float32."""
    indptr, indices = (store.read_array(folder, n, files[n]) for n in (f"{split}_indptr", f"{split}_indices"))
    ones = np.ones(len(indices), np.float32)
    from scipy.sparse import csr_array

    return csr_array((ones, indices, indptr), shape=(len(indptr) - 1, words))


def bag_of_words(name: str, texts: dict[str, list[str]]) -> tuple[dict[str, scipy.sparse.csr_matrix], list[str]]:
    """Count which words occur in which text.

    The vocabulary is the 10,000 words that occur in the most training texts. It is scikit-learn's
    `CountVectorizer(binary=True, max_features=10_000)`, but for words of equal frequency at the end of the list: there
    it keeps the first ones of the alphabet, where scikit-learn's choice depends on the machine's sort.

    Returns:
        split -> CSR of ones, and the vocabulary in alphabetical order, that of the columns.
    """
    from sklearn.feature_extraction.text import CountVectorizer

    counter = CountVectorizer(binary=True, dtype=np.float32)
    try:
        train = counter.fit_transform(texts["train"])
    except ValueError as error:
        raise ValueError(f"{name}: expected texts with words in train, got: {error}") from error
    frequency = np.bincount(train.indices, minlength=train.shape[1])
    kept = np.sort(np.argsort(-frequency, kind="stable")[:WORDS])  # columns stand in alphabetical order
    vocabulary = counter.get_feature_names_out()[kept].tolist()
    bags = {"train": train[:, kept]}
    for split in texts.keys() - {"train"}:
        bags[split] = counter.transform(texts[split])[:, kept]
    for bag in bags.values():
        bag.sort_indices()
    return bags, vocabulary


def _documents(source: Source, split: str) -> list[str]:
    texts = list(source.cells(split))
    if None in texts:
        raise ValueError(f"{source.name}: {split} row {texts.index(None)}: expected a text, got none; remove the row")
    return texts

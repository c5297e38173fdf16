"""Datasets of the Hugging Face Hub, from the Hub or from a folder in its layout, through the `datasets` library.

What is used of one: its splits `train` and `test` (`validation` where there is no `test`; others are ignored), and in
them one column of images or of strings, and one of class labels. They are found by the type of feature, never by name.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scratchnet.data import store

TEST_SPLITS = ("test", "validation", "valid", "val", "dev")  # the first one found serves as test
PATIENCE = 5.0  # seconds the Hub has to answer before it counts as unreachable
CELLS_AT_ONCE = 1000


class DataError(OSError):
    """The data can't be had: it is not there, there is no network, or a package to read it is missing."""


@dataclass
class Source:
    """A dataset that is there, not yet decoded.

    Attributes:
        name: for messages.
        kind: "image" or "text".
        splits: "train" and "test" -> datasets.Dataset.
        column, label_column: the names of the two columns that are used.
        classes: the name of each class.
        notes: what to warn of.
        revision: of the Hub's repository; None where unknown.
    """

    name: str
    kind: str
    splits: dict[str, Any]
    column: str
    label_column: str
    classes: list[str]
    notes: list[str] = field(default_factory=list)
    revision: str | None = None

    def cells(self, split: str) -> Iterator[Any]:
        """The images (dicts of bytes and path, not decoded) or strings of a split, row by row; None where none is."""
        return self._column(split, self.column)

    def labels(self, split: str) -> np.ndarray:
        """The labels of a split, (N,) int64.

        Raises:
            ValueError: one is missing or no class; says which row.
        """
        labels = list(self._column(split, self.label_column))
        for row, label in enumerate(labels):
            if label is None or not 0 <= label < len(self.classes):
                raise ValueError(
                    f"{self.name}: {split} row {row}: expected a label from 0 to {len(self.classes) - 1}, got {label}; "
                    "rows without a class can't be used"
                )
        return np.array(labels, np.int64)

    def _column(self, split: str, column: str) -> Iterator[Any]:
        for table in self.splits[split].with_format("arrow").iter(CELLS_AT_ONCE):
            yield from table.column(column).to_pylist()


@contextmanager
def open_directory(folder: Path, name: str) -> Iterator[Source]:
    """A dataset in a local folder. What `datasets` writes while it reads is gone afterwards."""
    datasets = _import_datasets()
    with tempfile.TemporaryDirectory(dir=store.root(), prefix=store.READING, ignore_cleanup_errors=True) as scratch:
        try:
            with _no_progress_bars(datasets):
                found = datasets.load_dataset(str(folder), cache_dir=scratch)
        except Exception as error:  # datasets lets those of pyarrow, yaml, fsspec through
            raise DataError(
                f"expected a dataset in the Hub's layout in {folder}, got {_one_line(error)}; "
                "put parquet files and a README.md there as the Hub has them"
            ) from error
        yield describe(found, name)


@contextmanager
def open_repository(identity: str, looked: str) -> Iterator[Source]:
    """A dataset of the Hub: the newest revision, or without a network what `datasets` has kept of an earlier one.

    Args:
        identity: "owner/name".
        looked: where it was looked for already; for the message.

    Raises:
        DataError: one line that says what was looked for, where, and how to get it.
    """
    datasets = _import_datasets()
    reason = revision = None
    try:
        revision = newest_revision(identity)
    except Exception as error:  # every HTTP library has its own; all of them mean: no answer
        reason = _one_line(error)
    try:
        if reason is None:
            found = datasets.load_dataset(identity, revision=revision)
        else:
            with _offline(datasets):  # else it would repeat for minutes what was just seen to fail
                found = datasets.load_dataset(identity)
    except Exception as error:
        raise DataError(
            f"no dataset {identity}: looked {looked} and on the Hugging Face Hub ({reason or _one_line(error)}); "
            f"connect to the internet once, or put a copy into a folder ROOT/{identity} and pass --data-dir ROOT "
            "(data_dir=ROOT) or set SCRATCHNET_DATA=ROOT"
        ) from error
    source = describe(found, identity)
    source.revision = revision
    yield source


def newest_revision(identity: str) -> str | None:
    """Ask the Hub for the commit that a repository is at."""
    from huggingface_hub import HfApi

    return HfApi().dataset_info(identity, timeout=PATIENCE).sha


def describe(found: Any, name: str) -> Source:
    """Choose splits and columns.

    Raises:
        ValueError: a split is missing or empty, or there is none or more than one choice of columns.
    """
    splits = {str(split): content for split, content in found.items()}
    second = next((split for split in TEST_SPLITS if split in splits), None)
    if "train" not in splits or second is None:
        raise ValueError(f"{name}: expected splits train and test (or validation), got {', '.join(splits)}")
    for split in ("train", second):
        if len(splits[split]) == 0:
            raise ValueError(f"{name}: expected rows in split {split}, got none")
    kind, column, label_column, classes = find_columns(splits["train"].features, name)
    source = Source(name, kind, {"train": splits["train"], "test": splits[second]}, column, label_column, classes)
    if second != "test":
        source.notes.append(f"{name} has no test split: {second} is used as test, so do not choose settings by it")
    return source


def find_columns(features: Any, name: str) -> tuple[str, str, str, list[str]]:
    """Return (kind, column, label column, class names) by type of feature.

    One Image and one ClassLabel make an image dataset, whatever else there is; no Image, one string and one ClassLabel
    a text dataset.
    """
    datasets = _import_datasets()
    images = [c for c, feature in features.items() if isinstance(feature, datasets.Image)]
    strings = [
        c
        for c, feature in features.items()
        if isinstance(feature, datasets.Value) and feature.dtype in ("string", "large_string")
    ]
    labels = [c for c, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    inputs = images or strings
    if len(inputs) != 1 or len(labels) != 1:
        shown = ", ".join(f"{c}: {_show_feature(feature)}" for c, feature in features.items())
        raise ValueError(
            f"{name}: expected one column of type Image (or else one of strings) and one of type ClassLabel, "
            f"got {shown}; save a copy with just those two, a column of numbers cast by "
            "dataset.cast_column(name, datasets.ClassLabel(names=[...]))"
        )
    return "image" if images else "text", inputs[0], labels[0], [str(c) for c in features[labels[0]].names]


def _show_feature(feature: Any) -> str:
    dtype = getattr(feature, "dtype", None)
    return str(dtype) if type(feature).__name__ == "Value" else type(feature).__name__


def _import_datasets() -> Any:
    try:
        import datasets
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise DataError(f'this dataset needs the package {error.name}: pip install "scratchnet[data]"') from error
    return datasets


@contextmanager
def _no_progress_bars(datasets: Any) -> Iterator[None]:
    if datasets.utils.logging.is_progress_bar_enabled():
        datasets.disable_progress_bars()
        try:
            yield
        finally:
            datasets.enable_progress_bars()
    else:
        yield


@contextmanager
def _offline(datasets: Any) -> Iterator[None]:
    """Let `datasets` look into its own cache only."""
    from huggingface_hub import constants

    switches = [(datasets.config, datasets.config.HF_HUB_OFFLINE), (constants, constants.HF_HUB_OFFLINE)]
    for module, _ in switches:
        module.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        for module, before in switches:
            module.HF_HUB_OFFLINE = before


def _one_line(error: BaseException) -> str:
    if type(error).__name__ == "DatasetGenerationError" and error.__cause__ is not None:
        error = error.__cause__  # itself it says no more than that there was an error
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:200]}".rstrip(": ")

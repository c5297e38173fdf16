"""The decoded copy of a dataset: .npy files and a manifest, written once, memory-mapped from then on.

One folder per dataset in scratchnet's cache, `decoded-datasets/<name>-<key>`. Every file is written beside its place
and moved there whole; the manifest comes last and holds the size and hash of the others. So a folder with a fitting
manifest is complete, and any other is made again. All of it may be deleted at any time.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import json
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scratchnet.cache import private_folder
from scratchnet.files import whole

FORMAT = 1  # raise it when older folders must not be read any more
FOLDER, MANIFEST = "decoded-datasets", "manifest.json"
READING = "reading-"  # how folders begin in which `datasets` works while a dataset is decoded
ABANDONED = 24 * 3600  # seconds after which such a folder is taken for the remains of a killed process
HASHED = 1 << 28  # bytes of an array, at most, that is hashed at each load


@dataclass
class Manifest:
    """What a folder holds. Made into JSON as it is.

    Attributes:
        kind, classes, vocabulary, revision, digests: as in Dataset.
        counts: split -> rows of each class.
        notes: what every load has to warn of.
        files: name -> dtype, shape, bytes and sha256 of the .npy file.
    """

    kind: str
    classes: list[str]
    counts: dict[str, list[int]]
    digests: dict[str, str]
    files: dict[str, dict[str, Any]]
    vocabulary: list[str] | None = None
    revision: str | None = None
    notes: list[str] = field(default_factory=list)
    format: int = FORMAT

    def fingerprint(self) -> str:
        """A hash of the content in its order: the same from every copy of a dataset."""
        content = [self.kind, self.classes, self.vocabulary, {n: f["sha256"] for n, f in sorted(self.files.items())}]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def prepare(folder: Path) -> None:
    """Declare a folder incomplete, and remove what killed processes left beside it."""
    (folder / MANIFEST).unlink(missing_ok=True)
    for path in folder.parent.glob(f"{READING}*"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > ABANDONED:
                shutil.rmtree(path)


def root() -> Path:
    """Where all folders are; without a usable cache, a temporary one that ends with the process (one warning)."""
    try:
        return private_folder(FOLDER)
    except OSError as error:
        return _temporary_root(str(error))


@functools.cache
def _temporary_root(reason: str) -> Path:
    warnings.warn(
        "scratchnet: decoded datasets are kept for this process only, because the cache folder can't be used "
        f"({reason}). Set SCRATCHNET_CACHE to a folder of yours.",
        RuntimeWarning,
        stacklevel=5,
    )
    directory = tempfile.TemporaryDirectory(prefix="scratchnet-", ignore_cleanup_errors=True)
    atexit.register(directory.cleanup)
    return Path(directory.name)


def write_array(
    folder: Path, name: str, dtype: Any, shape: tuple[int, ...], blocks: Iterable[np.ndarray]
) -> dict[str, Any]:
    """Write `name`.npy from consecutive blocks of its rows, never holding more than one; return its manifest entry.

    Plain writes, not a memory map: on a full disk they raise an error, where a map ends the process.
    """
    dtype = np.dtype(dtype)
    digest = _begin_digest(dtype, shape)
    with whole(folder / f"{name}.npy") as file:
        header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        start = file.tell()
        for block in blocks:
            content = np.ascontiguousarray(block, dtype=dtype).tobytes()
            file.write(content)
            digest.update(content)
        size = file.tell()
        expected = int(np.prod(shape, dtype=object)) * dtype.itemsize
        if size - start != expected:
            raise ValueError(f"{name}: expected {expected} bytes for shape {shape}, got {size - start}")
    return {"dtype": dtype.str, "shape": list(shape), "bytes": size, "sha256": digest.hexdigest()}


def read_array(folder: Path, name: str, entry: dict[str, Any], memory_map: bool = False) -> np.ndarray:
    """Return the array of a manifest entry, read-only from disk with `memory_map`.

    Its content is hashed again, up to HASHED bytes: a fifth of a second for CIFAR-10.

    Raises:
        OSError, ValueError, EOFError: the file is absent, or not the one that was written, as far as its size, dtype
            and shape, and the hash, tell.
    """
    path = folder / f"{name}.npy"
    if path.stat().st_size != entry["bytes"]:
        raise ValueError(f"{path}: expected {entry['bytes']} bytes, got {path.stat().st_size}")
    array = np.load(path, mmap_mode="r" if memory_map else None, allow_pickle=False)
    if array.dtype.str != entry["dtype"] or list(array.shape) != entry["shape"]:
        raise ValueError(f"{path}: expected {entry['dtype']} {entry['shape']}, got {array.dtype.str} {array.shape}")
    if array.nbytes <= HASHED:
        digest = _begin_digest(array.dtype, array.shape)
        digest.update(array.data if array.size else b"")
        if digest.hexdigest() != entry["sha256"]:
            raise ValueError(f"{path}: its content is not what was written")
    return array


def _begin_digest(dtype: np.dtype[Any], shape: tuple[int, ...]) -> Any:
    """The hash of an array before its content is added."""
    return hashlib.sha256(f"{dtype.str} {shape} ".encode())


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Declare the folder complete."""
    with whole(folder / MANIFEST) as file:
        file.write(json.dumps(asdict(manifest)).encode())


def read_manifest(folder: Path) -> Manifest:
    """Return what the folder holds.

    Raises:
        OSError, ValueError, TypeError: nothing complete, or nothing of this format.
    """
    manifest = Manifest(**json.loads((folder / MANIFEST).read_bytes()))
    if manifest.format != FORMAT:
        raise ValueError(f"{folder}: expected format {FORMAT}, got {manifest.format}")
    return manifest

"""`load`: from a name to a dataset, through the decoded copy where there is one."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from functools import partial
from pathlib import Path

from scratchnet.arrays import check_choice, check_csr, check_labels
from scratchnet.data import hub, images, known, store, text
from scratchnet.data.digits import write_digits
from scratchnet.data.splits import Dataset, Split
from scratchnet.files import locked

SHORT_NAMES = {
    "digits": "digits",
    "mnist": "ylecun/mnist",
    "fashion_mnist": "zalando-datasets/fashion_mnist",
    "cifar10": "uoft-cs/cifar10",
    "imdb": "stanfordnlp/imdb",
}
IDENTITY = re.compile(r"\w[\w.-]*/\w[\w.-]*")  # of a repository on the Hub

Writer = Callable[[Path], store.Manifest]


FULL = (errno.ENOSPC, errno.EDQUOT)  # the disk, or this user's share of it


def load(name_or_id: str | os.PathLike[str], data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """Load a dataset of images or texts with class labels.

    A short name is looked up in SHORT_NAMES (write ./mnist for a folder that has such a name). An existing folder is
    loaded as it is. An id "owner/name" is looked for in the local mirror, as <mirror>/owner/name, then on the Hub.

    The first load decodes into scratchnet's cache, later ones map that copy into memory. A folder is decoded again when
    the path, size or time of one of its files changes. What came from the Hub is kept at the revision it then had, and
    the Hub is not asked again: remove the folder `decoded-datasets` in the cache to fetch the newest.

    Args:
        name_or_id: digits, mnist, fashion_mnist, cifar10 or imdb; an id on the Hub; or a folder in the Hub's layout.
        data_dir: the root of a local mirror of the Hub; None takes $SCRATCHNET_DATA, where set.

    Raises:
        DataError: it was not found, can't be read, or a package is missing.
        TypeError: neither a name nor a path.
        ValueError: an unknown name, or a dataset that is not of the expected form, or not the known one of that name.

    Warns:
        RuntimeWarning, at every load: rows of a known dataset differ from the recorded ones; a validation split
            serves as test.
    """
    if not isinstance(name_or_id, (str, os.PathLike)):
        raise TypeError(f"load: name: expected a name such as 'mnist' or a folder, got {name_or_id!r}")
    name, key, write = _find(os.fspath(name_or_id), data_dir)
    folder = store.root() / key
    try:
        dataset, notes = _read(folder, name)
    except Exception:  # not there yet, or damaged, in which case NumPy raises nearly anything
        dataset, notes = _make(folder, name, write)
    for note in notes:
        warnings.warn(note, RuntimeWarning, stacklevel=2)
    known.warn_digests(name, dataset.digests, stacklevel=2)
    return dataset


def _make(folder: Path, name: str, write: Writer) -> tuple[Dataset, list[str]]:
    """Decode, unless another process has done so by now."""
    folder.mkdir(mode=0o700, exist_ok=True)
    with locked(folder, wait=True):
        with suppress(Exception):
            return _read(folder, name)
        try:
            manifest = write(folder)
            known.check_counts(name, manifest.counts)
            store.write_manifest(folder, manifest)
        except OSError as error:
            if error.errno not in FULL:
                raise
            raise hub.DataError(
                f"{name}: the decoded copy could not be written to {folder} ({error.strerror}); free space there, or "
                "set SCRATCHNET_CACHE to a folder on another disk"
            ) from error
        return _read(folder, name)


def _find(name_or_id: str, data_dir: str | os.PathLike[str] | None) -> tuple[str, str, Writer]:
    """Return the dataset's name, the key of its decoded copy, and what writes that copy."""
    check_name(name_or_id)
    name = SHORT_NAMES.get(name_or_id, name_or_id)
    if name == "digits":
        return name, "digits", write_digits
    if name_or_id not in SHORT_NAMES and Path(name).is_dir():
        return _directory(Path(name), name)
    mirror = _mirror(data_dir)
    if mirror is None:
        looked = "in no local mirror (none was named)"
    elif (mirror / name).is_dir():
        return _directory(mirror / name, name)
    else:
        looked = f"in the local mirror (no folder {mirror / name})"
    opened = partial(hub.open_repository, name, looked)
    return name, f"{slug(name)}-{hashlib.sha256(name.encode()).hexdigest()[:16]}-hub", partial(_write, opened)


def _directory(folder: Path, name: str) -> tuple[str, str, Writer]:
    key = f"{slug(name)}-{fingerprint_directory(folder)[:16]}"
    return name, key, partial(_write, partial(hub.open_directory, folder, name))


def check_name(name: str) -> None:
    """Refuse what is neither a short name, nor an existing folder, nor of the form of an id on the Hub.

    Raises:
        ValueError: says what it may be, and which short name is near.
    """
    if name in SHORT_NAMES or (name and Path(name).is_dir()):
        return
    if "/" not in name and os.sep not in name:
        try:
            check_choice("load: name", name, SHORT_NAMES)
        except ValueError as error:
            raise ValueError(f"{error}; other datasets: an id on the Hub (owner/name) or an existing folder") from None
    if not IDENTITY.fullmatch(name):
        raise ValueError(
            f"load: name: expected one of {', '.join(sorted(SHORT_NAMES))}, an id on the Hub (owner/name) "
            f"or an existing folder, got {name!r}"
        )


def _mirror(data_dir: str | os.PathLike[str] | None) -> Path | None:
    """The root of the local mirror, if any: the argument wins over the environment."""
    said_by, root = "data_dir", data_dir
    if data_dir is None:
        said_by, root = "SCRATCHNET_DATA", os.environ.get("SCRATCHNET_DATA") or None
    if root is None:
        return None
    mirror = Path(os.path.expanduser(root))
    if not os.fspath(root) or not mirror.is_dir():
        raise hub.DataError(
            f"{said_by}: expected the folder of a local mirror, got {os.fspath(root)!r}, which is no folder"
        )
    return mirror


def fingerprint_directory(folder: Path) -> str:
    """A hash of where a folder is, and of the relative path, size and times of every file in it.

    Hidden files are left out, as `datasets` does. A copy of the folder elsewhere is another one: what unpacks or copies
    a folder may give files of one size one time.
    """
    digest = hashlib.sha256(os.path.realpath(folder).encode(errors="surrogateescape") + b"\n")
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(f for f in folders if not f.startswith((".", "__")))
        for file in sorted(f for f in files if not f.startswith((".", "__"))):
            path = Path(parent, file)
            status = path.stat()
            shown = path.relative_to(folder).as_posix()
            line = f"{shown}\0{status.st_size}\0{status.st_mtime_ns}\0{status.st_ctime_ns}\n"
            digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()


def slug(name: str) -> str:
    """A dataset's name as the name of a folder."""
    return re.sub(r"[^\w.-]+", "--", name).strip("-.")[-60:] or "folder"


def _write(opened: Callable[[], AbstractContextManager[hub.Source]], folder: Path) -> store.Manifest:
    """Decode a dataset into `folder`; the manifest is returned, not yet written."""
    with opened() as source:
        store.prepare(folder)
        labels = {split: source.labels(split) for split in source.splits}
        manifest = store.Manifest(source.kind, source.classes, {}, {}, {}, notes=source.notes, revision=source.revision)
        for split, y in labels.items():
            manifest.counts[split] = [int((y == label).sum()) for label in range(len(source.classes))]
        writer = images.write_images if source.kind == "image" else text.write_text
        writer(folder, source, manifest, labels)
        for split, y in labels.items():
            manifest.files[f"{split}_y"] = store.write_array(folder, f"{split}_y", y.dtype, y.shape, [y])
    return manifest


def _read(folder: Path, name: str) -> tuple[Dataset, list[str]]:
    """Return the decoded copy and its notes; any exception means that there is none."""
    manifest = store.read_manifest(folder)
    splits = {}
    for split in ("train", "test"):
        y = store.read_array(folder, f"{split}_y", manifest.files[f"{split}_y"])
        if manifest.kind == "image":
            x = store.read_array(folder, f"{split}_x", manifest.files[f"{split}_x"], memory_map=True)
        else:
            words = len(manifest.vocabulary or ())
            x = check_csr(split, text.read_bag(folder, split, manifest.files, words), "float32", words)
        splits[split] = Split(x, check_labels(split, y, x.shape[0], len(manifest.classes)))
    dataset = Dataset(
        name=name,
        kind=manifest.kind,
        train=splits["train"],
        test=splits["test"],
        classes=manifest.classes,
        input_shape=splits["train"].x.shape[1:],
        fingerprint=manifest.fingerprint(),
        vocabulary=manifest.vocabulary,
        digests=manifest.digests,
        revision=manifest.revision,
    )
    return dataset, manifest.notes

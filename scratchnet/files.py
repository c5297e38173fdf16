"""Files that no crash leaves half written, and folders in which one process works at a time."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

STALE_SECONDS = 3600  # a temporary file this old belongs to a process that died while writing


@contextlib.contextmanager
def locked(folder: Path, wait: bool) -> Iterator[None]:
    """Hold the lock of a folder that is there. It leaves no file, and a process that is killed holds it no longer.

    Where the system has no such locks (Windows, some network disks) nothing is held.

    Args:
        folder: to be locked against others that lock it.
        wait: until another process lets go.

    Raises:
        BlockingIOError: another one holds it, and `wait` is False.
    """
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise BlockingIOError(f"{folder}: another process is at work there; wait until it ends") from None
        except OSError:
            pass  # a disk without locks
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def whole(path: str | Path) -> Iterator[BinaryIO]:
    """A file that appears at `path` when the block ends, complete and on disk, or not at all if the block raises.

    It is written beside `path`, forced to disk and moved there by a rename. A kill or power cut at any moment leaves
    the old file or the new one, never half of one. A link stays one, and a file keeps its mode.

    Raises:
        OSError, ValueError: the disk is full, the folder is missing, what is there is read-only or no file, no file can
            have this name; an older file is untouched.
    """
    path = Path(os.path.realpath(path))
    _sweep(path)
    mode = path.stat().st_mode if path.exists() else None
    if mode is not None and not stat.S_ISREG(mode):
        raise OSError(f"{path}: what is there is not a file")
    if mode is not None and not mode & stat.S_IWUSR:
        raise PermissionError(f"{path}: the file there is read-only")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if mode is not None:
            temporary.chmod(stat.S_IMODE(mode))
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def write_whole(path: str | Path, text: str) -> None:
    """Write a text as `whole` does."""
    with whole(path) as file:
        file.write(text.encode())


def write_json(path: str | Path, value: Any) -> None:
    """Write what JSON can hold as `whole` does, to be read by people too."""
    write_whole(path, json.dumps(value, indent=2) + "\n")


def _sweep(path: Path) -> None:
    """Remove temporary files that a killed process left behind."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > STALE_SECONDS:
                left.unlink()


def _sync_folder(folder: Path) -> None:
    """Force the rename itself to disk: it may otherwise get there after a power cut has come."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

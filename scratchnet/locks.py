"""One process at a time in a folder: two that write the same files would lose each other's work."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


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

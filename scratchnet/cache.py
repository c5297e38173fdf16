"""The folder for what scratchnet can make again: compiled kernels and decoded datasets."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path


def cache_root() -> Path:
    """$SCRATCHNET_CACHE, else $XDG_CACHE_HOME/scratchnet, else ~/.cache/scratchnet.

    One that is set and empty counts as not set.

    Raises:
        OSError: none of them is set and there is no home folder.
    """
    own = os.environ.get("SCRATCHNET_CACHE")
    folder = own or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "scratchnet")
    try:
        return Path(folder).expanduser()
    except RuntimeError as error:
        raise OSError(f"{folder}: {error}; set SCRATCHNET_CACHE to a folder of yours") from None


def private_folder(name: str) -> Path:
    """Make `cache_root()/name`, readable and writable by its owner alone, and prove that a file can be written there.

    The root may be a folder of the user's with other things in it, so the name must be one that nobody else would use.

    Raises:
        OSError: it can't be made or written, belongs to another user, or there is no home folder to put it in.
    """
    folder = cache_root() / name
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.name == "posix":
        found = folder.stat()
        if found.st_uid != os.getuid():
            raise PermissionError(f"{folder} belongs to another user")
        if stat.S_IMODE(found.st_mode) & 0o077:
            folder.chmod(0o700)
    probe = folder / f".probe-{secrets.token_hex(8)}"
    probe.write_bytes(b"")
    probe.unlink(missing_ok=True)
    return folder

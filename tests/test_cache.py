"""The cache folder: where it is, and that only its owner can use it."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from scratchnet import cache


def test_the_environment_decides_where(monkeypatch, tmp_path):
    monkeypatch.setenv("SCRATCHNET_CACHE", str(tmp_path / "ours"))
    assert cache.cache_root() == tmp_path / "ours"
    monkeypatch.delenv("SCRATCHNET_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_root() == tmp_path / "scratchnet"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.cache_root() == tmp_path / ".cache" / "scratchnet"


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_an_open_folder_is_closed(monkeypatch, tmp_path):
    monkeypatch.setenv("SCRATCHNET_CACHE", str(tmp_path))
    (tmp_path / "kernels").mkdir(mode=0o777)
    (tmp_path / "kernels").chmod(0o777)
    folder = cache.private_folder("kernels")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert list(folder.iterdir()) == []


def test_many_threads_may_ask_at_once(monkeypatch, tmp_path):
    monkeypatch.setenv("SCRATCHNET_CACHE", str(tmp_path))
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: cache.private_folder("kernels"), range(400))) == {tmp_path / "kernels"}


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_a_folder_of_another_user_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("SCRATCHNET_CACHE", str(tmp_path))
    owner = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    with pytest.raises(PermissionError, match="belongs to another user"):
        cache.private_folder("kernels")


def test_a_file_in_its_place_is_an_error(monkeypatch, tmp_path):
    Path(tmp_path / "file").write_text("")
    monkeypatch.setenv("SCRATCHNET_CACHE", str(tmp_path / "file"))
    with pytest.raises(OSError):
        cache.private_folder("kernels")


def test_an_empty_variable_counts_as_not_set(monkeypatch, tmp_path):
    monkeypatch.setenv("SCRATCHNET_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_root() == tmp_path / "scratchnet"


def test_no_home_folder_is_an_error_that_says_what_to_do(monkeypatch):
    monkeypatch.setenv("SCRATCHNET_CACHE", "~nobody-of-this-name/cache")
    with pytest.raises(OSError, match="set SCRATCHNET_CACHE to a folder of yours"):
        cache.cache_root()

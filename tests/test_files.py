"""A file appears whole or not at all, and one process at a time works in a folder."""

from __future__ import annotations

import os
import stat
import time

import processes
import pytest

from scratchnet.files import STALE_SECONDS, locked, whole, write_whole


def test_a_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "a.csv"
    with whole(path) as file:
        file.write(b"first")
        assert not path.exists()
    with pytest.raises(KeyboardInterrupt), whole(path) as file:
        file.write(b"half of the sec")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"first" and list(tmp_path.iterdir()) == [path]
    write_whole(path, "é\n")
    assert path.read_bytes() == b"\xc3\xa9\n"


@pytest.mark.skipif(os.name != "posix", reason="only there a folder can be forced to disk")
def test_file_and_rename_are_forced_to_disk(tmp_path, monkeypatch):
    forced = []
    monkeypatch.setattr(os, "fsync", lambda handle: forced.append(stat.S_ISDIR(os.fstat(handle).st_mode)))
    write_whole(tmp_path / "a", "text")
    assert forced == [False, True]


def test_files_of_killed_processes_are_swept_and_no_others(tmp_path):
    for name, own, foreign in (
        ("c.st", ".c.st.aa.tmp", ".c.st"),
        ("*", ".*.aa.tmp", ".report.final.tmp"),
        ("q[1].st", ".q[1].st.aa.tmp", ".q1.st.aa.tmp"),
    ):
        young = own.replace("aa", "bb")
        for file in (own, foreign, young):
            (tmp_path / file).write_bytes(b"half")
            os.utime(tmp_path / file, (0, time.time() - (0 if file == young else STALE_SECONDS + 10)))
        write_whole(tmp_path / name, "")
        assert not (tmp_path / own).exists() and (tmp_path / foreign).exists() and (tmp_path / young).exists()
    write_whole(tmp_path / "best**.st", "")


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_mode_and_link_stay_and_what_is_read_only_or_no_file_is_kept(tmp_path):
    path, link, pipe = tmp_path / "a", tmp_path / "link", tmp_path / "pipe"
    write_whole(path, "")
    path.chmod(0o600)
    link.symlink_to(path)
    write_whole(link, "through the link")
    assert link.is_symlink() and path.read_text() == "through the link" and path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o444)
    with pytest.raises(PermissionError, match="a: the file there is read-only"):
        write_whole(path, "")
    os.mkfifo(pipe)
    for place in (pipe, tmp_path):
        with pytest.raises(OSError, match="what is there is not a file"):
            write_whole(place, "")


@pytest.mark.skipif(os.name != "posix", reason="POSIX locks")
def test_a_lock_keeps_others_out_and_leaves_nothing(tmp_path):
    with locked(tmp_path, wait=False):
        with pytest.raises(BlockingIOError, match="another process is at work there"), locked(tmp_path, wait=False):
            pass
        child = "import pathlib, sys; from scratchnet.files import *; locked(pathlib.Path(sys.argv[1]), 0).__enter__()"
        assert "BlockingIOError" in processes.run("-c", child, tmp_path, status=1).stderr
    with locked(tmp_path, wait=True):
        assert list(tmp_path.iterdir()) == []


def test_all_that_was_written_is_forced_to_disk(tmp_path, monkeypatch):
    """Not what Python still holds back."""
    sizes = []
    monkeypatch.setattr(os, "fsync", lambda handle: sizes.append(os.fstat(handle).st_size))
    write_whole(tmp_path / "a", "text")
    assert sizes[0] == 4


def test_a_file_that_another_process_still_writes_is_left(tmp_path):
    left = tmp_path / ".a.aa.tmp"
    left.write_bytes(b"half")
    os.utime(left, (0, time.time() - STALE_SECONDS + 60))
    write_whole(tmp_path / "a", "")
    assert left.exists()

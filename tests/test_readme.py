"""Every Python block of the README runs as printed, in a fresh process and an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import scratchnet

ROOT = Path(scratchnet.__file__).parents[1]
README = ROOT / "README.md"

pytestmark = [
    pytest.mark.jit_only,
    pytest.mark.skipif(not README.exists(), reason="installed without its README"),
]

BLOCKS = re.findall(r"^```python\n(.*?)^```", README.read_text() if README.exists() else "", re.M | re.S)


def test_there_are_blocks():
    assert len(BLOCKS) >= 2


def test_the_table_of_speeds_is_that_of_the_committed_run():
    table = (ROOT / "experiments" / "results" / "versus" / "versus.md").read_text()
    assert table in README.read_text()


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_block_runs(block, tmp_path):
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", block],
        cwd=tmp_path,
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert run.returncode == 0, run.stderr


def test_files_and_commands_it_names_exist():
    text = README.read_text()
    for path in set(re.findall(r"`((?:scratchnet|tests|experiments)/[\w./]+)`", text)):
        assert (ROOT / path).exists(), path

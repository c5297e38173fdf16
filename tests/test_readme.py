"""Every Python block of the README runs as printed, in a fresh process and an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import scratchnet
from scratchnet.__main__ import _parser

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


@pytest.mark.parametrize("path", ["README.md", "experiments/README.md"])
def test_files_it_names_exist(path):
    text, folder = (ROOT / path).read_text(), (ROOT / path).parent
    for name in set(re.findall(r"`((?:scratchnet|tests|experiments)/[\w./]+)`", text)):
        assert (ROOT / name).exists(), name
    for name in set(re.findall(r"\]\(([^)#:]+)\)", text)):
        assert (folder / name).exists(), name


def test_commands_are_listed_with_all_their_flags():
    block = re.search(r"^## Commands\n\n(.*?)\n\n[^ ]", README.read_text(), re.M | re.S)
    listed = dict(re.findall(r"scratchnet (\w+)(.*?)(?=scratchnet \w|$)", re.sub(r"\n {10,}", " ", block[1]), re.S))
    (commands,) = _parser()._subparsers._group_actions
    assert set(listed) == set(commands.choices)
    for name, parser in commands.choices.items():
        assert set(re.findall(r"--[\w-]+", listed[name])) == set(parser._option_string_actions) - {"-h", "--help"}, name

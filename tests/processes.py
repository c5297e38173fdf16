"""Fresh Python processes, for what cannot be seen from inside: environment variables, thread counts, whole scripts."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def import_path(*more: Path) -> str:
    """The PYTHONPATH of a process that imports scratchnet, what experiments/ share, and what lies in `more`."""
    return os.pathsep.join([str(ROOT), str(ROOT / "experiments"), *map(str, more), os.environ.get("PYTHONPATH", "")])


def run(*arguments: object, status: int = 0, **environment: str | None) -> subprocess.CompletedProcess[str]:
    """Run Python, which must exit with `status`.

    Args:
        arguments: of Python's command line.
        environment: variables to set; None removes one.
    """
    variables = dict(os.environ, PYTHONPATH=import_path())
    for name, value in environment.items():
        variables.pop(name, None)
        if value is not None:
            variables[name] = value
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=600)
    assert done.returncode == status, done.stdout + done.stderr
    return done


def run_code(code: str, *arguments: object, **environment: str | None) -> str:
    """Run code; returns what it printed."""
    return run("-c", textwrap.dedent(code), *arguments, **environment).stdout


def run_experiment(script: str, *arguments: object, status: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a script of experiments/, by its name without .py."""
    return run(ROOT / "experiments" / f"{script}.py", *arguments, status=status)

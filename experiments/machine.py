"""What the experiments ran on."""

from __future__ import annotations

import platform
from pathlib import Path


def cpu_model() -> str:
    """What Linux calls this CPU, else what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()

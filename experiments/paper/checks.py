"""Statements about what was measured, and whether they hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

Found = float | Sequence[float]  # one number, or one of each seed


@dataclass(frozen=True)
class Check:
    """One statement, e.g. "Adam's cost at epoch 45 <= 0.275", what was found, and whether it holds.

    A hard one is expected of every reproduction: the run fails with it. A soft one is reported.
    """

    hard: bool
    statement: str
    found: str
    held: bool

    @property
    def verdict(self) -> str:
        return "PASS" if self.held else "FAIL" if self.hard else "differs"


def within(statement: str, found: Found, low: float = -math.inf, high: float = math.inf, hard: bool = True) -> Check:
    """Check low <= found <= high, for every seed. NaN is in no range."""
    numbers = [found] if isinstance(found, (int, float)) else list(found)
    held = bool(numbers) and all(low <= number <= high for number in numbers)
    bounds = [f">= {low:.4g}"] * (low > -math.inf) + [f"<= {high:.4g}"] * (high < math.inf)
    shown = ", ".join(f"{number:.4g}" for number in numbers)
    return Check(hard, f"{statement} {' and '.join(bounds)}", shown, held)


def holds(statement: str, truth: bool, found: str, hard: bool = True) -> Check:
    """Check what is no range."""
    return Check(hard, statement, found, bool(truth))


def show(checks: Sequence[Check]) -> str:
    """A Markdown table, hard checks first."""
    lines = ["| | check | found | |", "|---|---|---|---|"]
    for check in sorted(checks, key=lambda check: not check.hard):
        kind = "HARD" if check.hard else "soft"
        lines.append(f"| {kind} | {check.statement} | {check.found} | {check.verdict} |")
    return "\n".join(lines)


def conclude(checks: Sequence[Check], folder: Path) -> int:
    """Print the table, write it to checks.md, and return the exit status: 1 if a hard check fails."""
    text = show(checks)
    print(text)
    (folder / "checks.md").write_text(text + "\n")
    failed = [check for check in checks if check.hard and not check.held]
    print(f"{sum(check.held for check in checks)} of {len(checks)} checks hold", end="")
    print(f"; {len(failed)} HARD failed" if failed else "")
    return int(bool(failed))

"""Ctrl-C in the middle of training: what has been reached is saved, and nothing is torn apart."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import Any

ASKED = b"\nfinishing the batch, then saving; once more to stop at once\n"


class StopOnSignal:
    """While active, Ctrl-C (or SIGTERM) asks the loop to stop after its batch; a second one stops at once."""

    def __enter__(self) -> StopOnSignal:
        self._asked = False
        self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def requested(self) -> bool:
        return self._asked

    def _ask(self, number: int, frame: Any) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        # not by print: the signal may have come in the middle of another one, to the same stream
        with contextlib.suppress(AttributeError, OSError, ValueError):  # there is no stderr, or nobody who reads it
            os.write(sys.stderr.fileno(), ASKED)

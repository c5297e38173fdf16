"""What the experiments' tests share: a script may set the number of threads, and the next test must not notice."""

from __future__ import annotations

import pytest

from scratchnet import threads


@pytest.fixture(autouse=True)
def _same_threads_after():
    count = threads.get_threads()
    yield
    threads.set_threads(count)

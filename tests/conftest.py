"""What all tests share: no network, and real data only where there is a mirror of it."""

from __future__ import annotations

import os
import tempfile

import pytest

# Before anything imports `datasets`, which reads these once. The folder goes when the process ends.
os.environ["HF_HUB_OFFLINE"] = "1"
_HOME = tempfile.TemporaryDirectory(prefix="scratchnet-hf-", ignore_cleanup_errors=True)
os.environ["HF_HOME"] = _HOME.name

MIRROR = os.environ.get("SCRATCHNET_DATA")


def pytest_collection_modifyitems(items):
    if not MIRROR:
        for item in items:
            if item.get_closest_marker("real_data"):
                item.add_marker(pytest.mark.skip(reason="needs a local mirror of the Hub: set SCRATCHNET_DATA"))


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    """Decoded datasets go to a folder of the test's own, and no mirror is named. Returns that folder."""
    monkeypatch.setenv("SCRATCHNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SCRATCHNET_DATA", raising=False)
    return tmp_path / "cache" / "decoded-datasets"

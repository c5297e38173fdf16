"""Training gives the same bits on any number of threads."""

from __future__ import annotations

import json

import pytest
from processes import ROOT, run

pytestmark = pytest.mark.jit_only  # plain Python has no threads

THREADS = ("1", "2", "3", "4", "7")


def hashes(winograd: str) -> dict[str, dict[str, tuple[str, list[str]]]]:
    """Net -> threads -> (hash of the weights after training, names of the kernels that ran in parallel)."""
    script = ROOT / "tests" / "same_bits.py"
    return json.loads(run(script, *THREADS, NUMBA_NUM_THREADS=THREADS[-1], SCRATCHNET_WINOGRAD=winograd).stdout)


@pytest.mark.parametrize("winograd", ["on", "off"])
def test_weights_do_not_depend_on_the_number_of_threads(winograd):
    for net, runs in hashes(winograd).items():
        assert len({digest for digest, _ in runs.values()}) == 1, f"{net}: {runs}"
        assert not runs["1"][1]
        for count in THREADS[1:]:
            parallel = runs[count][1]
            assert "adam_update" in parallel and len(parallel) >= 2, f"{net} on {count} threads: only {parallel}"
            assert net != "imdb" or {"_one_unit", "_few_units", "_many_units"} <= set(parallel)

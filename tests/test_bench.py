"""The bench times every operation, says what it measured, and does not lie: with a tiny budget, for the tests."""

from __future__ import annotations

import json
import math
import re
import time
from itertools import pairwise

import numpy as np
import pytest
from processes import run

from scratchnet import kernels, threads
from scratchnet.__main__ import main
from scratchnet.bench import ladder
from scratchnet.bench.cases import Case, _cells_inside, all_cases
from scratchnet.bench.limits import Limits
from scratchnet.bench.operations import Row, functions_of, time_case
from scratchnet.bench.report import operations_line, operations_notes
from scratchnet.bench.steps import NETS, Training
from scratchnet.bench.timing import Timing, Variant, measure
from scratchnet.cache import cache_root
from scratchnet.plots import Point, _offsets, plot_roofline

CASES = all_cases()


@pytest.fixture(autouse=True, scope="module")
def hurry():
    """Parallel runs need not settle where no time is looked at."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scratchnet.bench.timing.SETTLE", 0.0)
        yield


def uncovered(cases):
    """Operations of kernels/ without a case, and cases without an operation."""
    operations = {name for name, value in vars(kernels).items() if callable(value) and not name.startswith("_")}
    return sorted(operations ^ {case.operation for case in cases if not case.functions})


def test_every_operation_has_a_case():
    assert uncovered(CASES) == []


def test_an_operation_without_a_case_is_noticed(monkeypatch):
    monkeypatch.setattr(kernels, "planted", lambda: None, raising=False)
    assert uncovered(CASES) == ["planted"]
    assert uncovered(CASES[1:]) == ["planted"]  # dense_forward has two more


def test_names_tell_cases_apart():
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)


# --- what is counted ---------------------------------------------------------------------------------------------


def count(operation, size):
    """(flops, bytes) of one case."""
    (case,) = [case for case in CASES if case.name == f"{operation} {size}"]
    return case.flops, case.arguments(np.random.default_rng(0))[1]


def test_flops_and_bytes_of_a_product():
    numbers = 128 * 1000 + 128 * 784 + 784 * 1000 + 1000
    assert count("dense_forward", "128x784->1000") == (2 * 128 * 784 * 1000, 4 * numbers)


def test_an_update_reads_and_writes_its_state():
    """Adam: params, m and v twice, grads once: 28 bytes per parameter."""
    assert count("adam_update", "225,034") == (17 * 225_034, 28 * 225_034)


def test_of_sparse_weights_only_rows_that_some_text_has_are_counted():
    (case,) = [case for case in CASES if case.name == "csr_dense_forward 128x10000->100"]
    arrays, size = case.arguments(np.random.default_rng(0))
    y, indptr, indices, data, weight, bias = arrays
    touched = sum(array.nbytes for array in (y, indptr, indices, data, weight[np.unique(indices)], bias))
    assert size == touched < 0.7 * sum(array.nbytes for array in arrays)


def test_padding_is_not_counted():
    inside = sum(0 <= o + i - 2 < 8 for o in range(8) for i in range(5))
    assert inside == _cells_inside(8, 8, 5, 2) == 34 < 40
    flops, _ = count("conv2d_forward", "8x8x64->128 5x5")
    assert flops == 2 * 128 * 34 * 34 * 64 * 128
    assert _cells_inside(28, 26, 3, 0) == 26 * 3


@pytest.mark.jit_only
@pytest.mark.parametrize("case", [c for c in CASES if c.flops < 2e7], ids=lambda c: c.name)
def test_both_floors_take_the_arguments_and_agree(case):
    """What is timed is what the operation is for: nothing is infinite, and the floors write the same."""
    results = []
    kernel, plain = functions_of(case)
    for function in (plain, kernel):
        arguments, _ = case.arguments(np.random.default_rng(0))
        function(*arguments)
        results.append(arguments[: len(case.written)])
    for want, got in zip(*results):
        assert np.isfinite(want).all()
        assert np.abs(got - want).max(initial=0) <= 1e-4 * np.abs(want).max(initial=1)


@pytest.mark.parametrize("case", [c for c in CASES if c.in_place], ids=lambda c: c.name)
def test_many_runs_of_an_update_stay_in_the_normal_numbers(case):
    """A time measured on NaN, or on subnormal numbers, is another time."""
    arguments, _ = case.arguments(np.random.default_rng(0))
    arguments = [a[:50].copy() if isinstance(a, np.ndarray) else a for a in arguments]
    for _ in range(3000):
        getattr(kernels, case.operation)(*arguments)
    for array in arguments[: len(case.written)]:
        assert np.isfinite(array).all()
        assert (np.abs(array[array != 0]) > 1e-30).all()


# --- timing ------------------------------------------------------------------------------------------------------


def test_measure_takes_turns_and_counts():
    order = []

    def run(name, seconds):
        return Variant(lambda: (order.append(name), time.sleep(seconds)), 1)

    before = threads.get_threads()
    times = measure({"a": run("a", 0.001), "b": run("b", 0.004)}, 0.04)
    assert times["b"].median > 2 * times["a"].median
    for timing in times.values():
        assert timing.best <= timing.lower <= timing.median <= timing.upper
        assert timing.repetitions >= 3
    changes = sum(x != y for x, y in pairwise(order))
    assert threads.get_threads() == before
    assert changes >= 4  # not all of one first, then all of the other


def test_a_call_longer_than_the_budget_is_measured_three_times():
    calls = []
    times = measure({"slow": Variant(lambda: calls.append(time.sleep(0.01)), 1)}, 1e-6)
    assert times["slow"].repetitions == 3 and len(calls) == 4  # one of them without the clock


# --- limits ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def limits():
    return Limits(threads.get_threads(), 0.02)


@pytest.mark.jit_only
def test_no_kernel_and_no_product_of_numpy_beats_the_peak():
    a, peaks, products = np.ones((512, 512), np.float32), [], []
    for _ in range(3):  # another program may take the core while one of both is measured
        limits = Limits(threads.get_threads(), 0.02)
        assert limits.peak[limits.threads] >= limits.peak[1] > 1e9
        time_of = measure({"blas": Variant(lambda: a @ a, limits.threads)}, 0.05)["blas"].best
        peaks.append(limits.threads * limits.peak[1])  # two threads that share a core for a moment have no more
        products.append(2 * 512**3 / time_of)
    assert max(products) <= 1.1 * max(peaks)


@pytest.mark.jit_only
def test_the_peak_is_a_multiple_of_a_clock_rate(limits):
    """If LLVM saw through the loop, the peak would be absurd."""
    lanes = kernels.vectors.vector_unit().bytes // 4
    assert 0.05e9 < limits.peak[1] / (4 * lanes) < 8e9


@pytest.mark.jit_only
@pytest.mark.parametrize("size", [1 << 16, 1 << 22])
def test_a_copy_takes_as_long_as_numpys(limits, size):
    """Within a wide margin: enough to see a copy that LLVM left out.

    NumPy negates what it copies: a plain copy is libc's, which on Zen 3 takes ten times as long for some addresses.
    """
    source, to = np.ones(size // 8, np.float32), np.empty(size // 8, np.float32)
    best = measure({"numpy": Variant(lambda: np.negative(source, out=to), 1)}, 0.02)["numpy"].best
    assert 0.1 < limits.bandwidth(size, 1) / (size / best) < 10
    assert limits.bandwidth(size, 1) <= limits.bandwidth(size, limits.threads) < 8 * limits.threads * size / best


@pytest.mark.jit_only
def test_the_roof_is_the_lower_of_the_two(limits):
    assert limits.seconds(10**12, 8, 1) == (10**12 / limits.peak[1], "compute")
    assert limits.seconds(1, 1 << 20, 1) == ((1 << 20) / limits.bandwidth(1 << 20, 1), "memory")
    in_place = limits.bandwidth(1 << 20, 1, in_place=True)
    assert limits.seconds(1, 1 << 20, 1, in_place=True) == ((1 << 20) / in_place, "memory")
    assert dict(limits.moves()["in_place"])[1 << 20][1] == in_place > 1e8


# --- rows and tables ---------------------------------------------------------------------------------------------


def row(**changes):
    timing = Timing(1e-3, 0.9e-3, 1.1e-3, 0.8e-3, 20)
    made = Row("relu_forward", "128x1000", 128_000, 1_024_000, timing, timing, timing, 0.5, "memory", 50.0, 60.0)
    return made._replace(**changes)


@pytest.mark.jit_only
def test_a_percentage_above_100_is_starred_and_explained(limits):
    def notes(*rows):
        return "\n".join(operations_notes(list(rows), limits, compiled=0))

    assert "*" not in operations_line(1, row()) and "*" not in notes(row())
    assert operations_line(1, row(percent_all=130.0)).endswith("130*")
    assert "* moving:" in notes(row(percent_all=130.0)) and "Winograd" not in notes(row(percent_all=130.0))
    assert "Winograd" in notes(row(percent_one=130.0, bound="compute"))
    assert "do not trust" in notes(row(all=Timing(1e-3, 0.5e-3, 2e-3, 0.4e-3, 9)))


def test_lines_stay_within_120_columns():
    long = Timing(9.9999, 1.0, 20.0, 0.5, 3)
    extreme = row(operation="x" * 31, size="y" * 16, reference=long, all=long, percent_one=101.0, percent_all=999.0)
    assert len(operations_line(100, extreme)) <= 120
    for case in CASES:
        line = operations_line(100, extreme._replace(operation=case.operation, size=case.size))
        assert len(line) <= 120 and f"{case.size} " in line


def test_times_do_not_run_together():
    for exponent in range(-6, 2):  # a microsecond to ten seconds
        timing = Timing(*[1.2345 * 10.0**exponent] * 4, 3)
        assert len(operations_line(1, row(reference=timing, one=timing, all=timing)).split()) == 15


@pytest.mark.jit_only
def test_a_direct_convolution_is_timed_without_winograd_and_leaves_it_as_it_was(limits, monkeypatch):
    calls = []
    monkeypatch.setattr(kernels.winograd, "forward", lambda *args: calls.append(args))
    case = next(case for case in CASES if not case.winograd)._replace(
        written=((1, 8, 8, 16),), read=((1, 8, 8, 16), (3, 3, 16, 16), (16,)), scalars=((1, 1), (1, 1))
    )
    time_case(case, limits, 0.001)
    assert case.operation == "conv2d_forward" and kernels.winograd.is_on() and not calls
    time_case(case._replace(winograd=True), limits, 0.001)
    assert calls


@pytest.mark.jit_only
def test_a_row_is_measured(limits):
    case = Case("relu_forward", "7x5", 35, ((7, 5),), ((7, 5),))
    measured = time_case(case, limits, 0.001)
    assert measured.bytes == 2 * 4 * 35 and measured.rate == measured.bytes / measured.all.median
    assert 0 < measured.percent_all < 100 and measured.first > 0


# --- the ladder and steps ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("problem", ladder.problems(), ids=lambda p: p.operation)
def test_the_loops_compute_what_numpy_does(problem):
    shape, inputs = problem.piece
    got, want = np.empty(shape, np.float32), np.empty(shape, np.float32)
    problem.loops(got, *inputs)
    problem.numpy(want, *inputs)
    assert np.abs(got - want).max() <= 1e-4 * np.abs(want).max()


def test_a_wrong_rung_is_not_timed():
    right = np.ones(3)
    ladder._check({"NumPy": right, "other": right * 1.00001})
    for wrong in (right * 1.001, right * np.nan):
        with pytest.raises(ArithmeticError, match="'other' differs from 'NumPy'"):
            ladder._check({"NumPy": right, "other": wrong})


@pytest.mark.skipif(threads.available_threads() < 2, reason="one thread needs no time to settle")
def test_a_warm_up_does_not_count():
    calls, counted = [], []
    variant = Variant(lambda: calls.append(time.sleep(0.01)), 2, counted=lambda: counted.append(1))
    timing = measure({"two threads": variant}, 0.05)["two threads"]
    assert len(counted) == timing.repetitions < len(calls)


@pytest.mark.jit_only
@pytest.mark.parametrize("net", [net for net in NETS if "CNN" not in net.name], ids=lambda n: n.name)
def test_a_step_in_parts_is_the_same_step(net):
    whole, parts = Training(net, kernels), Training(net, kernels)
    for _ in range(2):
        whole.whole()
        parts.parts()
    np.testing.assert_array_equal(whole.net.params, parts.net.params)
    assert not np.array_equal(whole.net.params, Training(net, kernels).net.params)
    assert len(parts.marks) == 2 * len(parts.units) + 2


# --- the command -------------------------------------------------------------------------------------------------


def finite(value):
    """Every number in what JSON gave is finite, and none is negative."""
    if isinstance(value, dict):
        return all(map(finite, value.values()))
    if isinstance(value, list):
        return all(map(finite, value))
    return not isinstance(value, (int, float)) or (math.isfinite(value) and value >= 0)


@pytest.mark.jit_only
def test_bench_prints_a_row_for_a_case_and_writes_both_files(tmp_path, capsys):
    files = tmp_path / "bench.json", tmp_path / "roofline.png"
    command = ["bench", "--seconds", "0.001", "--only", "_update", "--json", str(files[0]), "--plot", str(files[1])]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 120
    wanted = [case for case in CASES if "_update" in case.name]
    for case in wanted:
        assert case.operation in out
    for word in ("load average", "wait policy", "GFLOP/s on 1 thread", "copy, 256 MiB", "First calls", "% limit"):
        assert word in out
    written = json.loads(files[0].read_text())
    assert finite(written) and written["machine"]["threads"] >= 1
    assert str(cache_root()) not in files[0].read_text()  # a result to be shown around names no folder of the user
    assert [row["operation"] for row in written["operations"]] == [case.operation for case in wanted]
    for row in written["operations"]:
        assert row["all"]["repetitions"] >= 3 and row["all"]["median"] > 0 and row["flops"] > 0 and row["bytes"] > 0
        assert 0 < row["percent_all"] < 1000 and row["bound"] in ("compute", "memory")
    assert files[1].read_bytes().startswith(b"\x89PNG")


@pytest.mark.jit_only
def test_bench_says_how_many_functions_it_had_to_compile(tmp_path):
    command = ["-m", "scratchnet", "bench", "--seconds", "0.001", "--only", "tanh_forward"]
    first, second = (run(*command, SCRATCHNET_CACHE=str(tmp_path)).stdout for _ in range(2))
    assert re.search(r"tanh_forward; [1-9]\d* functions were compiled now", first)
    assert "tanh_forward; 0 functions were compiled now" in second


@pytest.mark.jit_only
def test_bench_climbs_the_ladder_and_takes_steps_apart(tmp_path, capsys):
    file = tmp_path / "bench.json"
    for _ in range(4):  # other programs may disturb a try: where they slow the peak down, a rung stands above it
        assert main(["bench", "--ladder", "--steps", "--only", "d*", "--seconds", "0.01", "--json", str(file)]) == 0
        out, written = capsys.readouterr().out, json.loads(file.read_text())
        rungs = written["ladders"][0]["rungs"]
        if rungs[-1]["percent"] < 120:
            break
    for word in ("Python loops (1/3,200 of the work, scaled)", "the same loops, compiled", "register tile", "Adam"):
        assert word in out
    assert max(map(len, out.splitlines())) <= 120
    assert finite(written) and written["operations"] == []
    assert rungs[0]["percent"] < 1 < rungs[-1]["percent"] < 120
    assert written["steps"][0]["parts"][0]["name"].startswith("Dense")


@pytest.mark.jit_only
@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--seconds", "0"], 2, "--seconds: expected a finite number in (0, inf), got 0"),
        (["--only", "conv3d"], 2, "--only: expected a part of a name"),
        (["--threads", "0"], 2, "threads: expected an integer >= 1"),
        (["--json", "absent/x.json"], 2, "--json: expected a file in a folder that is there, got absent/x.json"),
        (["--json", ""], 2, "--json: expected the name of a file, got ''"),
        (["--json", "."], 2, "--json: expected a file in a folder that is there, got ."),
        (["--plot", "x.xyz"], 2, "--plot: expected a name that ends in .png, .svg, .pdf, got x.xyz"),
        (["--steps", "--plot", "x.png"], 2, "--plot draws the operations"),
    ],
)
def test_wrong_usage_is_refused_before_measuring(tmp_path, monkeypatch, capsys, options, code, message):
    monkeypatch.chdir(tmp_path)
    assert main(["bench", *options]) == code
    captured = capsys.readouterr()
    assert message in captured.err and captured.out == ""


def test_a_link_to_a_file_that_is_not_there_stays(tmp_path):
    link = tmp_path / "link.json"
    link.symlink_to("target.json")
    assert main(["bench", "--only", "zzz", "--json", str(link)]) == 2
    assert link.is_symlink() and not (tmp_path / "target.json").exists()


def test_a_missing_matplotlib_is_told_before_measuring(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["bench", "--plot", "x.png"]) == 1
    assert 'pip install "scratchnet[plot]"' in capsys.readouterr().err


def test_the_roofline_labels_every_point(tmp_path):
    points = [Point(i + 1, f"kernel {i}", 0.1 * 1.2**i, 1e9 * 1.1**i, i > 20) for i in range(50)]
    plot_roofline(tmp_path / "roofline.png", points, 2e11, 2e10, 1e11, "a machine")
    assert (tmp_path / "roofline.png").stat().st_size > 20_000
    assert len(list(_offsets())) == 128


def test_without_compiled_kernels_there_is_nothing_to_time(monkeypatch, capsys):
    monkeypatch.setattr("numba.config.DISABLE_JIT", 1)
    assert main(["bench"]) == 2
    assert "unset NUMBA_DISABLE_JIT" in capsys.readouterr().err

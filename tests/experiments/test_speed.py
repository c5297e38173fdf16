"""The experiments about speed: each script runs, each check can fail."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile

import numpy as np
import pytest
import scaling
import versus_frameworks
from processes import run_experiment
from versus import race, report
from versus.material import write_material
from versus.nets import NETS, OURS

from scratchnet import threads

# --- versus_frameworks ---------------------------------------------------------------------------------------------


@pytest.mark.jit_only
def test_versus_runs_and_names_who_is_absent(tmp_path):
    nets = ["digits_mlp", "lenet", "vae", "imdb_logistic", "adam_1e4"]
    peers = "torch,torch-embedding-bag,jax,sklearn,sklearn-sgd"
    shown = run_experiment(
        "versus_frameworks", "--smoke", "--nets", ",".join(nets), "--peers", peers, "--out", tmp_path
    ).stdout
    with open(tmp_path / "versus.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["net"] for row in rows if row["framework"] == OURS] == nets
    for row in rows:
        timed = int(row["steps"]) > 0
        assert timed == (not race.absent(row["framework"])), row
        assert timed == (float(row["median_ms"]) > 0)
        if not timed:
            assert f"skipped: {race.absent(row['framework'])} not installed" in shown
        elif row["framework"] != "sklearn-sgd":
            assert float(row["loss_deviation"]) <= race.TOLERANCE
    content = json.loads((tmp_path / "versus.json").read_text())
    assert content["settings"]["threads"] >= 1
    assert "digits_mlp" in content["verdicts"]
    assert "| digits MLP 64-64-10, batch 32 |" in (tmp_path / "versus.md").read_text()


class Scripted:
    """A worker that answers at once: every loss of sklearn's is `factor` times what it should be."""

    factor = 1.0

    def __init__(self, name, net, material, settings, policy="default", **more):
        self.name, self.policy = name, policy
        self.facts = {"version": "1", "import_s": 0.1, "first_step_s": 0.1, "base_mib": 1.0}

    def ask(self, command, *numbers):
        """Answer like worker.py."""
        if command == "losses":
            return (np.linspace(2.3, 1, numbers[0]) * (self.factor if self.name == "sklearn" else 1)).tolist()
        return [1.0, 1.0] if command == "time" else 1.0

    def close(self):
        """Nothing to end."""


@pytest.mark.parametrize(("factor", "status"), [(1.0, 0), (1.0009, 0), (1.002, 1), (float("nan"), 1)])
def test_a_peer_that_computes_something_else_fails_the_run(factor, status, monkeypatch, capsys):
    monkeypatch.setattr(race, "Worker", Scripted)
    monkeypatch.setattr(Scripted, "factor", factor)
    assert versus_frameworks.main(["--smoke", "--nets", "digits_mlp", "--peers", "sklearn"]) == status
    assert ("WRONG: its losses differ by" in capsys.readouterr().out) == bool(status)


@pytest.mark.parametrize("broken", ["default", "synchronous"])
def test_a_peer_that_starts_under_one_policy_alone_is_raced_under_that(broken, monkeypatch):
    class Broken(Scripted):
        def __init__(self, name, net, material, settings, policy="default", **more):
            if name == "jax" and policy == broken:
                raise RuntimeError("can't start")
            super().__init__(name, net, material, settings, policy)

    monkeypatch.setattr(race, "absent", lambda name: "")
    monkeypatch.setattr(race, "Worker", Broken)
    settings = race.Settings(1, 0.01, smoke=False)
    ours, jax = race.run_race(NETS["digits_mlp"], ["jax"], None, settings)
    assert jax.counts and jax.note == "" and jax.policy != broken
    assert len(ours.times) >= race.ROUNDS


@pytest.mark.parametrize("when", ["losses", "time"])
def test_a_peer_that_dies_is_out_of_the_race(when, monkeypatch, capsys, tmp_path):
    class Dies(Scripted):
        def ask(self, command, *numbers):
            if self.name == "sklearn" and command == when:
                raise RuntimeError("ended with status -9: it wrote nothing")
            return super().ask(command, *numbers)

    monkeypatch.setattr(race, "absent", lambda name: "")
    monkeypatch.setattr(race, "Worker", Dies)
    assert versus_frameworks.main(["--smoke", "--nets", "digits_mlp,adam_1e4", "--out", str(tmp_path)]) == 0
    assert "failed: it ended with status -9: it wrote nothing" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"versus.csv", "versus.json", "versus.md"}
    with open(tmp_path / "versus.csv", newline="") as file:
        timed = {(row["net"], row["framework"]): int(row["steps"]) > 0 for row in csv.DictReader(file)}
    assert not timed["digits_mlp", "sklearn"] and timed["digits_mlp", "jax"] and timed["adam_1e4", "jax"]


def test_a_dead_worker_says_why():
    code = """if True:
        import sys
        sys.stdin.readline()
        sys.exit("Traceback\\nexc.InvalidError: no compiler found\\n\\nSet VERBOSE=1 for more")"""
    worker = object.__new__(race.Worker)
    with tempfile.TemporaryFile("w+") as worker.errors:
        worker.process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=worker.errors,
            text=True,
        )
        with pytest.raises(RuntimeError, match=r"^ended with status 1: exc\.InvalidError: no compiler found$"):
            worker.ask("time", 1, 1, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", __file__], "--out: expected a folder that can be written to"),
        (["--seconds", "-1"], "--seconds: expected a number > 0, got -1.0"),
        (["--seconds", "nan"], "--seconds: expected a number > 0"),
        (["--readme", "--out", "absent"], "--readme: expected --out FOLDER, where versus.md is"),
        (["--nets", "digits"], "expected some of digits_mlp"),
    ],
)
def test_the_race_refuses_what_it_can_not_do(options, message, capsys):
    with pytest.raises(SystemExit):
        versus_frameworks.main(options)
    assert message in capsys.readouterr().err


def test_the_verdict_is_against_the_fastest_peer():
    medians = {OURS: 1.0, "jax": 4.0, "torch": 2.0}
    entries = [race.Entry(name, times=[[ms, ms], [ms, 3 * ms]]) for name, ms in medians.items()]
    verdict = report.judge([*entries, race.Entry("sklearn", note="skipped")])
    assert (verdict.peer, verdict.ratio, verdict.ratio_of_minima) == ("torch", 0.5, 0.5)
    assert verdict.met(NETS["lenet"]) == "no"
    assert verdict.met(NETS["vae"]) == "stretch"
    assert verdict.met(NETS["imdb_logistic"]) == "yes"
    assert report.judge(entries[:1]) is None


def test_the_table_names_who_was_left_out_and_tells_first_steps():
    start = {"first_step_cold_s": 24.0, "first_step_warm_s": 0.71, "peak_mib": 100.0}
    entries = [race.Entry(name, version=name, times=[[1.0, 2.0]], start=start) for name in (OURS, "jax")]
    table = report.markdown(
        [(NETS["digits_mlp"], [*entries, race.Entry("torch", note="skipped")])], race.Settings(1, 1, True)
    )
    assert "Left out: torch, torch-compile, sklearn." in table
    assert "| 24 / 0.71 |" in table and "| **1.00** |" in table


def test_the_table_hides_no_net_and_no_peer(tmp_path):
    """One that failed on some net is named there, a net without peers has its row; the README takes all nets."""
    timed = [race.Entry(name, version=name, times=[[1.0, 2.0]]) for name in (OURS, "jax")]
    results = [
        (NETS["digits_mlp"], [*timed, race.Entry("torch", note="failed: it ended")]),
        (NETS["lenet"], [*timed, race.Entry("torch", times=[[1.0]])]),
        (NETS["vae"], timed[:1]),
    ]
    table = report.markdown(results, race.Settings(1, 1, True))
    assert "Not timed on digits_mlp: torch, failed: it ended." in table
    assert f"| {NETS['vae'].title} | nobody to compare with |" in table
    readme = tmp_path / "README.md"
    readme.write_text(f"a\n{report.START}{report.END}\nb\n")
    with pytest.raises(ValueError, match="expected a race of all nets, got one without mnist_logistic"):
        report.insert(table, readme)
    report.insert("".join(f"| {net.title} |\n" for net in NETS.values()), readme)
    assert readme.read_text().count(NETS["vae"].title) == 1


@pytest.mark.jit_only
def test_images_of_one_channel_come_to_pytorch_in_the_layout_it_is_raced_in(tmp_path):
    pytest.importorskip("torch")
    torch_peer = pytest.importorskip("versus.torch_peer")
    write_material(NETS["lenet"], tmp_path / "material.npz", smoke=True)
    with np.load(tmp_path / "material.npz") as file:
        material = dict(file)
    strides = {"torch": (784, 784, 28, 1), "torch-channels-last": (784, 1, 28, 1)}
    for name, expected in strides.items():
        chain = torch_peer.Chain(name, NETS["lenet"])
        chain.load(material)
        assert chain.batches[0][0].stride() == expected


# --- scaling -------------------------------------------------------------------------------------------------------


@pytest.mark.jit_only
def test_scaling_runs_and_goes_on_where_it_stopped(tmp_path):
    shown = run_experiment("scaling", "--smoke", "--out", tmp_path).stdout
    rows = (tmp_path / "scaling.csv").read_text()
    assert (tmp_path / "scaling.png").stat().st_size > 10_000
    for model, axis in scaling.SWEEPS:
        assert f"{model}: ms ~ {axis}^" in shown
    assert run_experiment("scaling", "--smoke", "--out", tmp_path).stdout == shown
    assert (tmp_path / "scaling.csv").read_text() == rows


def test_scaling_on_fewer_threads_does_not_show_rows_of_more(tmp_path, monkeypatch):
    monkeypatch.setattr(scaling, "time_in_turns", lambda steps, threads, seconds: {size: [1.0] for size in steps})
    monkeypatch.setattr(scaling, "SWEEPS", {("adam", "parameters"): [10, 20]})
    monkeypatch.setattr(scaling, "MODELS", {name: lambda **size: scaling.Made(int, 1, 1) for name in scaling.MODELS})
    for most in (2, 1, 2):
        rows = scaling.measure(tmp_path / "scaling.csv", 1, most, smoke=False)
        sweep = [(row.size, row.threads) for row in rows if row.axis != "threads"]
        assert sweep == [(10, most), (20, most)]
        assert {row.threads for row in rows if row.axis == "threads"} == set(range(1, most + 1))


@pytest.mark.parametrize("count", ["0", "9999"])
def test_scaling_refuses_threads_that_are_not_there(count, capsys):
    with pytest.raises(SystemExit):
        scaling.main(["--threads-max", count])
    assert f"--threads-max: expected 1 to {threads.available_threads()}, got {count}" in capsys.readouterr().err


def law(factor_at_last: float) -> list[scaling.Row]:
    """Four points of ms = size^1.5, the last off by a factor; the arithmetic grows by the same law."""
    times = [size**1.5 for size in (1, 2, 4, 8)]
    times[-1] *= factor_at_last
    return [
        scaling.make_row("mlp", "width", size, 2, scaling.Made(int, 1, size**1.5), [ms])
        for size, ms in zip((1, 2, 4, 8), times)
    ]


def test_scaling_sees_a_cliff_and_threads_that_do_not_pay():
    assert scaling.fit(law(1))[1] == pytest.approx(1.5, abs=1e-6)
    assert scaling.steepest(law(1)) == pytest.approx((1, 2**1.5), abs=1e-5)
    for factor, held in ((1, True), (1.5, True), (0.5, True), (2.1, False), (0.2, False)):
        ((_, verdict),) = scaling.check(law(factor))
        assert verdict == held
    for ms, held in ((1.0, True), (1.3, False)):
        made = scaling.Made(int, 1, 1)
        rows = [scaling.make_row("cnn", "threads", n, n, made, [t]) for n, t in ((1, 2.0), (2, ms))]
        ((_, verdict),) = scaling.check(rows)
        assert verdict == held


def test_scaling_counts_the_arithmetic():
    assert scaling.mlp(batch=2, width=16).work == 2 * (784 * 16 + 16 * 16 + 16 * 10)
    cnn = 8 * 8 * 27 * 4 + 4 * 4 * 9 * 4 * 8 + 4 * 8 * 10
    assert scaling.cnn(batch=3, width=4, image=8).work == 3 * cnn

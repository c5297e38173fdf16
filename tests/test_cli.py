"""The command line as a user meets it: what it prints, what it leaves, how it fails, stops and goes on."""

from __future__ import annotations

import csv
import importlib.metadata
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

import datasets
import numpy as np
import pytest
from hub_layout import IMAGES, pixels, png, rows, write, write_images

import scratchnet
from scratchnet.__main__ import main
from scratchnet.checkpoint import load_checkpoint, save_checkpoint
from scratchnet.data import load
from scratchnet.files import locked
from scratchnet.gradcheck import Report, Row
from scratchnet.models import MODELS
from scratchnet.network import Sequential
from scratchnet.runs import Run, RunConfig
from scratchnet.signals import StopOnSignal

pytestmark = pytest.mark.jit_only

QUICK = ["train", "--model", "mlp", "--epochs", "2", "--batch-size", "64"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def scratchnet_command(*arguments, cwd):
    environment = dict(os.environ, PYTHONPATH=str(Path(scratchnet.__file__).parents[1]))
    return subprocess.Popen(
        [sys.executable, "-m", "scratchnet", *arguments],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_train_leaves_a_run_folder_and_prints_the_test_accuracy(here, capsys):
    assert main([*QUICK, "--out", "run"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^epoch 2/2: loss \S+, accuracy \S+, [\d,]+ images/s$", out, re.M)
    assert "digits, 1,437 + 360 images of 8 x 8 x 1, 10 classes" in out and "Dense(512)" in out
    accuracy = float(re.search(r"^test accuracy (0\.\d+), test loss", out, re.M)[1])
    assert accuracy > 0.85
    assert {p.name for p in Path("run").iterdir()} == {
        "config.json",
        "curves.png",
        "history.csv",
        "checkpoint.safetensors",
    }
    with open("run/history.csv", newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2"]
    config = json.loads(Path("run/config.json").read_text())
    assert config == load_checkpoint("run/checkpoint.safetensors").config
    assert (config["model"], config["epochs"], config["seed"]) == ("mlp", 2, 0)
    assert Path("run/curves.png").read_bytes().startswith(b"\x89PNG")
    assert main(["evaluate", "run"]) == 0
    assert f"test accuracy {accuracy:.4f}" in capsys.readouterr().out


def test_the_default_folder_is_named_by_data_model_and_time(here):
    assert main([*QUICK, "--quiet"]) == 0
    (folder,) = Path("runs").iterdir()
    assert re.fullmatch(r"digits-mlp-\d{8}-\d{6}", folder.name)


def test_the_default_folder_of_a_folder_of_data_is_in_runs(here, monkeypatch):
    write_images(here / "sets" / "tiny")
    assert main(["train", "--data", f"{here}/sets/tiny/", "--model", "logistic", "--epochs", "1", "--quiet"]) == 0
    (folder,) = Path("runs").iterdir()
    assert folder.name.endswith("--tiny-logistic-" + folder.name[-15:])
    assert {path.name for path in (here / "sets" / "tiny").iterdir()} == {"data", "README.md"}


def test_a_run_on_a_folder_is_gone_on_with_from_anywhere(here, monkeypatch, capsys):
    write_images(here / "tiny")
    options = ["--model", "logistic", "--epochs", "1", "--quiet"]
    assert main(["train", "--data", "./tiny", "--out", "run", *options]) == 0
    printed = capsys.readouterr().out
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    assert main(["train", "--resume", "../run", "--quiet"]) == 0
    assert capsys.readouterr().out == printed


def test_runs_started_in_the_same_second_have_folders_of_their_own(here, monkeypatch):
    monkeypatch.setattr(time, "strftime", lambda form: "20260101-000000")
    for seed in ("1", "2", "3"):
        assert main([*QUICK, "--quiet", "--seed", seed]) == 0
    names = {path.name: json.loads((path / "config.json").read_text())["seed"] for path in Path("runs").iterdir()}
    assert names == {f"digits-mlp-20260101-000000{ending}": seed for ending, seed in (("", 1), ("-2", 2), ("-3", 3))}


@pytest.mark.skipif(os.name != "posix", reason="POSIX locks")
def test_a_run_that_another_process_trains_is_left_alone(here, capsys):
    main([*QUICK, "--quiet", "--out", "run"])
    before = Path("run/checkpoint.safetensors").read_bytes()
    with locked(Path("run"), wait=False):
        assert main(["train", "--resume", "run"]) == 1
        assert "run: another process is at work there" in capsys.readouterr().err
        assert main([*QUICK, "--out", "run"]) == 2
        assert main(["evaluate", "run"]) == 0
    assert Path("run/checkpoint.safetensors").read_bytes() == before


def test_an_older_state_is_not_saved_over_a_newer_one(here):
    main(["train", "--model", "logistic", "--epochs", "2", "--quiet", "--out", "run"])
    newer = Path("run/checkpoint.safetensors").read_bytes()
    run = Run.open("run")
    run.progress.epoch, run.progress.history.rows = 1, run.progress.history.rows[:1]
    with pytest.raises(ValueError, match="another process has trained this run further"):
        run.train()
    assert Path("run/checkpoint.safetensors").read_bytes() == newer


def test_settings_of_a_run_can_not_be_edited(here, capsys):
    main([*QUICK, "--quiet", "--out", "run"])
    path, history = Path("run/config.json"), Path("run/history.csv")
    good, lines = path.read_text(), history.read_text()
    path.write_text(good.replace('"epochs": 2', '"epochs": 5'))
    assert main(["train", "--resume", "run"]) == 1
    assert "got epochs 5 in place of 2; they can't change" in capsys.readouterr().err
    path.write_text(good[:20])
    history.unlink()
    assert main(["train", "--resume", "run", "--quiet"]) == 0
    assert path.read_text() == good and history.read_text() == lines


def test_images_of_another_size_are_refused(here, capsys):
    for folder, size in (("small", 5), ("large", 6)):
        columns = rows([png(image) for image in pixels(6, size, size)], [i % 2 for i in range(6)])
        features = {**IMAGES, "label": datasets.ClassLabel(names=["cat", "dog"])}
        write(here / folder, {"train": columns, "test": columns}, features)
    options = ["--data", "./small", "--model", "logistic", "--epochs", "1", "--out", "run", "--quiet"]
    assert main(["train", *options]) == 0
    assert main(["evaluate", "run", "--data", "./large"]) == 1
    assert "examples of shape (5, 5, 1), as " in (said := capsys.readouterr().err)
    assert "and ./large has (6, 6, 1); use it on data of the same shape" in said


def test_classes_of_other_names_are_refused(here, capsys):
    names = {"one": ["cat", "dog", "owl"], "two": ["owl", "dog", "cat"], "single": ["cat"]}
    for folder, classes in names.items():
        columns = rows([png(image) for image in pixels(6)], [i % len(classes) for i in range(6)])
        features = {**IMAGES, "label": datasets.ClassLabel(names=classes)}
        write(here / folder, {"train": columns, "test": columns}, features)
    options = ["--model", "logistic", "--epochs", "1", "--quiet"]
    assert main(["train", "--data", "./one", "--out", "run", *options]) == 0
    assert main(["evaluate", "run", "--data", "./two"]) == 1
    assert "trained on the classes cat, dog, owl, and ./two has owl, dog, cat" in capsys.readouterr().err
    assert main(["train", "--data", "./single", *options]) == 2
    assert "--data: expected at least two classes to tell apart, got cat" in capsys.readouterr().err


def test_a_picture_that_can_not_be_drawn_costs_nothing_else(here, capsys, monkeypatch):
    monkeypatch.setattr(Run, "plot", lambda self: int("no"))
    assert main([*QUICK, "--out", "run"]) == 0
    captured = capsys.readouterr()
    assert "curves.png could not be drawn: invalid literal" in captured.err and "test accuracy" in captured.out


def test_odd_streams_do_not_end_a_run(here):
    command = [sys.executable, "-m", "scratchnet", "train", "--model", "logistic", "--epochs", "1", "--out", "é✓"]
    environment = dict(os.environ, PYTHONPATH=str(Path(scratchnet.__file__).parents[1]), PYTHONIOENCODING="ascii")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and "see \\xe9\\u2713" in done.stdout, done.stderr
    closed = subprocess.run(
        ["sh", "-c", '"$@" 2>&-', "sh", *command[:-1], "again"], env=environment, capture_output=True, timeout=300
    )
    assert closed.returncode == 0 and b"test accuracy" in closed.stdout
    assert subprocess.run([sys.executable, "-OO", "-m", "scratchnet", "--help"], env=environment).returncode == 0


def test_quiet_prints_one_line(here, capsys):
    main([*QUICK, "--quiet", "--out", "run"])
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 1 and captured.err == ""


@pytest.mark.parametrize("seed", range(6))
def test_the_default_run_reaches_97_percent(here, capsys, seed):
    assert main(["train", "--seed", str(seed), "--quiet", "--out", "run"]) == 0
    assert float(re.search(r"test accuracy (\S+),", capsys.readouterr().out)[1]) >= 0.97


@pytest.mark.parametrize(
    "options",
    [
        ["--model", "logistic"],
        ["--optimizer", "sgd", "--lr", "0.05", "--schedule", "constant"],
        ["--dtype", "float64", "--dropout", "0.5", "--weight-decay", "1e-4", "--optimizer", "adamw"],
        ["--ops", "reference", "--schedule", "inverse_square_root", "--seed", "3"],
        ["--validation", "0.2", "--threads", "1"],
    ],
)
def test_every_option_trains(here, capsys, options):
    assert main([*QUICK, *options, "--out", "run"]) == 0
    assert float(re.search(r"test accuracy (\S+),", capsys.readouterr().out)[1]) > 0.5
    assert ("validation_loss" in Path("run/history.csv").read_text()) == ("--validation" in options)


def test_a_warm_up_begins_below_the_rate(here):
    options = ["--model", "logistic", "--epochs", "1", "--batch-size", "1437", "--quiet", "--schedule", "constant"]
    rates = {}
    for steps in ("0", "10"):
        assert main(["train", *options, "--lr", "0.5", "--warmup", steps, "--out", steps]) == 0
        assert json.loads(Path(steps, "config.json").read_text())["warmup"] == int(steps)
        with open(Path(steps, "history.csv"), newline="") as file:
            rates[steps] = [float(row["lr"]) for row in csv.DictReader(file)]
    assert rates == {"0": [0.5], "10": [0.05]}


def test_a_clipped_step_is_as_long_as_the_bound(here):
    """One step of plain SGD moves the weights by lr times the gradient's norm."""
    options = ["--model", "logistic", "--epochs", "1", "--batch-size", "1437", "--quiet", "--optimizer", "sgd"]
    options += ["--lr", "1", "--weight-decay", "0", "--schedule", "constant", "--ops", "reference"]
    assert main(["train", *options, "--out", "free"]) == 0
    assert main(["train", *options, "--clip-norm", "0.01", "--out", "clipped"]) == 0
    free, clipped = (Run.open(folder) for folder in ("free", "clipped"))
    assert (free.config.clip_norm, clipped.config.clip_norm) == (None, 0.01)
    start = Sequential(MODELS["logistic"]((8, 8, 1), 10, 0.0), (8, 8, 1), seed=0).params
    length, bound = (np.linalg.norm(run.net.params - start) for run in (free, clipped))
    assert length > 0.1 and bound == pytest.approx(0.01, rel=1e-4)


@pytest.mark.parametrize(("name", "lr", "decay"), [("adam", 1e-3, 0.0), ("adamw", 1e-3, 0.01), ("adadelta", 1.0, 0.0)])
def test_another_optimizer_starts_from_its_own_settings(here, name, lr, decay):
    assert main(["train", "--quiet", "--model", "logistic", "--epochs", "1", "--optimizer", name, "--out", "run"]) == 0
    config = json.loads(Path("run/config.json").read_text())
    assert config["weight_decay"] == decay
    assert config["lr"] == (3e-3 if name == "adam" else lr)


def test_a_run_is_not_gone_on_with_on_other_rows(here, capsys, monkeypatch):
    from scratchnet import runs

    main([*QUICK, "--quiet", "--out", "run"])
    real = runs.load

    def reordered(*args):
        dataset = real(*args)
        object.__setattr__(dataset, "fingerprint", "another")
        return dataset

    monkeypatch.setattr(runs, "load", reordered)
    assert main(["train", "--resume", "run"]) == 1
    assert "are not those the run began with" in capsys.readouterr().err
    assert main(["evaluate", "run"]) == 0


USAGE = [
    (["--lr", "0"], r"--lr: expected a finite number in \(0, inf\), got 0"),
    (["--lr", "nan"], "--lr: expected a finite number"),
    (["--warmup", "-1"], "--warmup: expected an integer >= 0, got -1"),
    (["--clip-norm", "0"], "--clip-norm: expected a finite number"),
    (["--epochs", "0"], "--epochs: expected an integer >= 1, got 0"),
    (["--batch-size", "-3"], "--batch-size: expected an integer >= 1"),
    (["--dropout", "1"], r"--dropout: expected a finite number in \[0, 1\), got 1"),
    (["--weight-decay", "-1"], "--weight-decay: expected"),
    (["--seed", "-1"], "--seed: expected an integer >= 0"),
    (["--seed", str(2**64)], r"--seed: expected an integer below 2\*\*64"),
    (["--validation", "1"], "--validation: expected"),
    (["--model", "cmn"], "--model: expected one of cnn, logistic, mlp, got 'cmn'; did you mean 'cnn'?"),
    (["--optimizer", "adm"], "did you mean 'adam'?"),
    (["--schedule", "cosin"], "did you mean 'cosine'?"),
    (["--dtype", "float16"], "expected one of float32, float64, got 'float16'"),
    (["--ops", "kernel"], "did you mean 'kernels'?"),
    (["--data", "digit"], "did you mean 'digits'?"),
    (["--threads", "0"], "threads: expected an integer >= 1"),
    (["--threads", "9999"], "set NUMBA_NUM_THREADS=9999 before"),
    (["--resume", "run", "--lr", "0.1"], "--resume goes on with the settings of the run; leave out --lr"),
]


@pytest.mark.parametrize(("options", "message"), USAGE, ids=[" ".join(o) for o, _ in USAGE])
def test_wrong_usage_exits_2_and_says_why(here, capsys, options, message):
    assert main(["train", *options]) == 2
    captured = capsys.readouterr()
    assert re.search(message.replace("?", r"\?"), captured.err), captured.err
    assert len(captured.err.splitlines()) == 1 and not Path("runs").exists()


@pytest.mark.parametrize("arguments", [[], ["trane"], ["train", "--lr", "fast"], ["evaluate"], ["train", "--what"]])
def test_argparse_refusals_exit_2(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2 and "usage:" in capsys.readouterr().err


def test_held_out_rows_are_not_trained_on_and_do_not_depend_on_the_seed(here):
    digits, held = load("digits"), []
    for seed in (0, 1):
        config = RunConfig("digits", "mlp", "adam", 1e-3, "constant", 1, 32, 0.0, 0.0, seed, "float32", "kernels", 0.2)
        run = Run(here / "run", config, digits)
        training, validation = run.training.x.index, run.validation.x.index
        np.testing.assert_array_equal(np.sort([*training, *validation]), np.arange(len(digits.train)))
        held.append(validation)
    np.testing.assert_array_equal(*held)


def test_a_run_is_never_overwritten(here, capsys):
    main([*QUICK, "--quiet", "--out", "run"])
    before = Path("run/checkpoint.safetensors").read_bytes()
    assert main([*QUICK, "--quiet", "--out", "run"]) == 2
    assert "--out: run holds a run already" in capsys.readouterr().err
    assert Path("run/checkpoint.safetensors").read_bytes() == before


@pytest.mark.parametrize("name", ["history.csv", "curves.png", "config.json"])
def test_a_file_of_the_users_is_never_overwritten(here, capsys, name):
    Path("mine").mkdir()
    Path("mine", name).write_text("mine")
    assert main([*QUICK, "--quiet", "--out", "mine"]) == 2
    assert f"--out: mine holds {name}, which the run would write over; choose another" in capsys.readouterr().err
    assert [path.name for path in Path("mine").iterdir()] == [name] and Path("mine", name).read_text() == "mine"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda progress, config: progress.pop("history"), "progress: expected a dict of epoch, batch"),
        (lambda progress, config: progress.update(epoch="2"), "progress: epoch: expected an integer, got '2'"),
        (lambda progress, config: progress.update(history=[]), "progress: history: expected {'rows'"),
        (lambda progress, config: config.update(classes=5), "classes: expected a list of texts, got 5"),
        (lambda progress, config: config.update(input_shape=5), "input_shape: expected a list of integers, got 5"),
        (lambda progress, config: config.update(data=5), "data: expected a text, got 5"),
    ],
)
def test_a_checkpoint_with_other_contents_is_a_clean_error(here, capsys, change, message):
    main([*QUICK, "--quiet", "--out", "run"])
    run, path = Run.open("run"), Path("run/checkpoint.safetensors")
    progress, config = run.progress.to_json(), asdict(run.config)
    change(progress, config)
    save_checkpoint(path, run.net, run.optimizer, progress, config)
    capsys.readouterr()
    assert main(["evaluate", "run"]) == 1
    error = capsys.readouterr().err
    assert message in error and "checkpoint.safetensors" in error


@pytest.mark.skipif(os.name != "posix", reason="named pipes")
def test_settings_that_can_not_be_read_are_written_anew(here, capsys):
    main([*QUICK, "--quiet", "--out", "run"])
    path = Path("run/config.json")
    good = path.read_text()
    path.write_text("[" * 100_000)
    assert main(["train", "--resume", "run", "--quiet"]) == 0
    assert path.read_text() == good
    path.unlink()
    os.mkfifo(path)  # nobody writes into it: to read from it would take for ever
    assert main(["train", "--resume", "run", "--quiet"]) == 1
    assert "config.json: what is there is not a file" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["evaluate", "absent"], ["train", "--resume", "absent"]])
def test_a_missing_run_exits_1(here, capsys, command):
    assert main(command) == 1
    assert "absent/checkpoint.safetensors: no such file" in capsys.readouterr().err


def test_a_damaged_run_exits_1(here, capsys):
    main([*QUICK, "--quiet", "--out", "run"])
    path = Path("run/checkpoint.safetensors")
    path.write_bytes(path.read_bytes()[:-5])
    assert main(["evaluate", "run"]) == 1
    assert "not a readable safetensors file" in capsys.readouterr().err


def test_divergence_exits_1_and_keeps_the_last_checkpoint(here, capsys):
    assert main([*QUICK, "--quiet", "--out", "run", "--optimizer", "sgd", "--lr", "1e30"]) == 1
    assert "training diverged in epoch 1, batch" in capsys.readouterr().err


def test_a_run_that_fails_at_once_can_be_resumed(here, capsys):
    assert main([*QUICK, "--quiet", "--out", "run", "--optimizer", "sgd", "--lr", "1e30"]) == 1
    assert load_checkpoint("run/checkpoint.safetensors").progress["epoch"] == 0
    assert main(["evaluate", "run"]) == 0
    assert "for 0 of 2 epochs" in capsys.readouterr().out


def test_a_checkpoint_of_ones_own_is_no_run(here, capsys):
    from scratchnet import Sequential, save_checkpoint
    from scratchnet.layers import Dense

    Path("run").mkdir()
    save_checkpoint("run/checkpoint.safetensors", Sequential([Dense(2)], (3,)))
    assert main(["evaluate", "run"]) == 1
    assert "not saved by `scratchnet train`" in capsys.readouterr().err


def test_resuming_a_finished_run_trains_nothing(here, capsys):
    main([*QUICK, "--quiet", "--out", "run"])
    first = capsys.readouterr().out
    assert main(["train", "--resume", "run", "--quiet"]) == 0
    assert capsys.readouterr().out == first


def test_a_run_follows_its_folder_of_data_to_another_place(here, capsys):
    write_images(here / "tiny")
    assert main(["train", "--data", "./tiny", "--model", "logistic", "--epochs", "1", "--quiet", "--out", "run"]) == 0
    printed = capsys.readouterr().out
    (here / "tiny").rename(here / "moved")
    assert main(["train", "--resume", "run", "--quiet"]) == 1
    assert "is not there any more; name its new place with --data" in capsys.readouterr().err
    assert main(["train", "--resume", "run", "--data", "moved", "--quiet"]) == 0
    accuracy = printed.split("(")[0]
    assert capsys.readouterr().out.startswith(accuracy)
    assert main(["train", "--resume", "run", "--data", "digits", "--quiet"]) == 1


def test_other_data_need_no_validation_part(here, capsys):
    """A thousandth of digits is a row, of a few images none."""
    write_images(here / "tiny")
    options = ["--model", "logistic", "--epochs", "1", "--quiet", "--validation", "0.1"]
    assert main(["train", "--data", "./tiny", *options, "--out", "run"]) == 0
    write_images(here / "less", train=2)
    assert main(["evaluate", "run", "--data", "./less"]) == 0, capsys.readouterr().err


def test_resuming_mends_a_history_that_was_not_written(here):
    main([*QUICK, "--quiet", "--out", "run"])
    history = Path("run/history.csv")
    whole = history.read_text()
    history.write_text(whole[: whole.index("\n2,") + 1])  # as where the process is killed behind the checkpoint
    assert main(["train", "--resume", "run", "--quiet"]) == 0
    assert history.read_text() == whole


def test_an_epoch_is_in_the_log_when_it_is_over(here):
    process = scratchnet_command("train", "--epochs", "100000", "--batch-size", "64", "--out", "run", cwd=here)
    with process.stdout, process.stderr:
        assert any(line.startswith("epoch 1/100000: loss") for line in process.stdout)
        process.stdout.close()  # as `| head` does: training goes on
        before = load_checkpoint("run/checkpoint.safetensors").progress["epoch"]
        while load_checkpoint("run/checkpoint.safetensors").progress["epoch"] < before + 3 and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=120) == 130, process.stderr.read()


def test_ctrl_c_in_the_middle_of_a_message_is_heard(monkeypatch):
    """A message nobody has read yet holds stderr's buffer; to print another one there would be an error."""
    reading, writing = os.pipe()
    main_thread = threading.main_thread().ident

    def interrupt_then_read():
        time.sleep(0.3)
        signal.pthread_kill(main_thread, signal.SIGINT)
        while os.read(reading, 65536):
            pass

    with os.fdopen(writing, "wb") as end, io.TextIOWrapper(end, line_buffering=True) as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        reader = threading.Thread(target=interrupt_then_read, daemon=True)
        with StopOnSignal() as stop:
            reader.start()
            print("x" * 300_000, file=sys.stderr)
            assert stop.requested()
    reader.join()
    os.close(reading)


def test_the_file_in_a_run_is_not_taken_for_its_folder(here, capsys):
    assert main(["train", "--epochs", "1", "--model", "logistic", "--quiet", "--out", "my run"]) == 0
    assert main(["evaluate", "my run/checkpoint.safetensors"]) == 1
    assert "expected the folder of a run, got the file" in capsys.readouterr().err
    assert main(["train", "--out", "my run"]) == 2
    assert "--resume 'my run'" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGTERM")
def test_a_run_is_saved_though_nobody_reads_what_it_says(here):
    endless = ["train", "--epochs", "100000", "--batch-size", "1", "--quiet", "--out", "run"]
    process = scratchnet_command(*endless, cwd=here)
    saved = Path("run/checkpoint.safetensors")
    while not (saved.exists() and load_checkpoint(saved).progress["epoch"]) and process.poll() is None:
        time.sleep(0.02)
    before = load_checkpoint(saved).progress
    time.sleep(0.2)  # so that it has trained on since
    process.stderr.close()
    process.send_signal(signal.SIGTERM)
    with process.stdout:
        assert process.wait(timeout=120) == 130
    after = load_checkpoint(saved).progress
    assert (after["epoch"], after["batch"]) > (before["epoch"], before["batch"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_saves_and_resume_continues_bit_for_bit(here, capsys, number):
    command = ["train", "--epochs", "4", "--batch-size", "16", "--seed", "1"]
    assert main([*command, "--quiet", "--out", "whole"]) == 0
    expected = capsys.readouterr().out.splitlines()[-1]
    process = scratchnet_command(*command, "--out", "part", cwd=here)
    history = Path("part/history.csv")
    while not (history.exists() and history.read_text().count("\n") > 1) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "scratchnet train --resume part" in err
    progress = load_checkpoint("part/checkpoint.safetensors").progress
    assert 1 <= progress["epoch"] < 4
    assert main(["train", "--resume", "part", "--quiet"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == expected
    whole, part = (load_checkpoint(f"{name}/checkpoint.safetensors") for name in ("whole", "part"))
    for name, array in whole.arrays.items():
        assert array.tobytes() == part.arrays[name].tobytes(), name


def test_gradcheck_prints_a_table(capsys):
    assert main(["gradcheck"]) == 0
    out = capsys.readouterr().out
    assert "max rel. error" in out and "Conv2d" in out and "every gradient agrees" in out and "WRONG" not in out


def test_gradcheck_fails_when_a_gradient_is_wrong(capsys, monkeypatch):
    from scratchnet import kernels

    right = kernels.tanh_backward
    monkeypatch.setattr(kernels, "tanh_backward", lambda dx, dy, y: (right(dx, dy, y), dx.__imul__(1.001)))
    assert main(["gradcheck"]) == 1
    assert "WRONG" in capsys.readouterr().out


def test_gradcheck_calls_what_it_could_hardly_check_by_that_name(capsys, monkeypatch):
    from scratchnet import gradcheck_suite

    report = Report([Row("weight", 20, 0, 1e-9, "ok"), Row("input", 1, 19, 1e-9, "NOT CHECKED")], 1e-6)
    monkeypatch.setattr(gradcheck_suite, "check_everything", lambda ops: [("net: all kinks", 40, report)])
    assert main(["gradcheck"]) == 1
    out = capsys.readouterr().out
    assert "net: all kinks" in out and "NOT CHECKED" in out and "1 failed" in out and "WRONG" not in out


def test_the_version_is_that_of_the_installed_package(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"scratchnet {importlib.metadata.version('scratchnet')}\n"


def test_doctor_tells_what_it_runs_on(capsys):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    for word in ("numba", "cores", "thread layer", "wait policy", "kernel cache", "float32 lanes", "BLAS", "in turns"):
        assert word in out


def test_python_m_scratchnet_is_the_same(here):
    process = scratchnet_command("--help", cwd=here)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and "train" in out and "doctor" in out

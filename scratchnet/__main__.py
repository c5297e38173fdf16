"""The command line: scratchnet train | evaluate | gradcheck | bench | doctor. `python -m scratchnet` is the same.

Exit codes: 0 success, 1 it failed, 2 wrong usage, 130 stopped by Ctrl-C (saved, can be resumed).
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import importlib.util
import io
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import Any

import scratchnet
from scratchnet import threads
from scratchnet.checkpoint import CheckpointError
from scratchnet.data import SHORT_NAMES, Dataset, check_name, load, slug
from scratchnet.files import write_json
from scratchnet.kernels.jit import cache_is_cold
from scratchnet.models import MODELS, Recipe, default_recipe
from scratchnet.optimizers import OPTIMIZERS
from scratchnet.runs import OPS, Run, RunConfig, own_settings, vocabulary_hash
from scratchnet.schedules import SCHEDULES
from scratchnet.signals import StopOnSignal

RECIPE = (
    "optimizer",
    "lr",
    "schedule",
    "epochs",
    "batch_size",
    "dropout",
    "weight_decay",
)  # a model has defaults for these
PICTURES = (".png", ".svg", ".pdf")
HIDDEN = ("data", "model", "vocabulary", "fingerprint", "classes", "input_shape")  # shown elsewhere, or to nobody
FIXED = {
    "data": "digits",
    "model": "cnn",
    "seed": 0,
    "dtype": "float32",
    "ops": "kernels",
    "validation": 0.0,
    "warmup": 0,
    "clip_norm": None,
}


class UsageError(Exception):
    """The command line asks for something that can't be: exit code 2."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that a terminal can't show must not end a run
    parsed = _parser().parse_args(arguments)
    try:
        return parsed.command(parsed)
    except UsageError as error:
        return _fail(error, 2)
    except (ArithmeticError, MemoryError, OSError, TypeError, ValueError) as error:
        return _fail(error, 1)
    except KeyboardInterrupt:
        return _fail("stopped at once", 130)


def command_train(parsed: argparse.Namespace) -> int:
    """Train, save after each epoch, and measure on the test set at the end."""
    say = _nothing if parsed.quiet else _say
    if parsed.threads is not None:
        _usage(threads.set_threads, parsed.threads)
    run = _start(parsed) if parsed.resume is None else _resume(parsed)
    say(_describe(run.dataset), run.net.summary(run.config.batch_size), _settings(run.config), sep="\n\n")
    if run.progress.epoch or run.progress.batch:
        say(f"going on after {_where(run)}")
    if run.config.ops == "kernels" and cache_is_cold():
        say("kernels are compiled at their first use, once: the first epoch takes longer")
    began = time.perf_counter()
    terminal = sys.stderr is not None and sys.stderr.isatty()
    bar = terminal and not parsed.quiet  # elsewhere, in a log say, a line for each epoch

    def report(row: dict[str, float]) -> None:
        if not bar:
            say(_line(run, row))

    with StopOnSignal() as stop:
        run.train(bar, stop.requested, report)
    if not run.finished:
        _tell(f"stopped after {_where(run)}; saved. Go on with\n    scratchnet train --resume {quote(str(run.folder))}")
        return 130
    seconds = time.perf_counter() - began
    _draw(run, say)
    say(f"trained in {seconds:.1f} s; see {run.folder}")
    _print_test(run)
    return 0


def command_evaluate(parsed: argparse.Namespace) -> int:
    """Measure a run's net on the test set of its data, or of other data with the same shape."""
    run = Run.open(parsed.run, parsed.data, parsed.data_dir)
    if parsed.data is None and not run.same_data:
        _tell(f"note: {run.config.data} has changed since the run began")
    print(f"{run.config.model} trained on {run.config.data} for {_where(run)}")
    _print_test(run)
    return 0


def command_gradcheck(parsed: argparse.Namespace) -> int:
    """Check the gradients of every layer, every loss and a few nets, and print a table."""
    from scratchnet.gradcheck_suite import check_everything

    print(f"{'what':<44} {'parameters':>10} {'max rel. error':>14}  verdict")
    failed = 0
    for name, count, report in check_everything(OPS[parsed.ops]):
        failed += not report.passed
        print(f"{name:<44} {count:>10,} {report.max_error:>14.1e}  {report.verdict}", flush=True)
        if not report.passed:
            print(report)
    print(f"{failed} failed" if failed else "every gradient agrees with finite differences")
    return 1 if failed else 0


def command_doctor(parsed: argparse.Namespace) -> int:
    """Print what this installation runs on and with, and what is wrong with it."""
    from scratchnet.doctor import examine

    for name, finding in examine():
        print(f"{name:<18} {finding}", flush=True)
    return 0


def command_bench(parsed: argparse.Namespace) -> int:
    """Time every operation against NumPy and against what this machine can do; or a ladder, or whole steps."""
    from scratchnet.bench.run import Bench

    kinds = [kind for kind in ("ladder", "steps") if getattr(parsed, kind)] or ["operations"]
    _check_files(parsed, kinds)
    if parsed.threads is not None:
        _usage(threads.set_threads, parsed.threads)
    pattern = f"*{parsed.only or ''}*"
    bench = _usage(Bench, kinds, lambda name: fnmatch.fnmatch(name, pattern), parsed.seconds)
    for line in bench.lines():
        print(line, flush=True)
    if parsed.json:
        path = Path(parsed.json)
        if path.exists() and not path.is_file():  # a device, a pipe
            path.write_text(json.dumps(bench.results()) + "\n")
        else:
            write_json(path, bench.results())
        print(f"written: {parsed.json}")
    if parsed.plot:
        bench.plot(parsed.plot)
        print(f"drawn: {parsed.plot}")
    return 0


def _start(parsed: argparse.Namespace) -> Run:
    """Fill the defaults in, load the data, build the net, and make the run folder."""
    given = {name: value for name, value in vars(parsed).items() if name in (*FIXED, *RECIPE) and value is not None}
    chosen: dict[str, Any] = FIXED | given
    _usage(RunConfig, **(asdict(Recipe()) | chosen))  # before the data, which can take minutes to load
    if parsed.out == "":
        raise UsageError("--out: expected the name of a folder, got ''")
    asked = chosen["data"]
    _usage(check_name, asked)
    if asked not in SHORT_NAMES and Path(asked).is_dir():
        chosen["data"] = os.path.abspath(asked)  # --resume may be said somewhere else
    dataset = load(chosen["data"], parsed.data_dir)
    recipe = asdict(default_recipe(chosen["model"], dataset.kind, len(dataset.train)))
    if chosen.get("optimizer", recipe["optimizer"]) != recipe["optimizer"]:
        recipe |= own_settings(chosen["optimizer"])  # the recipe's rate was found with another method
    named = {
        "vocabulary": vocabulary_hash(dataset),
        "fingerprint": dataset.fingerprint,
        "classes": dataset.classes,
        "input_shape": list(dataset.input_shape),
    }
    config = _usage(RunConfig, **(recipe | chosen | named))
    if parsed.out is not None:
        try:
            return _usage(Run.start, parsed.out, config, dataset)
        except FileExistsError as error:
            raise UsageError(f"--out: {error}") from error
    name = f"runs/{slug(asked)}-{config.model}-{time.strftime('%Y%m%d-%H%M%S')}"
    for ending in ("", *(f"-{number}" for number in range(2, 100))):  # others may start in the same second
        with contextlib.suppress(FileExistsError):
            return _usage(Run.start, name + ending, config, dataset)
    raise FileExistsError(f"{name} and 98 others hold runs already; name a folder with --out")


def _resume(parsed: argparse.Namespace) -> Run:
    """Open a run; its settings are its own, so asking for others is a mistake worth stopping for."""
    asked = [n for n in (*FIXED, *RECIPE, "out") if n != "data" and getattr(parsed, n) is not None]
    if asked:
        flags = ", ".join("--" + name.replace("_", "-") for name in asked)
        raise UsageError(f"--resume goes on with the settings of the run; leave out {flags}")
    run = Run.open(parsed.resume, parsed.data, parsed.data_dir)
    if not run.same_data:
        data = parsed.data or run.config.data
        raise ValueError(
            f"--resume: the rows of {data}, or their order, are not those the run began with; "
            "name the copy it began with, a folder with --data, a mirror of the Hub with --data-dir"
        )
    return run


def _usage(function: Callable[..., Any], *args: Any, **named: Any) -> Any:
    """Call `function`; what it refuses was asked for on the command line."""
    try:
        return function(*args, **named)
    except CheckpointError:  # a ValueError, but nobody asked for it
        raise
    except (TypeError, ValueError) as error:
        raise UsageError(error) from error


def _check_files(parsed: argparse.Namespace, kinds: list[str]) -> None:
    """Refuse what could not be written, before minutes of measuring."""
    for flag, name in (("--json", parsed.json), ("--plot", parsed.plot)):
        if name is None:
            continue
        if not name:
            raise UsageError(f"{flag}: expected the name of a file, got {name!r}")
        path = Path(os.path.realpath(name))  # of a link, what it names
        if path.is_dir() or not path.absolute().parent.is_dir():
            raise UsageError(f"{flag}: expected a file in a folder that is there, got {name}")
        there = path.exists()
        open(path, "ab").close()
        if not there:
            path.unlink()
    if parsed.plot:
        if Path(parsed.plot).suffix not in PICTURES:
            raise UsageError(f"--plot: expected a name that ends in {', '.join(PICTURES)}, got {parsed.plot}")
        if "operations" not in kinds:
            raise UsageError("--plot draws the operations; leave out --ladder and --steps")
        if importlib.util.find_spec("matplotlib") is None:
            raise ValueError('--plot: matplotlib is not installed; pip install "scratchnet[plot]"')


def _draw(run: Run, say: Callable[..., None]) -> None:
    """Draw the run's picture; that it can't be drawn costs nothing else."""
    try:
        if not run.plot():
            say('for a picture of the run as well: pip install "scratchnet[plot]"')
    except Exception as error:  # matplotlib raises what its settings and the disk provoke
        print(f"scratchnet: curves.png could not be drawn: {error}", file=sys.stderr)


def _fail(reason: object, code: int) -> int:
    _tell(f"scratchnet: {reason}")
    return code


def _tell(text: str) -> None:
    """Print to stderr, whose reader may be gone, as `tee` after the same Ctrl-C: no reason to stop before the save."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def _say(*words: object, sep: str = " ") -> None:
    """Print to stdout at once, for whoever reads a log while it grows; where nobody does any more, training goes on."""
    try:
        print(*words, sep=sep, flush=True)
    except OSError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115


def _nothing(*words: object, **named: object) -> None:
    """Print nothing."""


def _describe(dataset: Dataset) -> str:
    shape = " x ".join(map(str, dataset.input_shape))
    things = f"{dataset.kind}s of {shape}" if dataset.kind == "image" else f"texts as bags of {shape} words"
    return (
        f"data: {dataset.name}, {len(dataset.train):,} + {len(dataset.test):,} {things}, {len(dataset.classes)} classes"
    )


def _settings(config: RunConfig) -> str:
    """The settings in one line, as the flags that would ask for them."""
    shown = {k: v for k, v in asdict(config).items() if k not in HIDDEN and v not in (0, None)}
    return "settings: " + " ".join(f"--{k.replace('_', '-')} {v}" for k, v in shown.items())


def _line(run: Run, row: dict[str, float]) -> str:
    """One epoch in one line."""
    held_out = f", validation accuracy {row['validation_accuracy']:.4f}" if "validation_accuracy" in row else ""
    rate = f"{len(run.training) / max(row['seconds'], 1e-3):,.0f} {run.dataset.kind}s/s"
    training = f"loss {row['loss']:.4f}, accuracy {row['accuracy']:.4f}{held_out}, {rate}"
    return f"epoch {row['epoch']}/{run.config.epochs}: {training}"


def _where(run: Run) -> str:
    batches = f" and {run.progress.batch} batches" if run.progress.batch else ""
    return f"{run.progress.epoch} of {run.config.epochs} epochs{batches}"


def _print_test(run: Run) -> None:
    loss, accuracy = run.test()
    examples = f"{len(run.dataset.test):,} {run.dataset.kind}s of {run.dataset.name}"
    print(f"test accuracy {accuracy:.4f}, test loss {loss:.4f} ({examples})")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scratchnet", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--version", action="version", version=f"scratchnet {scratchnet.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(command: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        name, summary = command.__name__.removeprefix("command_"), (command.__doc__ or "").partition("\n")[0]
        sub = commands.add_parser(name, help=summary, description=summary)
        sub.set_defaults(command=command)
        return sub

    _add_train_arguments(add(command_train))
    sub = add(command_evaluate)
    sub.add_argument("run", metavar="RUN_DIR", help="the folder of a run")
    sub.add_argument("--data", metavar="NAME", help="other data of the same shape (default: the run's own)")
    sub.add_argument("--data-dir", metavar="DIR", help="a local mirror of the Hub; also SCRATCHNET_DATA")
    sub = add(command_gradcheck)
    sub.add_argument("--ops", choices=sorted(OPS), default="kernels", help="the floor to check (default: kernels)")
    _add_bench_arguments(add(command_bench))
    add(command_doctor)
    return parser


def _add_bench_arguments(sub: argparse.ArgumentParser) -> None:
    flag = sub.add_argument
    flag("--ladder", action="store_true", help="from Python loops to the register tile, two problems, rung by rung")
    flag("--steps", action="store_true", help="whole training steps, and what each layer takes of one")
    flag("--only", metavar="PATTERN", help="what has this in its name: conv2d, 'dense*1000', adam")
    flag("--seconds", type=float, default=0.1, metavar="S", help="time for each measurement (default: 0.1)")
    flag("--threads", type=int, metavar="N", help="threads of the parallel runs, and of NumPy (default: all cores)")
    flag("--json", metavar="FILE", help="write all that was measured, and on what machine")
    flag("--plot", metavar="FILE", help="draw a roofline, e.g. roofline.png; needs matplotlib")


def _add_train_arguments(sub: argparse.ArgumentParser) -> None:
    flag = sub.add_argument
    flag(
        "--data",
        metavar="NAME",
        help="digits (default), mnist, fashion_mnist, cifar10, imdb, a Hub id or a local folder",
    )
    flag("--model", metavar="NAME", help=f"{' | '.join(MODELS)} (default: cnn)")
    flag("--optimizer", metavar="NAME", help=f"{' | '.join(OPTIMIZERS)} (default: adam)")
    flag(
        "--lr",
        type=float,
        metavar="X",
        help="learning rate > 0 (default: the model's for adam, else the optimizer's own)",
    )
    flag("--schedule", metavar="NAME", help=f"{' | '.join(SCHEDULES)}")
    flag("--warmup", type=int, metavar="N", help="let the rate rise linearly in the first N steps (default: 0)")
    flag("--clip-norm", type=float, metavar="X", help="scale a gradient of larger norm down to it (default: never)")
    flag("--epochs", type=int, metavar="N", help="passes over the training data")
    flag("--batch-size", type=int, metavar="N", help="examples per step")
    flag("--dropout", type=float, metavar="P", help="probability of dropping, 0 <= P < 1")
    flag("--weight-decay", type=float, metavar="X", help="as PyTorch's optimizer of that name takes it")
    flag("--validation", type=float, metavar="SHARE", help="hold out a share of the training data and measure on it")
    flag("--seed", type=int, metavar="N", help="of weights, data order and dropout (default: 0)")
    flag("--threads", type=int, metavar="N", help="threads to compute with (default: all cores)")
    flag("--dtype", metavar="D", help="float32 (default) or float64")
    flag("--ops", metavar="FLOOR", help="kernels (default, compiled) or reference (plain NumPy)")
    flag("--out", metavar="DIR", help="folder for the run (default: runs/DATA-MODEL-TIME)")
    flag("--resume", metavar="DIR", help="go on with a run that was stopped")
    flag("--data-dir", metavar="DIR", help="a local mirror of the Hub; also SCRATCHNET_DATA")
    flag("--quiet", action="store_true", help="print the test result only")


if __name__ == "__main__":
    sys.exit(main())

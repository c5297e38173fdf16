"""The command line that the scripts of the paper's figures have in common, and the record of a run."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Iterable
from pathlib import Path

import llvmlite.binding
from machine import cpu_model

from scratchnet import threads
from scratchnet.files import write_json

PACKAGES = ("scratchnet", "numpy", "numba", "scipy")


def make_parser(script: str, description: str | None) -> argparse.ArgumentParser:
    """Make the parser; `script` is the name of the file without .py, `description` its docstring."""
    parser = argparse.ArgumentParser(
        prog=f"{script}.py", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--smoke", dest="mode", action="store_const", const="smoke", help="seconds: does it run?")
    size.add_argument("--short", dest="mode", action="store_const", const="short", help="minutes: a smaller setting")
    parser.set_defaults(mode="full")
    parser.add_argument("--seed", type=int, nargs="+", default=[0], help="of weights and order of data; one or more")
    parser.add_argument("--threads", type=int, default=threads.available_threads(), help="cores to use")
    parser.add_argument("--out", type=Path, help=f"folder of what is written (default: runs/{script}-MODE)")
    parser.add_argument("--data-dir", help="local mirror of the Hub (default: $SCRATCHNET_DATA, then the Hub)")
    return parser


def parse(parser: argparse.ArgumentParser, arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line, set the threads, and open the folder of results.

    A folder keeps to one script and mode: rows of a short run must not pass for those of a full one. By default it is
    none of those under results/, whose rows would count as done.
    """
    args = parser.parse_args(arguments)
    script = parser.prog.removesuffix(".py")
    if not 1 <= args.threads <= threads.available_threads():
        parser.error(f"--threads: expected 1 to {threads.available_threads()}, got {args.threads}")
    if min(args.seed) < 0:
        parser.error(f"--seed: expected integers >= 0, got {min(args.seed)}")
    args.seed = list(dict.fromkeys(args.seed))
    if args.out is None:
        args.out = Path("runs", f"{script}-{args.mode}")
    args.out.mkdir(parents=True, exist_ok=True)
    marker, own = args.out / "run.json", {"script": script, "mode": args.mode}
    if marker.exists():
        try:
            record = json.loads(marker.read_text())
            before = {name: record[name] for name in own}
        except (ValueError, TypeError, KeyError):
            parser.error(f"{marker} can't be read; remove it to go on with the rows beside it, or choose another --out")
        if before != own:
            parser.error(
                f"{args.out} holds the rows of {_show(before)}, and this is {_show(own)}; choose another --out"
            )
        print(f"{args.out}: going on from the rows that are there; choose another --out to start anew", file=sys.stderr)
    else:
        write_json(marker, own)
    threads.set_threads(args.threads)
    return args


def write_record(args: argparse.Namespace, script: str, rows: Iterable[dict], **more: object) -> None:
    """Write run.json: what was run, where, on what, and the seconds that all rows together took.

    Args:
        args: of the command line. script: the name of the file without .py.
        rows: of every table; their columns `seconds` (of the clock) and `cpu_seconds` (of all cores) are added up.
        more: anything else worth keeping.
    """
    rows = list(rows)
    record = {
        "script": script,
        "mode": args.mode,
        "seeds": args.seed,
        "threads": args.threads,
        "machine": f"{cpu_model()}, {os.cpu_count()} cores, LLVM calls it {llvmlite.binding.get_host_cpu_name()}",
        "system": f"{platform.system()}, Python {platform.python_version()}",
        "versions": {name: _version(name) for name in PACKAGES},
        "seconds": round(sum(row["seconds"] for row in rows), 1),
        "cpu_seconds": round(sum(row["cpu_seconds"] for row in rows), 1),
        **more,
    }
    write_json(args.out / "run.json", record)


def _show(record: dict[str, str]) -> str:
    return f"a {record['mode']} run of {record['script']}"


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"  # scratchnet, run from its repository

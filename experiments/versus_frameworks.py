"""scratchnet beside PyTorch, JAX and scikit-learn: the same nets from the same weights on the same batches.

    python experiments/versus_frameworks.py --out experiments/results/versus

For each net it first checks that all compute the same losses over 20 steps, then times all of them in turn. Frameworks
that are not installed are named and skipped. Exit status 1: one that was compared computed other losses.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
from pathlib import Path

from machine import cpu_model
from versus.material import write_material
from versus.nets import MODULES, NETS, OURS, Net
from versus.race import Entry, Settings, run_race
from versus.report import STATEMENT, insert, show, write

from scratchnet import threads

UNFINISHED = "unfinished"  # the folder, inside --out, of what there is before all nets have been raced
README = Path(__file__).parents[1] / "README.md"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", default=",".join(NETS), help="comma-separated, of: %(default)s")
    parser.add_argument("--peers", help="comma-separated; all unless given")
    parser.add_argument("--threads", type=int, default=min(2, threads.available_threads()))
    parser.add_argument("--seconds", type=float, default=20, help="of racing, for each net (default: %(default)s)")
    parser.add_argument("--smoke", action="store_true", help="drawn data, a few steps: does everything run?")
    parser.add_argument("--out", type=Path, help="folder for versus.csv, versus.json and versus.md")
    parser.add_argument("--readme", action="store_true", help="put versus.md of --out into README.md, and race nobody")
    args = parser.parse_args(arguments)
    if args.readme and not (args.out and (args.out / "versus.md").is_file()):
        parser.error("--readme: expected --out FOLDER, where versus.md is")
    args.nets = args.nets.split(",")
    args.peers = args.peers.split(",") if args.peers else [name for name in MODULES if name != OURS]
    for given, known in ((args.nets, NETS), (args.peers, MODULES)):
        if unknown := set(given) - set(known):
            parser.error(f"expected some of {', '.join(known)}; got {', '.join(sorted(unknown))}")
    if not 0 < args.seconds < math.inf:
        parser.error(f"--seconds: expected a number > 0, got {args.seconds}")
    if not 1 <= args.threads <= threads.available_threads():
        parser.error(f"--threads: expected 1 to {threads.available_threads()}, got {args.threads}")
    if args.out and not args.readme:
        try:
            args.out.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=args.out):
                pass
        except OSError as error:
            parser.error(f"--out: expected a folder that can be written to, got {args.out} ({error.strerror})")
    return args


def main(arguments: list[str] | None = None) -> int:
    """Race all nets; returns the exit status."""
    args = parse(arguments)
    if args.readme:
        insert((args.out / "versus.md").read_text(), README)
        return 0
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    settings = Settings(args.threads, 0.2 if args.smoke else args.seconds, args.smoke, load)
    print(f"{cpu_model()}, {args.threads} threads. {STATEMENT}")
    results: list[tuple[Net, list[Entry]]] = []
    sources: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        for net in (NETS[name] for name in args.nets):
            path = Path(folder, "material.npz")
            sources[net.name] = write_material(net, path, args.smoke)
            entries = run_race(net, [peer for peer in net.peers if peer in args.peers], path, settings)
            results.append((net, entries))
            print(show(net, entries, sources[net.name]), flush=True)
            if args.out:
                write(args.out / UNFINISHED, results, settings, sources)
    if args.out:
        for path in (args.out / UNFINISHED).iterdir():
            path.replace(args.out / path.name)
        (args.out / UNFINISHED).rmdir()
    return int(any(entry.note.startswith("WRONG") for _, entries in results for entry in entries))


if __name__ == "__main__":
    sys.exit(main())

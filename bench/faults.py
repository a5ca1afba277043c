"""Try the faults of the reliability page again, and print: what | tried | held.

    python bench/faults.py [--only KIND] [--flips 300] [--seed 0]

The script makes a small run on the embedded world in a temporary folder, and tries each fault on
it, on a copy, or on a run of its own. A row holds if every trial ends as the documentation
promises. The exit status is 1 if one does not. A row that cannot be tried on this machine says why,
and counts no trial. The errors have the seconds per row, and the trials that did not hold.

A row is a function of `Bench` that yields `Row`s. To add one, write it in the module of its kind,
and name it in that module's `ROWS`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import faults_inputs
import faults_limits
import faults_models
import faults_processes
import faults_storage
import faults_texts
import faults_verifier
from faults_bench import Bench, Row, make_bench

ROWS: dict[str, tuple[Callable[[Bench], Iterator[Row]], ...]] = {
    "storage": faults_storage.ROWS,
    "processes": faults_processes.ROWS,
    "limits": faults_limits.ROWS,
    "models": faults_models.ROWS,
    "texts": faults_texts.ROWS,
    "inputs": faults_inputs.ROWS,
    "verifier": faults_verifier.ROWS,
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=list(ROWS), help="rows of one kind")
    parser.add_argument("--flips", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    kinds = [arguments.only] if arguments.only else list(ROWS)
    with tempfile.TemporaryDirectory() as folder:
        bench = make_bench(Path(folder), arguments.seed, arguments.flips)
        makers = [make for kind in kinds for make in ROWS[kind]]
        return int(print_rows(bench, makers))


def print_rows(bench: Bench, makers: list[Callable[[Bench], Iterator[Row]]]) -> bool:
    """Print the table, and return whether a trial failed."""
    any_failed = False
    print("| what | tried | held | note |\n|---|---|---|---|")
    for make in makers:
        started = time.monotonic()
        for row in make(bench):
            held = row.tried - len(row.failed)
            print(f"| {row.what} | {row.tried} | {held} | {row.note} |", flush=True)
            for line in row.failed:
                print(f"  did not hold: {line}", file=sys.stderr)
            any_failed |= bool(row.failed)
        print(f"{make.__name__}: {time.monotonic() - started:.0f} s", file=sys.stderr)
    return any_failed


if __name__ == "__main__":
    sys.exit(main())

"""Seconds per training step, alone and beside two other processes, of this commit and an older one.

    python bench/under_load.py --base REVISION [--rounds 7] [--steps 3] [--questions 8]

The older revision is checked out by `git worktree` into a temporary folder and run with the same
interpreter. Both train by the command line, as users do, in fresh copies of one prepared run: the
embedded model, 8 completions per question, a KL term. A step's time is read off the file of
metrics, which gets one line per step; a training's first step warms up and is not counted. The
neighbours are two Python processes of one thread each that compute without pause. Cases run
interleaved; a figure is the median over the rounds, with the lowest and the highest (of seven, a
98 % interval of the median).

Variables that would set OpenMP's threads are taken out of the environment, because what the command
line sets by itself is measured. Other work on the machine spoils the figures, so we print the load
average before each case: on an idle machine it is below 1 at first, and later the last case still
counts in it. A training that takes longer than `--limit` seconds is ended after its first step. It
then counts with a lower bound of its seconds per step. Neighbours end themselves soon after that
time, even if this script is killed.

Targets: beside the neighbours at most 2.5 times this commit's own time alone, and alone at most
1.05 times the older commit. The exit status is 1 if one is missed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).parents[1]
BASE, OURS = "older commit", "this commit"
ALONE, BESIDE = "alone", "beside two"
NEIGHBOURS = 2
MOST_BESIDE, MOST_ALONE = 2.5, 1.05
THREAD_SETTINGS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
METRICS = Path("rounds/00/train/metrics.jsonl")
POLL_S = 0.02
SPARE_S = 60.0  # beyond the limit, for a first step that is still not done
# The alarm ends the process by itself, so that no neighbour is left behind.
NEIGHBOUR = "import signal, sys\nsignal.alarm(int(sys.argv[1]))\nwhile True:\n    pass\n"


@contextmanager
def neighbours(count: int, seconds: float) -> Iterator[None]:
    """Processes that compute without pause while the block runs, and no longer than `seconds`."""
    command = [sys.executable, "-c", NEIGHBOUR, str(int(seconds))]
    with ExitStack() as stack:
        for _ in range(count):
            process = subprocess.Popen(command)
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield


@contextmanager
def older_source(revision: str, folder: Path) -> Iterator[Path]:
    """The `src` of a revision, checked out inside the block."""
    tree = folder / "older"
    git = ["git", "-C", str(REPOSITORY), "worktree"]
    subprocess.run([*git, "add", "--detach", "--quiet", str(tree), revision], check=True)
    try:
        yield tree / "src"
    finally:
        subprocess.run([*git, "remove", "--force", str(tree)], check=True)


def environment(source: Path) -> dict[str, str]:
    """The environment of a training by that source."""
    kept = {name: value for name, value in os.environ.items() if name not in THREAD_SETTINGS}
    return {**kept, "PYTHONPATH": str(source)}


def prepare(source: Path, folder: Path, steps: int, questions: int) -> None:
    """Make a small run that only lacks its training."""
    command = [
        sys.executable,
        "-m",
        "pivottrace.cli",
        "run",
        "--until",
        "label",
        "--output",
        str(folder),
        "--questions",
        "world:default?num=32&seed=1",
        "--labels.source",
        "oracle",
        "--budget",
        "0.5",
        "--rollouts.num-samples",
        "4",
        "--rollouts.max-new-tokens",
        "128",
        "--train.steps",
        str(steps),
        "--train.questions-per-step",
        str(questions),
        "--train.num-generations",
        "8",
        "--train.max-new-tokens",
        "128",
        "--train.beta",
        "0.1",
        "--train.learning-rate",
        "1e-9",
        "--train.save-steps",
        str(steps + 1),
    ]
    subprocess.run(command, env=environment(source), check=True, stdout=sys.stderr)


def seconds_per_step(
    source: Path, prepared: Path, folder: Path, steps: int, limit: float
) -> tuple[float, bool]:
    """Train a copy of a prepared run: seconds per step, and whether the limit ended it early."""
    shutil.copytree(prepared, folder)
    command = [sys.executable, "-m", "pivottrace.cli", "train", str(folder)]
    silent = subprocess.DEVNULL
    process = subprocess.Popen(command, env=environment(source), stdout=silent, stderr=silent)
    started = time.perf_counter()
    times: list[float] = []
    try:
        while process.poll() is None and len(times) < steps:
            time.sleep(POLL_S)
            now = time.perf_counter()
            times += [now] * (lines_of(folder / METRICS) - len(times))
            if now - started > limit and times:
                return (now - times[0]) / len(times), True
            if now - started > limit + SPARE_S:
                raise RuntimeError("not even the first step was done: give a larger --limit")
        if len(times) < steps:
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)
    return (times[-1] - times[0]) / (steps - 1), False


def lines_of(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", required=True, help="the older revision")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=3, help="of a training; the first warms up")
    parser.add_argument("--questions", type=int, default=8, help="per step")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds, of a training")
    arguments = parser.parse_args()
    if arguments.steps < 2:
        parser.error("--steps: the first one is not counted, so give at least 2")
    with tempfile.TemporaryDirectory() as name, older_source(arguments.base, Path(name)) as older:
        seconds, cut = measure(arguments, {BASE: older, OURS: REPOSITORY / "src"}, Path(name))
    return report(seconds, cut)


def measure(
    arguments: argparse.Namespace, sources: dict[str, Path], folder: Path
) -> tuple[dict[tuple[str, str], list[float]], set[tuple[str, str]]]:
    """Seconds per step of each commit and case, by round, and the cases that the limit has cut."""
    for name, source in sources.items():
        prepare(source, folder / name, arguments.steps, arguments.questions)
    cases = [(name, where) for where in (ALONE, BESIDE) for name in sources]
    seconds: dict[tuple[str, str], list[float]] = {case: [] for case in cases}
    cut = set()
    for index in range(arguments.rounds):
        for name, where in cases:
            load = os.getloadavg()[0]
            count = NEIGHBOURS if where == BESIDE else 0
            with neighbours(count, arguments.limit + 2 * SPARE_S):
                took, was_cut = seconds_per_step(
                    sources[name], folder / name, folder / "run", arguments.steps, arguments.limit
                )
            seconds[name, where].append(took)
            cut |= {(name, where)} if was_cut else set()
            print(
                f"round {index + 1}: {name}, {where}: {took:.2f} s{' or more' if was_cut else ''} "
                f"(load average {load:.1f} before it)",
                file=sys.stderr,
                flush=True,
            )
    return seconds, cut


def report(seconds: dict[tuple[str, str], list[float]], cut: set[tuple[str, str]]) -> int:
    """Print the table. Return 1 if a target is missed, else 0."""
    medians = {case: float(np.median(values)) for case, values in seconds.items()}
    print("| commit | case | s per step | lowest–highest | / alone | / older, same case |")
    print("|---|---|---|---|---|---|")
    for (name, where), values in seconds.items():
        median, least = medians[name, where], "≥ " if (name, where) in cut else ""
        print(
            f"| {name} | {where} | {least}{median:.2f} | {min(values):.2f}–{max(values):.2f} "
            f"| {median / medians[name, ALONE]:.2f} | {median / medians[BASE, where]:.2f} |"
        )
    beside = medians[OURS, BESIDE] / medians[OURS, ALONE]
    alone = medians[OURS, ALONE] / medians[BASE, ALONE]
    return int(beside > MOST_BESIDE or alone > MOST_ALONE)


if __name__ == "__main__":
    sys.exit(main())

"""The common parts of bench/faults.py: a finished run to copy, and ways to call the command."""

from __future__ import annotations

import io
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

from transformers.utils.logging import disable_progress_bar

from pivottrace.cli import main as pivottrace

QUESTIONS, PART_SIZE, STEPS = 16, 8, 2
LIMIT_S = 300.0  # of one command; a whole run takes 20 s on two cores
COMMAND = (sys.executable, "-m", "pivottrace")
DATA = (".parquet", ".json", ".jsonl", ".safetensors")
# The time of a write is in it, or the folder of the copy.
NOT_COMPARED = ("timings.jsonl", "manifest.json", "metrics.jsonl")


@dataclass(frozen=True)
class Bench:
    """A finished run that is not changed, a folder for copies of it, and how to try.

    Attributes:
        run: The run.
        folder: A folder for the files of the rows.
        rng: Chance, with the seed of the command line.
        flips: Bits that are flipped in each file.
        seconds: The time that the run took, in a process of its own.
        kept: Runs of other kinds, by name, which `other_run` makes once.
    """

    run: Path
    folder: Path
    rng: random.Random
    flips: int
    seconds: float
    kept: dict[str, Path] = field(default_factory=dict)

    def copy(self, run: Path | None = None) -> Path:
        """A fresh copy of a run, in place of the last copy."""
        place = self.folder / "copy"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(run or self.run, place)
        return place

    def other_run(self, name: str, make: Callable[[Path], object]) -> Path:
        """A run of another kind, which several rows copy."""
        if name not in self.kept:
            self.kept[name] = self.folder / name
            make(self.kept[name])
        return self.kept[name]


@dataclass(frozen=True)
class Row:
    """One line of the table. `failed` names trials that did not end as promised."""

    what: str
    tried: int
    failed: Sequence[str] = ()
    note: str = ""


class Ended(NamedTuple):
    """How a command ended: its exit code, its output, and its errors."""

    code: int
    output: str
    errors: str


def make_bench(folder: Path, seed: int, flips: int) -> Bench:
    """Make the run. Raises SystemExit if that fails."""
    disable_progress_bar()  # as the command does outside terminals
    started = time.monotonic()
    ended = called(*run_arguments(folder / "run"))
    if ended.code:
        raise SystemExit(ended.errors)
    seconds = time.monotonic() - started
    return Bench(folder / "run", folder, random.Random(seed), flips, seconds)


def run_arguments(output: Path) -> list[str]:
    """The command of a run with held-out questions, labels, and a training of a few steps."""
    return [
        "run",
        *("--output", str(output)),
        *("--questions", f"world:default?num={QUESTIONS}&seed=3"),
        *("--evaluation", "world:default?num=4&seed=9"),
        *("--labels.source", "oracle", "--budget", "0.5"),
        *("--rollouts.num-samples", "8", "--rollouts.max-new-tokens", "64"),  # in two steps
        *("--rollouts.part-size", str(PART_SIZE)),
        *("--train.steps", str(STEPS), "--train.max-new-tokens", "64"),
    ]


def contents(run: Path) -> dict[str, bytes]:
    """The bytes of every result of a run, by the file's name."""
    files = [p for p in run.rglob("*") if p.suffix in DATA and p.name not in NOT_COMPARED]
    return {str(path.relative_to(run)): path.read_bytes() for path in files if path.name[0] != "."}


def differing(run: Path, other: Path) -> list[str]:
    """The names of the results that two runs do not share byte for byte."""
    first, second = contents(run), contents(other)
    return sorted(name for name in first | second if first.get(name) != second.get(name))


def call(*arguments: object) -> tuple[int, str]:
    """Run a command in this process. Return its exit code, and its errors or else its output.

    An error that the command line does not turn into a line has the code -1.
    """
    out, errors = io.StringIO(), io.StringIO()
    try:
        with redirect_stdout(out), redirect_stderr(errors):
            code = pivottrace([str(argument) for argument in arguments])
    except Exception as error:
        return -1, f"{type(error).__name__}: {error}"
    return code, errors.getvalue().strip() or out.getvalue().strip()


def called(
    *arguments: object,
    before: Sequence[str] = (),
    env: dict[str, str] | None = None,
    timeout: float = LIMIT_S,
) -> Ended:
    """Run a command in a process of its own, after other words such as `unshare -n`.

    One that is stopped at the time limit has the code -9.
    """
    try:
        done = subprocess.run(
            [*before, *COMMAND, *map(str, arguments)],
            capture_output=True,
            env=os.environ if env is None else env,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired as error:
        return Ended(-9, "", (error.stderr or b"").decode(errors="replace") + "still running")
    texts = (text.decode(errors="replace") for text in (done.stdout, done.stderr))
    return Ended(done.returncode, *texts)


def unclear(code: int, errors: str) -> str:
    """The fault in the end of a command that may be refused; empty without one.

    It may succeed, or wait for labels. A refusal is one line of errors, after lines of progress.
    """
    lines = errors.splitlines()
    if code in (0, 3) and "Traceback" not in errors:
        return ""
    refusals = [line for line in lines if line.startswith("error: ")]
    if code in (1, 2) and refusals == lines[-1:] and "Traceback" not in errors:
        return ""
    return f"code {code}: {errors[-300:]!r}"


@cache
def namespaces() -> tuple[str, ...]:
    """The words that give a command a network and mounts of its own; empty where none may."""
    for words in (("unshare", "-mn"), ("unshare", "-rmn")):
        if (
            shutil.which("unshare")
            and not subprocess.run(
                [*words, "sh", "-c", "mount -t tmpfs none /mnt"], capture_output=True
            ).returncode
        ):
            return words
    return ()

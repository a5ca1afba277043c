r"""Time and memory to tell answers apart and to vote, of this commit and an older one.

    python bench/answers.py --base REVISION [--rounds 5] [--votes 100000]

The older revision is checked out by `git worktree` into a temporary folder and run with the same
interpreter. Each measurement has a process of its own, and the commits take turns. A figure is the
median over the rounds, with the lowest and the highest.

- "symbolic": 16 different symbolic answers of one question are grouped. A first comparison starts
  the verifier's process; its time is shown apart ("start") and does not count.
- "votes": votes over 16 plain numbers each, in three to five spellings and two or three values.
- "memory": the greatest memory that a process held while the answers of "symbolic" were grouped:
  of all processes of the verifier, and of the process that votes.

Other work on the machine spoils the figures, so we print the load average before each measurement.

Targets: symbolic groups at least 20 times faster, votes at least 5 times faster, and no process
larger than in the older commit. Memory differs by about 1 % from run to run of one commit, so 1 %
more is allowed. The exit status is 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from under_load import BASE, OURS, REPOSITORY, older_source

LEAST_SYMBOLIC, LEAST_VOTES, MOST_MEMORY = 20.0, 5.0, 1.01
SAMPLES = 16
# Answers to differential equations, as in Minerva's questions; # is 1 … 16.
SYMBOLIC = {
    "forced": r"\frac{e^{-2 t}}{15}+C_{1} e^{t}+C_{2} e^{-#t}+ C_{3} \cos (t)+C_{4} \sin (#t)",
    "damped": r"A e^{-# t/2} \cos(\sqrt{3} t)+B e^{-t} \sin(# t)+\frac{t}{#+1}",
    "double root": r"C_{1} e^{-t}+C_{2} t e^{-#t}+\frac{1}{2} t^{2} e^{-t}-\frac{\cos (# t)}{5}",
}
VOTES = "votes"
POLL_S = 0.05


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", help="the older revision")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--votes", type=int, default=100_000)
    parser.add_argument("--groups", nargs="+", choices=SYMBOLIC, default=list(SYMBOLIC))
    parser.add_argument("--measure", choices=[*SYMBOLIC, VOTES], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        vote = arguments.measure == VOTES
        found = time_votes(arguments.votes) if vote else time_symbolic(arguments.measure)
        print(json.dumps(found))
        return 0
    if not arguments.base:
        parser.error("--base REVISION is missing; give the commit to compare with")
    with tempfile.TemporaryDirectory() as name, older_source(arguments.base, Path(name)) as older:
        found = measure(arguments, {BASE: older, OURS: REPOSITORY / "src"})
    return report(found, arguments.groups)


def time_symbolic(name: str) -> dict[str, float]:
    """Group one question's symbolic answers: seconds, classes, and memory in MiB."""
    from pivottrace.verifier import Verifier

    answers = [SYMBOLIC[name].replace("#", str(k)) for k in range(1, SAMPLES + 1)]
    random.Random(0).shuffle(answers)
    with Verifier("math") as verifier, peak_memory() as peaks:
        started = time.perf_counter()
        verifier.equal("x+1", "1+x")
        ready = time.perf_counter()
        classes = grouping(verifier)(answers)
        seconds = time.perf_counter() - ready
    own = peaks.pop(os.getpid())
    return {
        "seconds": seconds,
        "start": ready - started,
        "classes": len(set(classes)),
        "verifier": max(peaks.values()),
        "processes": len(peaks),
        "voter": own,
        **verifier.facts(),
    }


def time_votes(count: int) -> dict[str, float]:
    """Vote over samples of plain numbers: seconds, and how many votes had a winner."""
    from pivottrace.verifier import Verifier

    majority_vote = counting().majority_vote
    questions = [plain_samples(random.Random(index)) for index in range(count)]
    with Verifier("math") as verifier:
        group = grouping(verifier)
        started = time.perf_counter()
        won = sum(majority_vote(group(answers)).winner is not None for answers in questions)
        return {"seconds": time.perf_counter() - started, "won": won, **verifier.facts()}


def grouping(verifier: Any) -> Callable[[list[str]], list[int]]:
    """The function that gives answers their classes. Older commits compare pairs."""
    if hasattr(verifier, "group"):
        return verifier.group
    group_equivalent = counting().group_equivalent
    return lambda answers: group_equivalent(answers, verifier.equal)


def counting() -> Any:
    """The module that counts votes, which lay in another place at 8c5f901."""
    try:
        return importlib.import_module("pivottrace.verifier.answers")
    except ModuleNotFoundError:
        return importlib.import_module("pivottrace.core.answers")


def plain_samples(chance: random.Random) -> list[str]:
    """Answers of one question: 16 plain numbers in three to five spellings of two or three values.

    Right values are spread as GSM8K's 8,792 true answers are: their logarithms have a mean of 4.1
    and a standard deviation of 2.2, and only 952 values are different, since large ones are round.
    """
    right = int(float(f"{1 + chance.lognormvariate(4.1, 2.2):.2g}"))
    values = [right, right + chance.randint(1, 20), right * 10][: chance.choice((2, 3))]
    spellings = [f"{values[0]}", f"{values[1]}"]
    more = [f"{value}{tail}" for value in values for tail in (".0", ".00")]
    more += [f"${value}" for value in values] + [f"{value:,}.5" for value in values]
    more += [f"{value:,}" for value in values if value >= 1000]
    spellings += chance.sample(more, chance.choice((1, 2, 3)))
    # The first spellings are the most frequent ones.
    weights = [2.0**-rank for rank in range(len(spellings))]
    return chance.choices(spellings, weights, k=SAMPLES)


@contextmanager
def peak_memory() -> Iterator[dict[int, float]]:
    """Greatest memory in MiB of this process and of its children, by process id, at the end.

    We also look while the block runs, because a process that has ended cannot be asked.
    """
    peaks: dict[int, float] = {}
    done = threading.Event()

    def watch() -> None:
        while not done.wait(POLL_S):
            look(peaks)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peaks
    finally:
        done.set()
        thread.join()
        look(peaks)


def look(peaks: dict[int, float]) -> None:
    """Update the peaks of this process and of its children that live."""
    tasks = Path("/proc/self/task").iterdir()
    children = [pid for task in tasks for pid in read(task / "children").split()]
    for pid in (os.getpid(), *map(int, children)):
        for line in read(Path(f"/proc/{pid}/status")).splitlines():
            if line.startswith("VmHWM:"):  # in KiB; the kernel keeps the greatest value
                peaks[pid] = max(peaks.get(pid, 0.0), int(line.split()[1]) / 1024)


def read(path: Path) -> str:
    """A file of /proc; empty if its process or thread has ended."""
    try:
        return path.read_text()
    except OSError:
        return ""


def measure(
    arguments: argparse.Namespace, sources: dict[str, Path]
) -> dict[tuple[str, str], list[dict[str, float]]]:
    """Results by measurement and commit, one per round."""
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    for index in range(arguments.rounds):
        for what in (*arguments.groups, VOTES):
            for name, source in sources.items():
                load = os.getloadavg()[0]
                command = [sys.executable, __file__, "--measure", what]
                command += ["--votes", str(arguments.votes)]
                environment = {**os.environ, "PYTHONPATH": str(source)}
                done = subprocess.run(
                    command, env=environment, check=True, stdout=subprocess.PIPE, text=True
                )
                result = json.loads(done.stdout)
                found.setdefault((what, name), []).append(result)
                facts = ", ".join(f"{key} {value:.4g}" for key, value in result.items())
                print(
                    f"round {index + 1}: {what}, {name}: {facts} (load average {load:.1f} before)",
                    file=sys.stderr,
                    flush=True,
                )
    return found


def report(found: dict[tuple[str, str], list[dict[str, float]]], groups: list[str]) -> int:
    """Print the table. Return 1 if a target is missed, else 0."""
    print("| what | older commit | this commit | older / this | target |")
    print("|---|---|---|---|---|")
    hit = True
    rows = [(what, "seconds", LEAST_SYMBOLIC) for what in groups]
    rows.append((VOTES, "seconds", LEAST_VOTES))
    for process in ("verifier", "voter"):
        rows += [(what, process, 1 / MOST_MEMORY) for what in groups]
    for what, key, target in rows:
        older, ours = ([row[key] for row in found[what, name]] for name in (BASE, OURS))
        ratio = float(np.median(older) / np.median(ours))
        hit &= ratio >= target
        unit = "s" if key == "seconds" else "MiB"
        label = f"{what}, {unit}" if unit == "s" else f"{what}, {key}, {unit}"
        print(f"| {label} | {spread(older)} | {spread(ours)} | {ratio:.2f} | ≥ {target:.2f} |")
    return int(not hit)


def spread(values: list[float]) -> str:
    return f"{np.median(values):.4g} ({min(values):.4g}–{max(values):.4g})"


if __name__ == "__main__":
    sys.exit(main())

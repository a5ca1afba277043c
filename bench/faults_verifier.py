"""Kill and stop the verifier's processes, give it slow answers, and compare its verdicts.

    python bench/faults_verifier.py [--trials 3] [--seed 0]

Every verdict must be that of an undisturbed call, and no fault from outside may be counted as a
time-out or a crash. The table has, per fault, how often it was tried and how often that held. A
signal that found no process is not counted. The exit status is 1 if something did not hold, or was
never tried.

All answers are harmless. A slow one is a sum of ordinary terms that takes a second, for a verifier
that gives it less. It needs Linux, because processes are found in /proc.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from pivottrace.verifier import Verifier
from pivottrace.verifier.decisions import MOST_SLOW

PAIRS = 100  # expressions; about two seconds of work
SHORT_S = 0.3  # a time in which no slow answer is valued
SLOW_ANSWERS = 8


class Row(NamedTuple):
    """One line of the table."""

    what: str
    tried: int
    held: int


class Pairs(NamedTuple):
    """Answers, their truths, and the verdicts of an undisturbed call."""

    answers: Sequence[str]
    truths: Sequence[str]
    right: Sequence[bool]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rows = verifier_rows(arguments.trials, random.Random(arguments.seed))
    print("| what | tried | held |\n|---|---|---|")
    for row in rows:
        print(f"| {row.what} | {row.tried} | {row.held} |")
    return int(any(row.held < row.tried or not row.tried for row in rows))


def verifier_rows(trials: int, chance: random.Random) -> list[Row]:
    """Try each fault `trials` times."""
    ordinary = [f"x^{{{k}}}+{k}" for k in range(PAIRS)]
    truths = [f"{k + k % 2}+x^{{{k}}}" for k in range(PAIRS)]
    pairs = Pairs(ordinary, truths, [k % 2 == 0 for k in range(PAIRS)])
    checks: dict[str, Callable[[], bool | None]] = {
        "kill -9 of the busy process": lambda: signalled(pairs, forks, signal.SIGKILL, chance),
        "kill -9 of the loaded process": lambda: signalled(pairs, loaded, signal.SIGKILL, chance),
        "SIGSTOP of the busy process": lambda: signalled(pairs, forks, signal.SIGSTOP, chance),
        "SIGSTOP of both": lambda: signalled(pairs, both, signal.SIGSTOP, chance),
        f"{SLOW_ANSWERS} slow answers to one question": lambda: bailed_out(pairs),
        "a slow answer before ordinary ones": lambda: came_last(pairs),
    }
    found = {what: [check() for _ in range(trials)] for what, check in checks.items()}
    return [
        Row(what, len(held) - held.count(None), held.count(True)) for what, held in found.items()
    ]


def loaded(verifier: Verifier) -> list[int]:
    """The processes that have math-verify loaded."""
    return [child._process.pid for child in verifier._workers._children.values()]


def forks(verifier: Verifier) -> list[int]:
    """Their forks, which work."""
    files = [Path(f"/proc/{pid}/task/{pid}/children") for pid in loaded(verifier)]
    return [int(pid) for file in files if file.exists() for pid in file.read_text().split()]


def both(verifier: Verifier) -> list[int]:
    return [*loaded(verifier), *forks(verifier)]


def signalled(
    pairs: Pairs, processes: Callable[[Verifier], list[int]], number: int, chance: random.Random
) -> bool | None:
    """Send a signal to processes while they work. Return None if none was alive."""
    sent = []

    def send() -> None:
        with suppress(ProcessLookupError):
            for pid in processes(verifier):
                os.kill(pid, number)
                sent.append(pid)

    with Verifier("math", timeout_s=1.0) as verifier:
        verifier.equal("x+1", "1+x")
        timer = threading.Timer(chance.uniform(0, 1.0), send)
        timer.start()
        found = verifier.check_many(pairs.answers, pairs.truths)
        timer.join()
        held = found == pairs.right and not any(verifier.facts().values())
    return held if sent else None


def slow_answer(number: int) -> str:
    return "+".join(rf"C_{{{k}}} t^{{{k + number}}} e^{{-{k}t}}" for k in range(2, 40))


def bailed_out(pairs: Pairs) -> bool:
    """Only `MOST_SLOW` slow answers get their whole time, and the ordinary ones are decided."""
    slow = [slow_answer(k) for k in range(SLOW_ANSWERS)]
    truth = pairs.truths[0]
    with Verifier("math", timeout_s=SHORT_S) as verifier:
        asked = recorded(verifier)
        right = verifier.check_many([*slow, *pairs.answers[:8]], [truth] * (len(slow) + 8))
        whole = [item for items, share in asked if share == 1 for item in items]
        timeouts = verifier.facts()["verifier_timeouts"]
    return (
        right == [*[False] * len(slow), True, *[False] * 7]
        and sum(text in slow for _, text in whole) == MOST_SLOW
        and timeouts == len(slow)
    )


def came_last(pairs: Pairs) -> bool:
    """A slow answer gets its whole time once the others have their verdicts."""
    slow = slow_answer(0)
    with Verifier("math", timeout_s=SHORT_S) as verifier:
        asked = recorded(verifier)
        found = verifier.check_many([slow, *pairs.answers], ["7", *pairs.truths])
        last, share = asked[-1]
    return found == [False, *pairs.right] and share == 1 and ("expression", slow) in last


def recorded(verifier: Verifier) -> list[tuple[list[Any], float]]:
    """The list of the items that the verifier asks from now on, with their share of the time."""
    asked: list[tuple[list[Any], float]] = []
    ask = verifier._workers.ask

    def record(items: Sequence[Any], share: float = 1.0) -> list[Any]:
        asked.append((list(items), share))
        return ask(items, share)

    verifier._workers.ask = record  # type: ignore[method-assign]
    return asked


if __name__ == "__main__":
    sys.exit(main())

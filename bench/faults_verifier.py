"""The verifier: processes that are killed or stopped, slow answers, and a user's own functions.

Every verdict must be that of an undisturbed call, and no fault from outside may be counted as a
time-out or a crash. A signal that found no process is not counted, and a row whose signals all
found none does not hold.

All answers are harmless. A slow one is a sum of ordinary terms that takes a second, for a verifier
that gives it less. It needs Linux, because processes are found in /proc.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from faults_bench import Bench, Row
from pivottrace.errors import ConfigError, DataError
from pivottrace.verifier import Verifier
from pivottrace.verifier.decisions import MOST_SLOW

TRIALS = 3  # of each fault from outside
PAIRS = 100  # expressions; about two seconds of work
SHORT_S = 0.3  # a time in which no slow answer is valued
SLOW_ANSWERS = 8
MEMORY_BYTES = 256 * 1024**2


class Pairs(NamedTuple):
    """Answers, their truths, and the verdicts of an undisturbed call."""

    answers: Sequence[str]
    truths: Sequence[str]
    right: Sequence[bool]


def ordinary() -> Pairs:
    """Pairs that the verifier's processes decide, every second one equal."""
    answers = [f"x^{{{k}}}+{k}" for k in range(PAIRS)]
    truths = [f"{k + k % 2}+x^{{{k}}}" for k in range(PAIRS)]
    return Pairs(answers, truths, [k % 2 == 0 for k in range(PAIRS)])


def disturbed(bench: Bench) -> Iterator[Row]:
    """A fault from outside, or a slow answer, changes no verdict of another answer."""
    pairs, chance = ordinary(), bench.rng
    checks: dict[str, Callable[[], bool | None]] = {
        "kill -9 of the busy process": lambda: signalled(pairs, forks, signal.SIGKILL, chance),
        "kill -9 of the loaded process": lambda: signalled(pairs, loaded, signal.SIGKILL, chance),
        "SIGSTOP of the busy process": lambda: signalled(pairs, forks, signal.SIGSTOP, chance),
        "SIGSTOP of both": lambda: signalled(pairs, both, signal.SIGSTOP, chance),
        f"{SLOW_ANSWERS} slow answers to one question": lambda: bailed_out(pairs),
        "a slow answer before ordinary ones": lambda: came_last(pairs),
    }
    for what, check in checks.items():
        yield counted(what, [check() for _ in range(TRIALS)])


def counted(what: str, held: Sequence[bool | None]) -> Row:
    """The row of some trials. None is a trial that did not take place."""
    tried = [each for each in held if each is not None]
    failed = ["other verdicts, or counts of faults"] * tried.count(False)
    if not tried:
        return Row(f"verifier: {what}", 1, ["no signal found a process"])
    return Row(f"verifier: {what}", len(tried), failed)


FUNCTIONS = """
import os, time

def memory(answer, truth):
    return len(bytearray(1 << 30)) > 0

def sleep(answer, truth):
    time.sleep(60 if answer == "1" else 0)
    return True

def fork(answer, truth):
    if os.fork() == 0:
        os._exit(0)
    os.wait()
    return answer == truth

def prints(answer, truth):
    print("words", flush=True)
    return answer == truth

def nothing(answer, truth):
    pass

def raises(answer, truth):
    raise RuntimeError("half written")

def ends(answer, truth):
    os._exit(7)
"""
# Function → the words of its error, or the verdicts on two pairs, the second one equal.
MISBEHAVE: dict[str, str | list[bool]] = {
    "memory": "raised MemoryError",
    "sleep": [False, True],
    "fork": [False, True],
    "prints": [False, True],
    "nothing": "returned None",
    "raises": "raised RuntimeError: half written",
    "ends": "ended its process",
    "missing": "has no function 'missing'",
}


def functions(bench: Bench) -> Iterator[Row]:
    """A user's function that misbehaves is named with its pair, or only its own pair is unequal."""
    (bench.folder / "misbehaves.py").write_text(FUNCTIONS)
    sys.path.insert(0, str(bench.folder))
    failed = []
    for name, expected in MISBEHAVE.items():
        found: str | list[bool]
        with Verifier(f"misbehaves:{name}", timeout_s=1.0, memory_bytes=MEMORY_BYTES) as verifier:
            try:
                found = verifier.check_many(["1", "2"], ["7", "2"])
            except (ConfigError, DataError) as error:
                found = str(error)
        held = expected in found if isinstance(expected, str) else expected == found
        failed += [] if held else [f"{name}: {found}"]
    sys.path.remove(str(bench.folder))
    note = ", ".join(MISBEHAVE)
    yield Row("verifier: functions of a user", len(MISBEHAVE), failed, note)


def processes(bench: Bench) -> Iterator[Row]:
    """The verifier has no more processes than there are cores, and none is left behind."""
    pairs, cores = ordinary(), len(os.sched_getaffinity(0))
    with Verifier("math") as verifier:
        found = verifier.check_many(pairs.answers, pairs.truths)
        there = loaded(verifier)
    failed = [] if found == pairs.right else ["other verdicts"]
    failed += [f"{len(there)} processes"] if not 0 < len(there) <= cores else []
    failed += [f"{pid} still runs" for pid in there if Path(f"/proc/{pid}").exists()]
    yield Row("verifier: its number of processes", 1, failed, f"{len(there)} on {cores} cores")


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
    sent: list[int] = []

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


ROWS = (disturbed, functions, processes)

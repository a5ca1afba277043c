"""Every task of reasoning-gym: are its stored answers right by its own scorer, and others wrong?

    python bench/gym_scorers.py               all tasks; writes docs/results/gym-scorers.md
    python bench/gym_scorers.py TASK ...      some tasks; prints only

It takes about half an hour for all tasks, and needs `pip install 'pivottrace[gym]'`. For each of 20
questions of a task, through the verifier `reasoning-gym`: the stored answer; a wrong one (the next
question's answer, where it is another text); a blank reply; the stored answer inside a sentence;
and hostile texts (`HOSTILE`). The tower of powers is tried on one question of each task, because it
uses up its time limit wherever a scorer computes replies. Beside these, the library's own score of
the harmless replies, and whether the library makes the same questions in two processes.

A reply has five seconds of processor time, after which the kernel ends it and it is wrong. The
exit status is 1 if a stored answer is wrong or another reply is right, unless `EXCEPTIONS` says
why.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from reasoning_gym.factory import DATASETS, create_dataset

from pivottrace.errors import PivotTraceError
from pivottrace.ingest.questions import read_source
from pivottrace.verifier import Verifier
from pivottrace.verifier.truths import with_entry

PAGE = Path(__file__).resolve().parents[1] / "docs" / "results" / "gym-scorers.md"
QUESTIONS = 20
SEED = 1
LIMIT_S = 5.0
HOSTILE = {
    "digits": "9" * 900,
    "open brackets": "[" * 400,
    "nested brackets": "(" * 300 + "1" + ")" * 300,
    "a large factorial": "9" * 300 + "!",
    "markup": "<answer>" * 50 + "<b>1</b>",
    "control characters": "\x00\x07\x1b[0m\r\t1",
    "a call": "__import__('os').getcwd()",
    "an attribute": "().__class__",
    "a long list": "[0]*10**9",
    "a sentence": "I do not know.",
}
TOWER = "9**9**9**9"
# Tasks whose table row is not as it should be, and why that is no fault of ours.
EXCEPTIONS = {
    "intermediate_integration": (
        "some stored answers hold an `Integral` that is left to be solved. Such a reply is "
        "refused, because it would be right for every question. A solved one is right"
    ),
}
_DIGEST = """
import hashlib, os, sys
from reasoning_gym.factory import create_dataset
replies = os.fdopen(os.dup(1), "w")
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
dataset = create_dataset(sys.argv[1], size=int(sys.argv[2]), seed=int(sys.argv[3]))
texts = [dataset[i]["question"] + str(dataset[i]["answer"]) for i in range(len(dataset))]
replies.write(hashlib.sha256("\\0".join(texts).encode()).hexdigest())
"""


@dataclass
class Found:
    """The findings on one task.

    Attributes:
        task: Its name.
        refused: Why its questions cannot be used; "" if they can.
        num: Questions.
        stored: Stored answers that are right.
        wrong: Wrong answers that are right, of `num_wrong`.
        hostile: Names of hostile replies that are right.
        longest_s: The longest time of a reply, by the clock.
        slow: Replies that used up their time.
        left_out: Questions that reading left out.
        blank_score: The library's highest score of a blank reply.
        sentence_score: Its lowest and highest score of the stored answer inside a sentence.
        near_score: Its highest score below 1 of a wrong answer.
        repeats: Whether the library makes the same questions in two processes.
    """

    task: str
    refused: str = ""
    num: int = 0
    stored: int = 0
    wrong: int = 0
    num_wrong: int = 0
    hostile: list[str] = field(default_factory=list)
    longest_s: float = 0.0
    slow: int = 0
    left_out: int = 0
    blank_score: float = 0.0
    sentence_score: tuple[float, float] = (0.0, 0.0)
    near_score: float = 0.0
    repeats: bool = True

    @property
    def is_as_it_should_be(self) -> bool:
        """Whether all stored answers are right, in time, and all other replies are wrong."""
        return self.stored == self.num and not self.wrong and not self.hostile


def examine(task: str, verifier: Verifier) -> Found:
    found = Found(task)
    source = f"reasoning-gym:{task}?size={QUESTIONS}&seed={SEED}"
    found.repeats = len({_digest(task) for _ in range(2)}) == 1
    try:
        read = read_source(source, on_duplicate="drop_disagreeing", verifier="reasoning-gym")
    except PivotTraceError as error:
        found.refused = str(error).removeprefix(f"{source}: ")
        return found
    rows = read.table.to_pylist()
    golds = [row["answer"] for row in rows]
    entries = [json.loads(row["extra"])["entry"] for row in rows]
    truths = list(map(with_entry, golds, entries))
    verifier.equal(golds[0], truths[0])  # the scorer is loaded
    found.num, found.left_out = len(rows), QUESTIONS - len(rows)
    slow = verifier.timeouts
    for place, truth in enumerate(truths):
        _judge(found, verifier, golds, place, truth)
    _timed(found, verifier, TOWER, truths[0])
    found.slow = verifier.timeouts - slow
    _score(found, golds, entries)
    return found


def _judge(found: Found, verifier: Verifier, golds: Sequence[str], place: int, truth: str) -> None:
    gold, other = golds[place], golds[(place + 1) % len(golds)]
    found.stored += _timed(found, verifier, gold, truth)
    if other != gold:
        found.num_wrong += 1
        found.wrong += _timed(found, verifier, other, truth)
    replies = {"blank": " ", **HOSTILE}
    right = [name for name, text in replies.items() if _timed(found, verifier, text, truth)]
    found.hostile += [name for name in right if name not in found.hostile]


def _timed(found: Found, verifier: Verifier, reply: str, truth: str) -> bool:
    start = time.perf_counter()
    right = verifier.equal(reply, truth)
    found.longest_s = max(found.longest_s, time.perf_counter() - start)
    return right


def _score(found: Found, golds: Sequence[str], entries: Sequence[str]) -> None:
    """The library's own scores, of replies that are harmless."""
    # The pool's own entries: some tasks would make other questions here.
    parsed = [ast.literal_eval(entry) for entry in entries]
    kept = [
        {"question": question, "answer": answer, "metadata": metadata}
        for answer, (_, _, question, metadata) in zip(golds, parsed, strict=True)
    ]
    dataset = create_dataset(found.task, **parsed[0][1])  # all have the same options
    blanks = [_raw(dataset, blank, entry) for blank in ("", None) for entry in kept]
    sentences = [
        _raw(dataset, f"The answer is {answer}.", entry)
        for answer, entry in zip(golds, kept, strict=True)
    ]
    others = [*golds[1:], *golds[:1]]
    wrong = [_raw(dataset, other, entry) for other, entry in zip(others, kept, strict=True)]
    found.blank_score = max(blanks)
    found.sentence_score = (min(sentences), max(sentences))
    found.near_score = max((score for score in wrong if score < 1), default=0.0)


def _raw(dataset: Any, reply: str | None, entry: dict[str, Any]) -> float:
    try:
        return float(dataset.score_answer(reply, entry))
    except Exception:  # scorers raise errors of many kinds at an unreadable reply
        return 0.0


def _digest(task: str) -> str:
    asked = [sys.executable, "-c", _DIGEST, task, str(QUESTIONS), str(SEED)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    environment.pop("PYTHONHASHSEED", None)
    done = subprocess.run(asked, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return done.stdout


def line(found: Found) -> str:
    if found.refused:
        return f"| {found.task} | refused: {found.refused.split('. ')[0]} | | | | | | | |"
    low, high = found.sentence_score
    inside = f"{high:.2f}" if high - low < 0.005 else f"{low:.2f} to {high:.2f}"
    return (
        f"| {found.task} | {found.stored} of {found.num} | {found.wrong} of {found.num_wrong} "
        f"| {', '.join(found.hostile) or 'none'} | {found.longest_s:.2f} "
        f"| {found.blank_score:.2f} | {inside} | {found.near_score:.2f} "
        f"| {'yes' if found.repeats else 'no'} |"
    )


def page(results: Sequence[Found]) -> str:
    used = [found for found in results if not found.refused]
    lists = {
        "Refused, because no answer is stored": [f.task for f in results if f.refused],
        "The library makes other questions in another process": [
            f.task for f in results if not f.repeats
        ],
        "A blank reply has a score above 0": [f.task for f in used if f.blank_score > 0],
        "The answer inside a sentence has the score 1": [
            f.task for f in used if f.sentence_score[1] >= 1
        ],
        "The answer inside a sentence has a score between 0 and 1": [
            f.task for f in used if 0 < f.sentence_score[1] < 1
        ],
        "A wrong answer has a score of 0.9 or more, and less than 1": [
            f.task for f in used if f.near_score >= 0.9
        ],
        "Questions were left out (no reply could be read as the answer, or repeated)": [
            f"{f.task} ({f.left_out})" for f in used if f.left_out
        ],
        "A reply used up its time": [f.task for f in used if f.slow],
    }
    exceptions = "".join(
        f"| {what} | {', '.join(tasks) or 'none'} |\n" for what, tasks in lists.items()
    )
    known = "".join(
        f"* {f.task}: {EXCEPTIONS.get(f.task, 'NOT EXPLAINED')}.\n"
        for f in results
        if not f.is_as_it_should_be
    )
    return (
        "# Scorers of reasoning-gym\n\n"
        f"Made by `python bench/gym_scorers.py` with reasoning-gym {version('reasoning-gym')}: "
        f"{len(results)} tasks,\n{QUESTIONS} questions of each with seed {SEED} and the task's "
        f"default options. [The page on reasoning-gym](../reasoning-gym.md) says\nhow they are "
        f"used.\n\n"
        f"Of {len(used)} tasks that have answers, {sum(f.is_as_it_should_be for f in used)} are as "
        f"they should be: every stored answer is right, no answer of\nanother question is right, "
        f"and no hostile text is right. A reply has {LIMIT_S:.0f} s of processor time. Then the "
        f"kernel\nends it, and it is wrong.\n\n{known}\n"
        f"## Exceptions\n\n| what | tasks |\n|---|---|\n{exceptions}\n"
        "## Every task\n\n"
        "The first four columns are verdicts through the verifier `reasoning-gym`, with its "
        "guards. Seconds are by the clock,\n"
        "on a machine with other work. The others are the library's own scores: the highest of a "
        "blank reply; the scores of the\n"
        "stored answer inside a sentence; the highest below 1 of another question's answer; and "
        "whether two processes make the\n"
        "same questions.\n\n"
        "| task | stored answers right | wrong ones right | hostile texts right | longest, s "
        "| blank | in a sentence | nearly | same again |\n|---|---|---|---|---|---|---|---|---|\n"
        + "".join(f"{line(found)}\n" for found in results)
        + f"\nHostile texts: {', '.join(HOSTILE)}, and once per task a tower of powers.\n"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("tasks", nargs="*")
    chosen = parser.parse_args().tasks
    results = []
    with Verifier("reasoning-gym", LIMIT_S) as verifier:
        for task in chosen or sorted(set(DATASETS) - {"composite"}):
            results.append(examine(task, verifier))
            print(line(results[-1]), flush=True)
    if not chosen:
        PAGE.write_text(page(results), encoding="utf-8")
    return int(any(not f.is_as_it_should_be and f.task not in EXCEPTIONS for f in results))


if __name__ == "__main__":
    sys.exit(main())

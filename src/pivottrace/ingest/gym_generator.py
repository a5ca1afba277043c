"""The process that makes questions of reasoning-gym, run as a script by `ingest.gym_source`.

It reads one JSON line, `{"tasks": [{"task", "size", "seed", "options"}], "limit"}`. It writes JSON
lines: `{"version", "total"}`, then one row per question, or `{"error"}` as the last line.

Why a process: some tasks run code that comes with them, print to stdout, or read the order of a
set. Here Python's hashes are fixed (`PYTHONHASHSEED=0`), and the generators of Python and numpy are
seeded per question. So the same questions come each time. It is run by its path, because the folder
that it lies in takes a second to import.
"""

from __future__ import annotations

import ast
import difflib
import enum
import json
import os
import random
import sys
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from importlib.metadata import version
from typing import Any, TextIO

import numpy as np
from pydantic import TypeAdapter, ValidationError
from reasoning_gym.factory import DATASETS, create_dataset

from pivottrace.errors import first_line

Task = Mapping[str, Any]
"""`task`, `size` (None is the task's own), `seed`, and `options`: name → text, or TOML's value."""

_COMPOSITE = "composite"
_OWN_OPTIONS = ("seed", "size")
# The tasks raise these for settings that they refuse, and for questions that they fail to make.
_REFUSALS = (AssertionError, ValueError, TypeError, LookupError, ArithmeticError)


class Refused(Exception):
    """The message for the user."""


def main() -> None:
    """Make the questions that stdin asks for."""
    asked = json.loads(sys.stdin.readline())
    replies = _claim_stdout()
    try:
        _make(asked["tasks"], asked["limit"], replies)
    except Refused as refused:
        _send(replies, {"error": str(refused)})


def _make(tasks: Sequence[Task], limit: int | None, replies: TextIO) -> None:
    # All tasks are opened first, so that a wrong one is refused before anything is made.
    opened = [(task, _open(task)) for task in tasks]
    total = sum(len(dataset) for _, (dataset, _) in opened)
    total = total if limit is None else min(total, limit)
    _send(replies, {"version": version("reasoning-gym"), "total": total})
    rows = (row for task, (dataset, options) in opened for row in questions(task, dataset, options))
    for _, row in zip(range(total), rows, strict=False):
        _send(replies, row)


def _open(task: Task) -> tuple[Any, dict[str, Any]]:
    """The dataset of a task, and the options that it has beside size and seed.

    Raises:
        Refused: There is no such task or option, or the task refuses a value.
    """
    name = task["task"]
    if name == _COMPOSITE:
        raise Refused(f"{name} mixes tasks: write a TOML file with [[task]] for each of them")
    known = [each for each in DATASETS if each != _COMPOSITE]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
        raise Refused(f"reasoning-gym has no task {name!r}; the nearest is {near}")
    options = _options(name, task["options"])
    size = {} if task["size"] is None else {"size": task["size"]}
    try:
        return create_dataset(name, seed=task["seed"], **size, **options), options
    except _REFUSALS as error:
        raise Refused(f"{name} refuses these options: {first_line(error)}") from None


def _options(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options as their types, which the task's configuration declares."""
    config = DATASETS[name][1]
    types = typing.get_type_hints(config)
    known = [field.name for field in fields(config) if field.name not in _OWN_OPTIONS]
    found = {}
    for option, value in given.items():
        if option not in known:
            raise Refused(
                f"{name} has no option {option!r}; there are size, seed, {', '.join(known)}"
            )
        found[option] = _typed(f"{name}: {option}", value, types[option])
    return found


def _typed(what: str, value: Any, kind: Any) -> Any:
    """A value as its type; a text of a list has commas between its members."""
    is_list = (typing.get_origin(kind) or kind) in (list, tuple, Sequence)
    members = value.split(",") if is_list and isinstance(value, str) else value
    try:
        typed = plain(TypeAdapter(kind).validate_python(members))
    except ValidationError as error:
        raise Refused(f"{what} = {value!r}: {error.errors()[0]['msg']}") from None
    if not _is_literal(typed):
        raise Refused(
            f"{what} cannot be set here: only numbers, texts, true or false, and lists of them can"
        )
    return typed


def questions(task: Task, dataset: Any, options: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield one row per question: `id`, `prompt`, `answer`, `task`, `difficulty`, `entry`.

    `entry` is what the task's scorer needs, as `verifier.gym_scorer.judge` reads it.

    Raises:
        Refused: A question cannot be made, or has no answer.
    """
    name, seed = task["task"], task["seed"]
    for index in range(len(dataset)):
        # The task's own generator is seeded by seed + index, so these are too.
        random.seed(seed + index)
        np.random.seed((seed + index) % 2**32)
        try:
            item = dataset[index]
        except _REFUSALS as error:
            raise Refused(f"{name}: question {index} failed: {first_line(error)}") from None
        if item["answer"] is None:
            raise Refused(
                f"{name} stores no answers, so its questions cannot be labelled. Take another task"
            )
        metadata = plain(item["metadata"])
        if not _is_literal(metadata):
            raise Refused(f"{name}: question {index} has metadata that cannot be stored")
        yield {
            "id": f"{name}-{seed}-{index}",
            "prompt": item["question"],
            "answer": str(item["answer"]),
            "task": name,
            "difficulty": metadata.get("difficulty"),
            "entry": repr((name, dict(options), item["question"], metadata)),
        }


def plain(value: Any) -> Any:
    """A value of Python's own types, so that its `repr` is a literal."""
    if isinstance(value, (np.generic, np.ndarray)):
        return plain(value.tolist())
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if isinstance(value, dict):
        return {plain(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple, set)):
        return type(value)(plain(each) for each in value)
    return value


def _is_literal(value: Any) -> bool:
    try:
        return bool(ast.literal_eval(repr(value)) == value)
    except (ValueError, SyntaxError):
        return False


def _claim_stdout() -> TextIO:
    """Keep the pipe for the rows, because some tasks print."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return replies


def _send(replies: TextIO, message: Mapping[str, Any]) -> None:
    replies.write(json.dumps(message) + "\n")
    replies.flush()


if __name__ == "__main__":
    main()

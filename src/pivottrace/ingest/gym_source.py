"""Questions of reasoning-gym: `reasoning-gym:TASK?size=N&seed=S&OPTION=VALUE`, or a TOML file.

A file has several tasks:

    [[task]]
    name = "chain_sum"
    size = 100
    seed = 1
    min_terms = 2
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pivottrace.errors import ConfigError, DataError, counted
from pivottrace.ingest.rows import Row, Source
from pivottrace.plugins import require
from pivottrace.run.progress import progress
from pivottrace.verifier.answers import extract_answer
from pivottrace.verifier.exact_text import MAX_ANSWER_CHARS
from pivottrace.verifier.gym_names import GYM_PREFIX, GYM_SUFFIX

COLUMNS = ("id", "prompt", "answer", "task", "difficulty", "entry")
VERBATIM = r"(?s)<answer>\s*(.*?)\s*</answer>"
"""A value of `answers.pattern` that takes an answer as it is written, over lines and sentences."""
MOST = 2**32 - 1  # numpy's generator takes no larger seed

Task = dict[str, Any]
"""As `gym_generator.Task`."""


@dataclass(frozen=True)
class Made:
    """The questions that one process made.

    Attributes:
        version: The version of reasoning-gym.
        rows: With the columns `COLUMNS`, task by task.
        num_unreadable: Task → questions left out, because no reply could be read as their answer.
    """

    version: str
    rows: list[dict[str, Any]]
    num_unreadable: dict[str, int]


def open_gym(name: str, base: str, options: Mapping[str, str], limit: int | None) -> Source:
    """Open one task, or the tasks of a TOML file. The questions are made now.

    `task` and `difficulty` are extra, and so is `entry`, what the task's scorer needs.

    Args:
        name: The source string.
        base: It without its options.
        options: `size` (by default the task's own), `seed` (0), and the task's own options.
        limit: Number of questions that are made; None means all.

    Raises:
        ConfigError: The package is missing, or a task, an option or a value is wrong.
        DataError: The file cannot be read, or no question is left.
    """
    require("reasoning_gym", "gym", f"{name}:")
    if base.endswith(GYM_SUFFIX) and options:
        raise ConfigError(
            f"{name}: {next(iter(options))!r} is not an option of a file of tasks. Write it under "
            f"each [[task]] of the file"
        )
    if base.endswith(GYM_SUFFIX):
        tasks = _tasks_of(name, Path(base).expanduser())
    else:
        tasks = [_task(name, {"name": base.removeprefix(GYM_PREFIX), **options})]
    made = _make(name, json.dumps({"tasks": tasks, "limit": limit}))
    if not made.rows:
        raise DataError(
            f"{name}: no reply could be read as the answer of any of its questions: each has over "
            f"{MAX_ANSWER_CHARS:,} characters or none. Take another task, or options that make "
            f"them shorter"
        )

    def rows() -> Iterator[Row]:
        yield from enumerate(made.rows, 1)

    return Source(
        name, COLUMNS, rows, fixed_columns=True, as_written=True, notes=tuple(_notes(name, made))
    )


def _notes(name: str, made: Made) -> Iterator[str]:
    yield (
        f"{name}: made by reasoning-gym {made.version}; another version may make other questions "
        f"of the same seed"
    )
    for task, number in made.num_unreadable.items():
        yield (
            f"{name}: left out {counted(number, 'question')} of {task}: no reply could be read as "
            f"their answer, which is blank, says that there is none, or has over "
            f"{MAX_ANSWER_CHARS:,} characters"
        )


def _tasks_of(name: str, path: Path) -> list[Task]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(
            f"{name}: no such file. Check the path (it is relative to where you are)"
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"{name}: cannot be read as TOML ({error}). Correct it") from None
    tasks = content.get("task")
    if content.keys() != {"task"} or not isinstance(tasks, list) or not tasks:
        raise ConfigError(
            f"{name}: holds {', '.join(content) or 'nothing'}, and a file of questions holds the "
            f'tasks of reasoning-gym: write [[task]] and name = "chain_sum" for each'
        )
    return [_task(f"{name}: task {number}", task) for number, task in enumerate(tasks, 1)]


def _task(name: str, given: Any) -> Task:
    if not isinstance(given, dict) or not isinstance(given.get("name"), str):
        raise ConfigError(f'{name}: has no name. Write name = "chain_sum" there')
    options = dict(given)
    task, size, seed = options.pop("name"), options.pop("size", None), options.pop("seed", 0)
    for option, value in options.items():
        if not isinstance(value, (str, int, float, list)):
            raise ConfigError(
                f"{name}: {option} = {value!r} cannot be set: only numbers, texts, true or false, "
                f"and lists of them can"
            )
    return {
        "task": task,
        "size": None if size is None else _whole_number(name, "size", size, 1),
        "seed": _whole_number(name, "seed", seed, 0),
        "options": options,
    }


def _whole_number(name: str, option: str, value: Any, least: int) -> int:
    text = "" if isinstance(value, bool) else str(value)
    if not (text.isascii() and text.isdecimal()) or not least <= int(text) <= MOST:
        raise ConfigError(f"{name}: {option} = {value!r} must be a whole number, {least} to {MOST}")
    return int(text)


def _make(name: str, asked: str) -> Made:
    """Run the generator."""
    script = Path(__file__).with_name("gym_generator.py")
    path = os.pathsep.join(entry for entry in sys.path if entry)
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
        process = subprocess.Popen(
            [sys.executable, "-P", str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "0"},
        )
        with process:
            try:
                return _received(name, process, asked)
            except (EOFError, BrokenPipeError):
                process.wait()
                said.seek(0)
                lines = said.read().strip().splitlines() or ["no message"]
                raise DataError(
                    f"{name}: reasoning-gym ended with code {process.returncode} ({lines[-1]}). "
                    f"Take another task or seed, or report it there"
                ) from None
            finally:
                process.kill()


def _received(name: str, process: subprocess.Popen[str], asked: str) -> Made:
    """Take the rows, and leave out those whose answer no reply could give.

    Raises:
        ConfigError: The generator refuses what was asked.
        EOFError: It ended early.
    """
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(asked + "\n")
    process.stdin.flush()
    messages = map(json.loads, process.stdout)
    begun = _next(name, messages)
    rows: list[dict[str, Any]] = []
    unreadable: Counter[str] = Counter()
    with progress("make", begun["total"]) as update:
        for done in range(begun["total"]):
            row = _next(name, messages)
            if extract_answer(as_reply(row["answer"]), VERBATIM) is None:
                unreadable[row["task"]] += 1
            else:
                rows.append(row)
            update(done + 1)
    return Made(begun["version"], rows, dict(unreadable))


def _next(name: str, messages: Iterator[dict[str, Any]]) -> dict[str, Any]:
    message = next(messages, None)
    if message is None:
        raise EOFError
    if "error" in message:
        raise ConfigError(f"{name}: {message['error']}")
    return message


def as_reply(answer: str) -> str:
    """A reply that has nothing but an answer."""
    return f"<answer>{answer}</answer>"

"""The choice of a source's columns for prompt, answer, id and tolerance."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import islice
from typing import Any

from pivottrace.errors import ConfigError, DataError
from pivottrace.ingest.rows import Row
from pivottrace.ingest.values import is_missing

# Names are tried in this order, without case, spaces, underscores and hyphens. The first column
# with a value in some row is taken. A solution is a derivation more often than an answer, so every
# name of an answer comes before it; `label` and `target` are also classes of questions.
DEFAULT_NAMES: dict[str, tuple[str, ...]] = {
    "prompt": (
        "prompt",
        "question",
        "problem",
        "instruction",
        "query",
        "input",
        "content",
        "messages",
        "conversations",
    ),
    "answer": (
        "answer",
        "final_answer",
        "expected_answer",
        "ground_truth",
        "correct_answer",
        "reference_answer",
        "gold_answer",
        "gold",
        "gt",
        "answer_key",
        "correct",
        "solution",
        "label",
        "target",
    ),
    "id": ("id", "question_id", "uid", "index"),
    "tolerance": (),
}
# A table with these columns is in verl's format:
# https://verl.readthedocs.io/en/latest/preparation/prepare_data.html
VERL_COLUMNS = {"data_source", "prompt", "reward_model"}

_PUNCTUATION = re.compile(r"[\s_-]+")

Path = tuple[str, ...]
"""A column, or the path to a nested one: ("reward_model", "ground_truth")."""


@dataclass(frozen=True)
class Columns:
    """The columns of a row's fields.

    Attributes:
        prompt: Column of the question; empty if a template makes it.
        answer: Column of its true answer; None if the source has no answers.
        id: Columns whose values are joined by "-"; empty if ids are made from the prompt.
        id_optional: Whether the last part of the id may be missing in every row.
        id_mapped: Whether the user named the column of ids, so that it must be complete.
        prompt_mapped: Whether the user named the column of the question.
        tolerance: Column of the answer's relative tolerance; None if no column has it.
    """

    prompt: Path
    answer: Path | None
    id: tuple[Path, ...]
    id_optional: bool = False
    id_mapped: bool = False
    prompt_mapped: bool = False
    tolerance: Path | None = None

    @property
    def used(self) -> set[Path]:
        """Paths that become fields of the question table and are not repeated in `extra`."""
        paths = {path for path in (self.prompt, self.answer, self.tolerance) if path}
        return paths | (set(self.id) if len(self.id) == 1 else set())


def choose_columns(
    source_name: str,
    available: Sequence[str],
    column_map: Mapping[str, str],
    rows: Callable[[], Iterator[Row]],
    *,
    from_template: bool = False,
) -> Columns:
    """Decide which columns are prompt, answer, id and tolerance.

    A table with `data_source`, `prompt` and `reward_model` is in verl's format. Its answer is
    `reward_model.ground_truth`. Its id is `data_source` and, if given, `extra_info.index`. For any
    other table, the first of `DEFAULT_NAMES` that has a value in some row is taken. `column_map`
    overrides both. A dot reaches into a nested column, and an empty name means that there is no
    such column (with `id=`, ids are made from the prompt).

    Args:
        source_name: The source, for messages.
        available: Its columns.
        column_map: Field → column.
        rows: Starts a pass over the rows. The pass ends at the first row that decides.
        from_template: Whether a template makes the prompt, so that no column is looked for.

    Raises:
        ConfigError: The map has a key that is no field, or an empty prompt.
        DataError: A mapped column does not exist, or no column is a prompt. The message lists the
            columns and names the nearest one.
    """
    for key in column_map:
        if key not in DEFAULT_NAMES:
            raise ConfigError(
                f"map: {key!r} is not a field; map {', '.join(DEFAULT_NAMES)}, as in "
                "prompt=question"
            )
    chosen: dict[str, str] = {}
    for key, names in DEFAULT_NAMES.items():
        column = column_map.get(key)
        if column is None:
            column = _guess(key, _named(names, available), rows)
        elif column and column not in available and column.partition(".")[0] not in available:
            raise DataError(
                f"{source_name}: there is no column {column!r} to be the {key}. "
                + what_there_is(available, column)
            )
        chosen[key] = column
    if from_template:
        chosen["prompt"] = ""
    elif not chosen["prompt"]:
        nested = _nested_names(rows)
        raise DataError(
            f"{source_name}: no column is the prompt (looked for "
            f"{', '.join(DEFAULT_NAMES['prompt'])}). "
            + what_there_is(available)
            + f" Name it, as in {nested or map_flag('prompt', _longest(rows, available))}"
        )
    paths = {key: path_of(column, available) for key, column in chosen.items()}
    columns = Columns(
        prompt=paths["prompt"],
        answer=paths["answer"] or None,
        id=(paths["id"],) if paths["id"] else (),
        id_mapped="id" in column_map,
        prompt_mapped="prompt" in column_map,
        tolerance=paths["tolerance"] or None,
    )
    return _as_verl(columns, column_map) if set(available) >= VERL_COLUMNS else columns


def plain(name: str) -> str:
    """Return a name without case, spaces, underscores and hyphens.

    "Correct Answer" and "correct_answer" both give "correctanswer".
    """
    return _PUNCTUATION.sub("", name).casefold()


def look_up(row: Mapping[str, Any], path: Path) -> Any:
    """Return the value at a path; None if any part of the path is missing."""
    value: Any = row
    for part in path:
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def without(row: Mapping[str, Any], paths: set[Path]) -> dict[str, Any]:
    """Return a copy of the row without the values at the paths."""
    left = dict(row)
    for path in paths:
        if len(path) == 1:
            left.pop(path[0], None)
        elif isinstance(left.get(path[0]), Mapping):
            left[path[0]] = without(left[path[0]], {path[1:]})
    return left


def _as_verl(columns: Columns, column_map: Mapping[str, str]) -> Columns:
    answer = columns.answer if "answer" in column_map else ("reward_model", "ground_truth")
    if columns.id_mapped:
        return replace(columns, answer=answer)
    ids = (("data_source",), ("extra_info", "index"))
    return replace(columns, answer=answer, id=ids, id_optional=True)


def _named(names: Sequence[str], available: Sequence[str]) -> list[str]:
    """Return the columns that have one of the names, in the order of the names."""
    # The exact spelling comes first: `answer` wins over `Answer`.
    written = {plain(name): name for name in reversed(available)}
    found = [name if name in available else written.get(plain(name)) for name in names]
    return [name for name in dict.fromkeys(found) if name is not None]


def _guess(key: str, candidates: list[str], rows: Callable[[], Iterator[Row]]) -> str:
    """Return the first candidate that has a value in some row; "" if there is no candidate."""
    if not candidates:
        return ""
    filled: set[str] = set()
    for _, row in rows():
        filled |= {name for name in candidates if _may_be(key, name, row.get(name))}
        if candidates[0] in filled:
            break
    possible = [name for name in candidates if name in filled]
    # A column without any value is still the answers' column if no other one is.
    return next(iter(possible or [name for name in candidates if plain(name) != "correct"]), "")


def _may_be(key: str, name: str, value: Any) -> bool:
    """Return whether a value speaks for a guessed column."""
    if isinstance(value, str):
        return bool(value.strip())
    if isinstance(value, bool):  # `correct` is often a verdict on somebody's response
        return key == "answer" and plain(name) != "correct"
    if isinstance(value, list):
        return bool(value)
    return isinstance(value, (int, float, Decimal)) and not is_missing(value)


def _nested_names(rows: Callable[[], Iterator[Row]]) -> str:
    """Return the flags that map a question inside an object of the first row; "" if none is."""
    for _, row in islice(rows(), 1):
        for column, value in row.items():
            inside = tuple(value) if isinstance(value, Mapping) else ()
            flags = [
                map_flag(key, f"{column}.{names[0]}")
                for key in ("prompt", "answer")
                if (names := _named(DEFAULT_NAMES[key], inside))
            ]
            if flags and "prompt=" in flags[0]:
                return " ".join(flags)
    return ""


def map_flag(key: str, column: str) -> str:
    """Return the flag that maps a field to a column, as a shell takes it."""
    return f"--map {shlex.quote(f'{key}={column}')}"


def path_of(column: str, available: Sequence[str]) -> Path:
    """Return the way to a column, or by dots into a nested one; empty for an empty name."""
    if not column:
        return ()
    return (column,) if column in available else tuple(column.split("."))


def _longest(rows: Callable[[], Iterator[Row]], available: Sequence[str]) -> str:
    """Return the column with the longest texts in the first rows: it may well be the question."""
    chars = dict.fromkeys(available, 0)
    for _, row in islice(rows(), 20):
        for column, value in row.items():
            if isinstance(value, str) and column in chars:
                chars[column] += len(value)
    longest = max(available, key=chars.__getitem__, default="COLUMN")
    return longest if chars.get(longest) else "COLUMN"


def what_there_is(available: Sequence[str], wanted: str = "") -> str:
    """Return a sentence that lists the columns and names the one nearest to the wanted one."""
    near = difflib.get_close_matches(wanted, available, n=1, cutoff=0.0 if wanted else 1.0)
    listed = ", ".join(available) or "none"
    return f"The columns are: {listed}." + (f" The nearest is {near[0]!r}." if near else "")

"""The choice of a source's columns for prompt, answer and id."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pivottrace.errors import ConfigError, DataError

# Names are tried in this order, in upper or lower case; the first one found in a source is taken.
DEFAULT_NAMES: dict[str, tuple[str, ...]] = {
    "prompt": ("prompt", "question", "problem", "instruction"),
    "answer": ("answer", "solution", "ground_truth", "label", "target"),
    "id": ("id", "question_id", "uid", "index"),
}
# A table with these columns is in verl's format:
# https://verl.readthedocs.io/en/latest/preparation/prepare_data.html
VERL_COLUMNS = {"data_source", "prompt", "reward_model"}

Path = tuple[str, ...]
"""A column, or the path to a nested one: ("reward_model", "ground_truth")."""


@dataclass(frozen=True)
class Columns:
    """The columns of a row's fields.

    Attributes:
        prompt: Column of the question.
        answer: Column of its true answer; None if the source has no answers.
        id: Columns whose values are joined by "-"; empty if ids are made from the prompt.
        id_optional: Whether the last part of the id may be missing; then it must be missing in
            every row.
    """

    prompt: Path
    answer: Path | None
    id: tuple[Path, ...]
    id_optional: bool = False

    @property
    def used(self) -> set[Path]:
        """Paths that become fields of the question table and are not repeated in `extra`."""
        paths = {self.prompt} | ({self.answer} if self.answer else set())
        return paths | (set(self.id) if len(self.id) == 1 else set())


def choose_columns(
    source_name: str, available: Sequence[str], column_map: Mapping[str, str]
) -> Columns:
    """Decide which columns are prompt, answer and id.

    A table with `data_source`, `prompt` and `reward_model` is in verl's format. Its answer is
    `reward_model.ground_truth`. Its id is `data_source` and, if given, `extra_info.index`. For any
    other table, the first of `DEFAULT_NAMES` that it has is taken, in upper or lower case.
    `column_map` overrides both. A dot reaches into a nested column, and an empty name means that
    there is no such column (with `id=`, ids are made from the prompt).

    Raises:
        ConfigError: The map has a key other than prompt, answer and id, or an empty prompt.
        DataError: A mapped column does not exist, or no column is a prompt. The message lists the
            columns and names the nearest one.
    """
    for key in column_map:
        if key not in DEFAULT_NAMES:
            raise ConfigError(
                f"map: {key!r} is not a field; map prompt, answer or id, as in prompt=question"
            )
    # The exact spelling comes first: `answer` wins over `Answer`.
    written = {name.strip().casefold(): name for name in reversed(available)}
    written |= {name: name for name in available}
    chosen = {
        key: next((written[name] for name in names if name in written), "")
        for key, names in DEFAULT_NAMES.items()
    }
    for key, column in column_map.items():
        if column and column not in available and column.partition(".")[0] not in available:
            raise DataError(
                f"{source_name}: there is no column {column!r} to be the {key}. "
                + _what_there_is(available, column)
            )
        chosen[key] = column
    if not chosen["prompt"]:
        raise DataError(
            f"{source_name}: no column is the prompt (looked for "
            f"{', '.join(DEFAULT_NAMES['prompt'])}). "
            + _what_there_is(available, "prompt")
            + " Name it, as in --map prompt=COLUMN"
        )
    paths = {key: _path(column, available) for key, column in chosen.items()}
    ids = (paths["id"],) if paths["id"] else ()
    columns = Columns(paths["prompt"], paths["answer"] or None, ids)
    return _as_verl(columns, column_map) if set(available) >= VERL_COLUMNS else columns


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
    if "id" in column_map:
        return Columns(columns.prompt, answer, columns.id)
    ids = (("data_source",), ("extra_info", "index"))
    return Columns(columns.prompt, answer, ids, id_optional=True)


def _path(column: str, available: Sequence[str]) -> Path:
    if not column:
        return ()
    return (column,) if column in available else tuple(column.split("."))


def _what_there_is(available: Sequence[str], wanted: str) -> str:
    near = difflib.get_close_matches(wanted, available, n=1, cutoff=0.0)
    listed = ", ".join(available) or "none"
    return f"The columns are: {listed}." + (f" The nearest is {near[0]!r}." if near else "")

"""Which column of a source is the prompt, the answer and the id."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pivottrace.errors import ConfigError, DataError

# Tried in this order, in any case; the first that a source has is taken.
DEFAULT_NAMES: dict[str, tuple[str, ...]] = {
    "prompt": ("prompt", "question", "problem", "instruction"),
    "answer": ("answer", "solution", "ground_truth", "label", "target"),
    "id": ("id", "question_id", "uid", "index"),
}
# What makes a table verl's: https://verl.readthedocs.io/en/latest/preparation/prepare_data.html
VERL_COLUMNS = {"data_source", "prompt", "reward_model"}

Path = tuple[str, ...]
"""A column, or the way into a nested one: ("reward_model", "ground_truth")."""


@dataclass(frozen=True)
class Columns:
    """Where a row's fields are.

    Attributes:
        prompt: The question.
        answer: Its true answer; None where the source has none.
        id: Parts joined by "-"; empty where ids are made from the prompt.
        id_optional: The last part of the id may be missing, if it is missing everywhere.
    """

    prompt: Path
    answer: Path | None
    id: tuple[Path, ...]
    id_optional: bool = False

    @property
    def used(self) -> set[Path]:
        """Paths that are fields of the question table and not repeated in `extra`."""
        paths = {self.prompt} | ({self.answer} if self.answer else set())
        return paths | (set(self.id) if len(self.id) == 1 else set())


def choose_columns(
    source_name: str, available: Sequence[str], column_map: Mapping[str, str]
) -> Columns:
    """Decide which columns are prompt, answer and id.

    A table with `data_source`, `prompt` and `reward_model` is verl's: its answer is
    `reward_model.ground_truth`, its id `data_source` and `extra_info.index` where that is given.
    Any other takes the first of `DEFAULT_NAMES` that it has, in any case. `column_map` wins over
    both; a dot reaches into a nested column, and an empty name says that there is none (`id=` gives
    ids made from the prompt).

    Raises:
        ConfigError: The map has a key other than prompt, answer and id, or an empty prompt.
        DataError: A mapped column is not there, or no column is a prompt; the message lists the
            columns and names the nearest.
    """
    for key in column_map:
        if key not in DEFAULT_NAMES:
            raise ConfigError(
                f"map: {key!r} is not a field; map prompt, answer or id, as in prompt=question"
            )
    # Their own spelling first: of `answer` and `Answer` the former.
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
    """The value at a path; None where any part of the way is missing."""
    value: Any = row
    for part in path:
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def without(row: Mapping[str, Any], paths: set[Path]) -> dict[str, Any]:
    """A copy of the row without the values at the paths."""
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

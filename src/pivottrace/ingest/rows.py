"""A uniform view of rows, whatever the format of the source that they come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

Row = tuple[int, dict[str, Any]]
"""(number for messages, counted from 1; column → value)."""


def each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of its entries, for `json.loads`, which itself keeps the last of two.

    Raises:
        ValueError: A key occurs twice.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} occurs twice in one object")
    return found


@dataclass(frozen=True)
class Source:
    """An opened source.

    Attributes:
        name: The text of the user, for messages and the `source` column.
        columns: Every column that occurs in any row that is read.
        rows: Starts a fresh pass over the rows; nothing is skipped but blank lines of a JSONL file.
        unit: The unit of a row's number, "row" or "line".
        column_map: The source string's own column options.
        fixed_columns: The columns have known meanings, so that a column map does not apply.
        as_written: Answers are whole texts, in which no final answer is looked for.
        semicolons: Whether semicolons separate the columns. Spreadsheets write them where the
            comma is the decimal sign.
        revision: The commit of the Hub that the rows are of; None if that is not known.
        notes: Decisions that opening it took, one sentence each.
    """

    name: str
    columns: tuple[str, ...]
    rows: Callable[[], Iterator[Row]]
    unit: str = "row"
    column_map: dict[str, str] = field(default_factory=dict)
    fixed_columns: bool = False
    as_written: bool = False
    semicolons: bool = False
    revision: str | None = None
    notes: tuple[str, ...] = ()

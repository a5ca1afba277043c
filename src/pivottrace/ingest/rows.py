"""A uniform view of rows, whatever the format of the source that they come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

Row = tuple[int, dict[str, Any]]
"""(number for messages, counted from 1; column → value)."""


@dataclass(frozen=True)
class Source:
    """An opened source.

    Attributes:
        name: what the user wrote, for messages and the `source` column.
        columns: every column that occurs in any row that is read.
        rows: starts a fresh pass over the rows; nothing is skipped but blank lines of a JSONL file.
        unit: what a row's number counts, "row" or "line".
        column_map: the source string's own column options.
        fixed_columns: the columns have known meanings, so that a column map does not apply.
    """

    name: str
    columns: tuple[str, ...]
    rows: Callable[[], Iterator[Row]]
    unit: str = "row"
    column_map: dict[str, str] = field(default_factory=dict)
    fixed_columns: bool = False

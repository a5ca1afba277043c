"""Repeated questions: one is kept if their golds agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import pyarrow as pa

from pivottrace.verifier.gold import first_that_differs

if TYPE_CHECKING:
    import polars as pl

OnDuplicate = Literal["keep_first", "drop_disagreeing", "refuse"]
"""The treatment of a question that occurs again."""


@dataclass(frozen=True)
class Repeats:
    """The repeated questions of a table with Q rows.

    Attributes:
        kept: (K,) rows to keep, in order; None if no question is repeated.
        golds: Row → gold, where the kept row has none and a repeat of it has one.
        first: (earlier row, later row) of the first repeat, whether its golds agree or not.
        first_left_out: The same of the first repeat that is left out because its golds agree.
        num_left_out: Rows that repeat an earlier one, and are left out.
        disagreeing: (earlier row, later row) with golds that differ, one pair per question.
        num_disagreeing_rows: Rows of these questions.
    """

    kept: list[int] | None = None
    golds: dict[int, str] | None = None
    first: tuple[int, int] | None = None
    first_left_out: tuple[int, int] | None = None
    num_left_out: int = 0
    disagreeing: tuple[tuple[int, int], ...] = ()
    num_disagreeing_rows: int = 0


def find_repeats(
    digests: pa.ChunkedArray, golds: pa.ChunkedArray, equal: Callable[[str, str], bool]
) -> Repeats:
    """Find equal questions, and whether their golds agree.

    Golds agree if every two given ones do. A missing gold agrees with any. Time is linear in the
    rows; only different golds of one question are compared.

    Args:
        digests: (Q,) equal for equal questions.
        golds: (Q,) golds; null where unknown.
        equal: Whether (answer, gold) are the same.
    """
    import polars as pl

    frame = pl.DataFrame({"digest": pl.from_arrow(digests), "gold": pl.from_arrow(golds)})
    frame = frame.with_row_index("row").filter(pl.col("digest").is_duplicated())
    if frame.is_empty():
        return Repeats()
    disagreeing: list[tuple[int, int]] = []
    left_out: set[int] = set()
    found: dict[int, str] = {}
    num_disagreeing_rows = 0
    pairs, agreeing = [], []
    for rows, given in _groups(frame):
        pairs.append((rows[0], rows[1]))
        known = [(row, gold) for row, gold in zip(rows, given, strict=True) if gold is not None]
        clash = _first_clash(known, equal)
        if clash is not None:
            disagreeing.append(clash)
            num_disagreeing_rows += len(rows)
            left_out.update(rows)
            continue
        left_out.update(rows[1:])
        agreeing.append((rows[0], rows[1]))
        if known and given[0] is None:
            found[rows[0]] = known[0][1]
    return Repeats(
        kept=[row for row in range(len(digests)) if row not in left_out],
        golds=found,
        first=min(pairs, key=lambda pair: pair[1]),
        first_left_out=min(agreeing, key=lambda pair: pair[1], default=None),
        num_left_out=len(left_out) - num_disagreeing_rows,
        disagreeing=tuple(sorted(disagreeing, key=lambda pair: pair[1])),
        num_disagreeing_rows=num_disagreeing_rows,
    )


def first_repeat(values: pa.ChunkedArray) -> tuple[int, int] | None:
    """Return indices (earlier, later) of the first repeated value; None if all values differ."""
    import polars as pl

    # The later index is the first value that is not a first occurrence.
    series = pl.Series(values=pl.from_arrow(values), name="value")
    repeats = (~series.is_first_distinct()).arg_true()
    if repeats.is_empty():
        return None
    later = int(repeats[0])
    earlier = int((series == series[later]).arg_true()[0])
    return earlier, later


def _groups(frame: pl.DataFrame) -> list[tuple[list[int], list[str | None]]]:
    """Return the rows and golds of each question, in the order of its first row."""
    grouped = frame.group_by("digest", maintain_order=True).agg("row", "gold")
    return list(zip(grouped["row"].to_list(), grouped["gold"].to_list(), strict=True))


def _first_clash(
    known: Sequence[tuple[int, str]], equal: Callable[[str, str], bool]
) -> tuple[int, int] | None:
    """Return (row, row) of two golds that differ; None if every two agree."""
    rows: dict[str, int] = {}
    for row, gold in known:
        if gold in rows:
            continue
        if (other := first_that_differs(gold, rows, equal)) is not None:
            return rows[other], row
        rows[gold] = row
    return None

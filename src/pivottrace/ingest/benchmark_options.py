"""Options of a benchmark's question, in an order that the question's id decides."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from string import ascii_uppercase
from typing import Any, NamedTuple

from pivottrace.errors import DataError
from pivottrace.ingest.benchmark_table import Benchmark
from pivottrace.ingest.columns import look_up, path_of
from pivottrace.ingest.options import read_options
from pivottrace.ingest.question_template import is_empty
from pivottrace.ingest.values import to_id

# "All of the above", "Both A and C", "I and II only": an option that speaks of others by their
# place or letter is right in its own order only.
_SPEAKS_OF_OTHERS = re.compile(
    r"\b(?:above|below|preceding|previous|following|other (?:options?|choices?|answers?))\b"
    r"|\b[A-J1-5]\)?\s*(?:,|and|or|&)\s*\(?[A-J1-5]\b",
)


class Lettered(NamedTuple):
    """Options in the order in which they are asked.

    Attributes:
        text: One line for each: "A) 20".
        letters: Their letters in a row: "ABCD".
        gold: The letter of the right one.
    """

    text: str
    letters: str
    gold: str


def lettered(benchmark: Benchmark, row: Mapping[str, Any], question_id: str) -> Lettered:
    """Return the options of a row, permuted by the question's id.

    The order is that of a hash of id and place, so every process and machine finds the same one.
    Options that speak of others keep the order of the source, if the source has one.

    Raises:
        DataError: An option is missing, or the right answer names none; the message begins with
            the column.
    """
    if benchmark.wrong:
        contents, right = _from_columns(benchmark, row)
    else:
        contents, right = _from_list(benchmark, row)
    order = list(range(len(contents)))
    if benchmark.wrong or not any(map(_SPEAKS_OF_OTHERS.search, contents)):
        order.sort(key=lambda place: hashlib.sha256(f"{question_id}/{place}".encode()).digest())
    letters = ascii_uppercase[: len(order)]
    lines = (f"{letter}) {contents[place]}" for letter, place in zip(letters, order, strict=True))
    return Lettered("\n".join(lines), letters, letters[order.index(right)])


def _from_columns(benchmark: Benchmark, row: Mapping[str, Any]) -> tuple[list[str], int]:
    contents = []
    for column in (benchmark.answer, *benchmark.wrong):
        if is_empty(row.get(column)):
            raise DataError(f"column {column!r}: is missing. Every question needs all its options")
        contents.append(to_id(row[column]).strip())
    return contents, 0


def _from_list(benchmark: Benchmark, row: Mapping[str, Any]) -> tuple[list[str], int]:
    assert benchmark.options is not None
    options = read_options(look_up(row, path_of(benchmark.options, tuple(row))))
    if options is None or not options.contents:
        raise DataError(f"column {benchmark.options!r}: is no list of options")
    gold = row.get(benchmark.answer)
    place = None if is_empty(gold) else options.by_label(str(gold))
    if place is None:
        raise DataError(
            f"column {benchmark.answer!r}: {gold!r} names none of its options "
            f"({', '.join(options.labels)})"
        )
    return [content.strip() for content in options.contents], place

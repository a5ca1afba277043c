"""Golds: the true answers of a source, each one text, and the cells that are none."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any, NamedTuple

from pivottrace.errors import DataError
from pivottrace.ingest.columns import Path, plain
from pivottrace.ingest.options import Options
from pivottrace.ingest.values import is_missing, kind_of, number_text, to_answer, valid_text
from pivottrace.verifier.decimal_signs import without_decimal_comma
from pivottrace.verifier.gold import Gold, read_gold
from pivottrace.verifier.truths import write_truth

MOST_UNREADABLE = 0.05
"""Largest share of given golds that may be unreadable; more of them mean a wrong column. Ours."""


def read_cell(value: Any, pattern: str | None, decimal_comma: bool = False) -> Gold:
    """Read the value of an answer column.

    A number gives its shortest text. A list holds alternatives, and any of them is right: they
    are joined by `truths.ALTERNATIVES`, each one once. A missing or blank value is no gold and no
    problem.

    Args:
        value: The value.
        pattern: The user's `answers.pattern`.
        decimal_comma: Whether "3,5" means 3.5, and "3.500" means 3500.

    Raises:
        DataError: The value is an object, or a list with another list, an object or true or false.
    """
    if isinstance(value, list):
        return _read_alternatives(value, pattern, decimal_comma)
    if is_missing(value) or (isinstance(value, str) and not value.strip()):
        return Gold(None, None)
    if not isinstance(value, str):
        return Gold(to_answer(value), None)
    if decimal_comma:
        value = without_decimal_comma(value)
    return read_gold(valid_text(value), pattern)


def _read_alternatives(values: list[Any], pattern: str | None, decimal_comma: bool) -> Gold:
    for value in values:
        if isinstance(value, (bool, list, dict)) and len(values) > 1:
            raise DataError(
                f"is a list that holds {kind_of(value)}, but alternative answers are texts or "
                "numbers. Map answer to another column, or write them as texts"
            )
    golds = [read_cell(value, pattern, decimal_comma) for value in values]
    answers = dict.fromkeys(gold.answer for gold in golds if gold.answer is not None)
    if not answers:
        return next((gold for gold in golds if gold.problem), Gold(None, None))
    return Gold(write_truth(list(answers)), None)


def with_tolerance(gold: str | None, value: Any) -> str | None:
    """Return a gold with its own relative tolerance, as a suffix " [tolerance 0.01]".

    Raises:
        DataError: The tolerance is not a number above 0.
    """
    if is_missing(value) or value == "" or (isinstance(value, str) and value.isspace()):
        return gold
    try:
        number = math.nan if isinstance(value, (bool, list, dict)) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise DataError(
            f"is {value!r}, but a tolerance is a number above 0, such as 0.01 for one per cent. "
            "Correct it, or leave it empty"
        )
    return None if gold is None else write_truth([gold], number_text(number))


class Choice(NamedTuple):
    """The option that a gold may name, in three readings; each an index from 0, or None."""

    label: int | None
    content: int | None
    number: int | None
    num_options: int


def choice_of(gold: str, options: Options) -> Choice:
    """Return the option that a gold names as a label, as its content, and as a number."""
    number = int(gold) if re.fullmatch(r"\d{1,3}", gold) else None
    labels = options.labels
    return Choice(options.by_label(gold), options.by_content(gold), number, len(labels))


@dataclass(frozen=True)
class Letters:
    """Golds of a column as letters of their options.

    Attributes:
        letters: (Q,) letters; null where the gold names no option.
        reading: How the column was read, in words.
    """

    letters: list[str | None]
    reading: str


def as_letters(choices: Sequence[Choice], answer: Path) -> Letters:
    """Decide what the golds of multiple-choice questions are, from all of them together.

    The reading that explains most golds is taken; of several, the first in this order: labels,
    contents, indices, labels or contents. Indices come before contents in a column whose name is an
    index or a label. They are counted from 1 if none is 0 and one is the number of its options, and
    else from 0, as most public data sets count.

    Args:
        choices: (Q,) what each gold may name.
        answer: The column, for its name.
    """
    labels = [choice.label for choice in choices]
    contents = [choice.content for choice in choices]
    mixed = [a if a is not None else b for a, b in zip(labels, contents, strict=True)]
    indices, first = _indices(choices)
    by_content = (contents, "contents of the options")
    by_index = (indices, f"indices of the options, counted from {first}")
    named_index = re.search("index|idx|label", plain(answer[-1]))
    readings = [
        (labels, "letters of the options"),
        *((by_index, by_content) if named_index else (by_content, by_index)),
        (mixed, "letters or contents of the options"),
    ]
    found, words = max(readings, key=lambda reading: sum(i is not None for i in reading[0]))
    return Letters([ascii_uppercase[i] if i is not None else None for i in found], words)


def _indices(choices: Sequence[Choice]) -> tuple[list[int | None], int]:
    """Return the options that numbers name, each an index from 0, and the number of the first."""
    given = [(c.number, c.num_options) for c in choices if c.number is not None]
    from_one = all(number > 0 for number, _ in given) and any(n == size for n, size in given)
    first = int(from_one)
    indices = [
        c.number - first if c.number is not None and 0 <= c.number - first < c.num_options else None
        for c in choices
    ]
    return indices, first

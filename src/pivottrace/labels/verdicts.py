"""Answers to one question: which of them is the label, and the verdict on a further one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from pivottrace.errors import DataError
from pivottrace.label_sources import Purpose

Verdict = Literal["first", "agrees", "differs", "settles", "withdraws"]
"""The part that an answer plays beside the earlier answers to the same question."""


@dataclass(frozen=True)
class Given:
    """An answer to store.

    Attributes:
        question_id: The question that it answers.
        answer: The answer; None says that the question cannot be answered.
        source: Its origin: a label source of the package by its name, or the
            `package.module:name` of another one.
        purpose: A calibration "probe", or "annotation" for training.
        annotator: The person's name, if it is known.
        owned: Whether the pool had the answer already. Such a label costs no budget.
        settles: Whether it is the label from now on, whatever was answered before.
    """

    question_id: str
    answer: str | None
    source: str
    purpose: Purpose
    annotator: str | None = None
    owned: bool = False
    settles: bool = False


@dataclass(frozen=True)
class Answer(Given):
    """A stored answer.

    Attributes:
        verdict: Its part beside the earlier answers.
        created_at: The time of its arrival (UTC, ISO 8601).
        vote_shown: Whether the person had seen the model's vote on this question before.
        number: Its place in the order of arrival, from 1.
        withdraws: The `number` of the answer that this row takes back; None for an answer.
    """

    verdict: Verdict = "first"
    created_at: str = ""
    vote_shown: bool = False
    number: int = field(default=0, compare=False)
    withdraws: int | None = None


@dataclass(frozen=True)
class Label(Answer):
    """A question's label: one of its answers. It is `disputed` if a later answer differs."""

    disputed: bool = False


def without_withdrawn(rows: Sequence[Answer]) -> list[Answer]:
    """The answers among the rows of a question, without withdrawals and withdrawn answers."""
    gone = {row.withdraws for row in rows}
    return [row for row in rows if row.withdraws is None and row.number not in gone]


def label_by(answers: Sequence[Answer]) -> Label:
    """The label of a question, by all answers to it; there is at least one."""
    standing = standing_among(answers)
    disputed = any(answer.verdict == "differs" for answer in standing)
    return Label(**vars(standing[0]), disputed=disputed)


def standing_among(answers: Sequence[Answer]) -> Sequence[Answer]:
    """The answers that count: the label and all later ones."""
    return answers[max(i for i, a in enumerate(answers) if a.verdict in ("first", "settles")) :]


def verdict_on(
    row: Given, before: Sequence[Answer], agree: Callable[[str, str], bool]
) -> Verdict | None:
    """The verdict on an answer beside the earlier ones; None if it says nothing new."""
    if not before:
        return "first"
    label = label_by(before)
    if row.settles:
        # The same answer by somebody who has not seen the vote makes the label count as evidence.
        stands = row.answer == label.answer and not label.disputed and not label.vote_shown
        return None if stands else "settles"
    # Equality is no equivalence (25 and 0.25 both equal 25 %), so every two answers have to agree.
    same = all(_same(row.answer, each.answer, agree) for each in standing_among(before))
    given = {(a.annotator, a.answer) for a in before}
    if (row.annotator, row.answer) in given or (same and row.annotator is None):
        return None
    return "agrees" if same else "differs"


def _same(one: str | None, other: str | None, agree: Callable[[str, str], bool]) -> bool:
    if one is None or other is None:
        return one is other
    return agree(one, other)


def cleaned_row(row: Given, index: int, sources: Collection[str]) -> Given:
    """The row with its answer and annotator stripped.

    Args:
        row: As it was given.
        index: Its place among the rows, for messages.
        sources: Names of the package's label sources. One outside it has a colon in its name.

    Raises:
        DataError: If a field is empty, not text, or unknown.
    """
    where = f"label {index} (question {row.question_id!r})"
    for name, text in _texts(row):
        if not isinstance(text, str) or not text.strip():
            raise DataError(
                f"{where}: {name} is {text!r}; give text that is not empty, or leave the label out"
            )
    for name, value, known in (
        ("source", row.source, sources),
        ("purpose", row.purpose, get_args(Purpose)),
    ):
        outside = name == "source" and ":" in value
        if value not in known and not outside:
            raise DataError(f"{where}: {name} {value!r} is unknown; use one of {', '.join(known)}")
    answer, annotator = (t if t is None else t.strip() for t in (row.answer, row.annotator))
    return replace(row, answer=answer, annotator=annotator)


def _texts(row: Given) -> Iterable[tuple[str, object]]:
    """The text fields of a row by name; a field without a value is left out."""
    yield "question_id", row.question_id
    for name in ("answer", "annotator"):
        if getattr(row, name) is not None:
            yield name, getattr(row, name)

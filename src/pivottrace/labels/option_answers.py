"""Answers of people to multiple-choice questions, beside the options that the question shows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pivottrace.ingest.options import Options, options_in
from pivottrace.labels.exchange import FileAnswer
from pivottrace.verifier.multiple_choice import normalise_choice
from pivottrace.verifier.truths import read_truth, write_truth

_ONE_LETTER = re.compile(r"[(\[]?[A-Z][)\]]?[.):]?")


class Checked(NamedTuple):
    """Answers beside the options of their questions.

    Attributes:
        rows: The answers; the content of an option is replaced by its letter.
        problems: Answers that are no option of their question, one sentence each.
        notes: How contents were read, and that letters are compared as something else.
    """

    rows: list[FileAnswer]
    problems: list[str]
    notes: list[str]


def check_options(
    rows: Sequence[FileAnswer], questions: Mapping[str, str], verifier: str
) -> Checked:
    """Compare answers with the options of their questions; other questions stay as they are.

    Args:
        rows: The answers.
        questions: The text of each question, by id.
        verifier: `answers.verifier`. With "choice" an answer must be one or several options. With
            another one, only a single letter must be an option.
    """
    found = Checked([], [], [])
    for row in rows:
        options = options_in(questions[row.question_id])
        if options is None or row.answer is None:
            found.rows.append(row)
            continue
        given = [a for a in read_truth(row.answer).alternatives if _is_checked(a, verifier)]
        letters = [_letters(answer, options) for answer in given]
        if None in letters:
            found.problems.append(_no_option(row, options))
        elif verifier != "choice":
            found.rows.append(row)
        else:
            read = write_truth([each for each in letters if each is not None])
            found.rows.append(row._replace(answer=read))
            if [normalise_choice(answer) for answer in given] != letters:
                found.notes.append(f"question {row.question_id!r}: {row.answer!r} is option {read}")
    return found


def _is_checked(answer: str, verifier: str) -> bool:
    return verifier == "choice" or _ONE_LETTER.fullmatch(answer) is not None


def is_letter(answer: str, question: str) -> bool:
    """Whether an answer is the letter of an option that its question shows."""
    options = options_in(question)
    return (
        options is not None
        and _ONE_LETTER.fullmatch(answer) is not None
        and options.by_label(answer) is not None
    )


def _letters(answer: str, options: Options) -> str | None:
    """The letters of the options that an answer names; None if it names none.

    A letter is tried before the content, because people are asked for the letter alone.
    """
    letters = normalise_choice(answer)
    if letters.isupper() and set(letters) <= set(options.labels):
        return letters
    content = options.by_content(answer)
    return None if content is None else options.labels[content]


def _no_option(row: FileAnswer, options: Options) -> str:
    return (
        f"{row.place}, column answer: {row.answer!r} is no option of question "
        f"{row.question_id!r}, which has {options.labels[0]} to {options.labels[-1]}. Write the "
        f"letter of an option, or confirm the answer with --confirm"
    )

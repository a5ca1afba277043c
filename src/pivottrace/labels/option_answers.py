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
    rows: Sequence[FileAnswer],
    questions: Mapping[str, str],
    verifier: str,
    *,
    confirmed: bool = False,
) -> Checked:
    """Compare answers with the options of their questions; other questions stay as they are.

    Args:
        rows: The answers.
        questions: The text of each question, by id.
        verifier: `answers.verifier`. With "choice" an answer must be one or several options. With
            another one, only a single letter must be an option.
        confirmed: Whether answers that are no option are taken as they stand.
    """
    found = Checked([], [], [])
    for row in rows:
        question = questions[row.question_id]
        read = None if row.answer is None else read_option(row.answer, question, verifier)
        if row.answer is None or (read is None and confirmed):
            found.rows.append(row)
        elif read is None:
            found.problems.append(
                f"{row.place}: {row.answer!r} is no option of question {row.question_id!r}, which "
                f"has {letters_of(question)}. Write the letter of an option, or confirm the "
                f"answer with --confirm"
            )
        else:
            found.rows.append(row._replace(answer=read))
            if normalise_choice(row.answer) != normalise_choice(read):
                found.notes.append(f"question {row.question_id!r}: {row.answer!r} is option {read}")
    return found


def read_option(answer: str, question: str, verifier: str) -> str | None:
    """An answer to a question, with the letter of an option in place of its content.

    Args:
        answer: One answer, or alternatives as `write_truth` joins them.
        question: The text of the question.
        verifier: As for `check_options`.

    Returns:
        The answer; as it is if the question has no options, or the verifier compares no letters.
        None if an alternative is no option.
    """
    options = options_in(question)
    if options is None:
        return answer
    given = read_truth(answer).alternatives
    if verifier != "choice":
        single = [each for each in given if _ONE_LETTER.fullmatch(each)]
        return None if any(_letters(each, options) is None for each in single) else answer
    letters = [_letters(each, options) for each in given]
    found = [each for each in letters if each is not None]
    return write_truth(found) if len(found) == len(letters) else None


def letters_of(question: str) -> str:
    """The letters of a question with options, in words: "A to D"."""
    options = options_in(question)
    assert options is not None
    return f"{options.labels[0]} to {options.labels[-1]}"


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

"""The cards of the page: a question, answers that differ, or a rest. All texts are safe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from pivottrace.config import AnswersConfig
from pivottrace.ingest.options import options_in
from pivottrace.labels.exchange import understood
from pivottrace.labels.option_answers import letters_of, read_option
from pivottrace.labels.slips import forms_of_answer
from pivottrace.labels.store import Answer
from pivottrace.report.texts import clean, cut
from pivottrace.verifier.forms import form_of

MAX_QUESTION = 100_000
"""Characters of a question that the page shows. It says so where it cuts."""
UNANSWERABLE = "cannot be answered"


@dataclass(frozen=True)
class Option:
    """An option of a choice question."""

    letter: str
    text: str


@dataclass(frozen=True)
class Opinion:
    """One of several answers that differ."""

    answer: str
    by: str
    number: int


@dataclass(frozen=True)
class Card:
    """One thing to do.

    Attributes:
        kind: A "question" to answer, a "conflict" to settle, or a "rest" with nothing to do.
        id: The question's id; empty for a rest.
        question: The question, with hidden characters made visible.
        options: The options of a choice question.
        draft: An answer to begin with: the answer that was just taken back.
        opinions: The answers that differ.
        message: The words of a rest, or a remark about a question.
        command: The command that comes next.
    """

    kind: Literal["question", "conflict", "rest"]
    id: str = ""
    question: str = ""
    options: Sequence[Option] = ()
    draft: str = ""
    opinions: Sequence[Opinion] = ()
    message: str = ""
    command: str = ""


@dataclass(frozen=True)
class Last:
    """A person's last answer, which they may take back."""

    id: str
    question: str
    answer: str
    number: int


@dataclass(frozen=True)
class Progress:
    """How far the work is.

    Attributes:
        done: Questions asked so far that have an answer.
        asked: Questions asked so far.
        left: Labels left of the budget.
        mine: Questions that this person has answered.
    """

    done: int
    asked: int
    left: int
    mine: int


@dataclass(frozen=True)
class Screen:
    """All that the page shows at a time."""

    card: Card
    progress: Progress
    last: Last | None = None
    notice: str = ""


@dataclass(frozen=True)
class Reading:
    """How an answer that a person types is read.

    Attributes:
        stored: The answer as it would be stored; None if it says that none exists.
        kind: "answer", "unanswerable", or "blank" for a text that leaves the question open.
        says: The reading in words.
        problem: Why a second Enter has to confirm it; None if it can be stored at once.
    """

    stored: str | None
    kind: Literal["answer", "unanswerable", "blank"]
    says: str
    problem: str | None = field(default=None)


def question_card(
    question_id: str, text: str, settings: AnswersConfig, draft: str = "", message: str = ""
) -> Card:
    """The card of a question that waits for an answer."""
    stem, options = split_options(text, settings)
    return Card("question", question_id, shown(stem), options, draft, message=message)


def conflict_card(
    question_id: str, text: str, settings: AnswersConfig, answers: Sequence[Answer]
) -> Card:
    """The card of a question whose answers differ."""
    opinions = [
        Opinion(in_words(a.answer), clean(a.annotator or "somebody"), a.number) for a in answers
    ]
    stem, options = split_options(text, settings)
    return Card("conflict", question_id, shown(stem), options, opinions=opinions)


def shown(text: str) -> str:
    """A question's text, safe to show, and the number of characters that it leaves out."""
    found = cut(text, MAX_QUESTION)
    rest = f"\n[{found.num_left_out:,} more characters are not shown]" if found.num_left_out else ""
    return found.text + rest


def in_words(answer: str | None) -> str:
    """An answer, safe to show."""
    return UNANSWERABLE if answer is None else clean(answer)


def split_options(text: str, settings: AnswersConfig) -> tuple[str, list[Option]]:
    """A choice question without its options, and these; no options for other verifiers.

    The pool keeps a question's options in its text, as "A) 20" in a line each, from A on. The last
    such block counts, because an example may stand before it. It stays in the question unless it is
    the end of it: a line between or behind the options belongs to the question.
    """
    if settings.verifier != "choice":
        return text, []
    found = options_in(text)
    if found is None:
        return text, []
    options = [Option(*each) for each in zip(found.labels, map(_line, found.contents), strict=True)]
    lines = text.rstrip().split("\n")
    is_end = options_in("\n".join(lines[-len(options) :])) == found
    return ("\n".join(lines[: -len(options)]).rstrip() if is_end else text), options


def _line(content: str) -> str:
    return clean(content.strip())


def read_typed(text: str, settings: AnswersConfig, question: str, own: Sequence[str]) -> Reading:
    """Read what a person types, with the reader of label files.

    Nothing of the model's own answers is said but the form that they have.

    Args:
        text: The text.
        settings: The run's `answers`.
        question: The text of the question, in which its options stand.
        own: The model's own answers to the question. Their form tells slips.
    """
    found = understood(text, settings.pattern)
    if found.is_unanswerable:
        return Reading(None, "unanswerable", f"Read as: {UNANSWERABLE}")
    if found.problem is not None:
        return Reading(
            text.strip(), "answer", "", f"This {found.problem}. Write the final answer alone"
        )
    if found.answer is None:
        return Reading(None, "blank", "No answer yet")
    answer = read_option(found.answer, question, settings.verifier)
    if answer is None:
        problem = f"It is no option of this question, which has {letters_of(question)}"
        return Reading(found.answer, "answer", "", problem)
    form = form_of(answer) if settings.verifier == "math" else ""
    says = f"Read as {clean(answer)}" + (f" ({form})" if form else "")
    return Reading(answer, "answer", says, _problem(answer, settings, own))


def _problem(answer: str, settings: AnswersConfig, own: Sequence[str]) -> str | None:
    """The slip that an answer seems to have; None without one."""
    if clean(answer) != answer:
        return f"It has characters that cannot be seen: {clean(answer)}"
    forms = forms_of_answer(settings, answer, own)
    if forms.lookalike:
        return f"A letter looks like a digit in {forms.lookalike}"
    if forms.is_text:
        return f"It reads as text, and this question seems to ask for: {' or '.join(forms.wanted)}"
    return None

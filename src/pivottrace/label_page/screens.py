"""The screen of a person, made of the queue and of the labels that are there."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pivottrace.errors import RunBusyError, counted
from pivottrace.label_page.cards import (
    Card,
    Last,
    Progress,
    Screen,
    conflict_card,
    in_words,
    question_card,
)
from pivottrace.label_page.question_queue import Queue
from pivottrace.labels.budget import STORE
from pivottrace.labels.store import Answer, Label, Stored, read_answers
from pivottrace.labels.verdicts import label_by
from pivottrace.labels.waiting import missing_labels
from pivottrace.report.texts import field
from pivottrace.run.directory import RunDir


@dataclass(frozen=True)
class Person:
    """Somebody at a browser. `seat` tells browsers apart, and `name` people."""

    seat: str
    name: str


class Known(NamedTuple):
    """The answers that are there, and the labels that they make, by question id."""

    answers: Mapping[str, list[Answer]]
    labels: Mapping[str, Label]


def read_known(folder: Path) -> Known:
    """The labels of a run directory as they are now. Raises as `read_answers`."""
    answers = read_answers(folder / STORE)
    return Known(answers, {i: label_by(given) for i, given in answers.items()})


def own_answer(known: Known, person: Person, question_id: str) -> Answer | None:
    """The person's latest answer to a question."""
    own = [a for a in known.answers.get(question_id, ()) if a.annotator == person.name]
    return own[-1] if own else None


def card_of_question(queue: Queue, question_id: str, draft: str = "", message: str = "") -> Card:
    """The card of a question that waits for an answer."""
    text = queue.text_of(question_id)
    return question_card(question_id, text, queue.run.config.answers, draft, message)


def card_of_conflict(queue: Queue, known: Known, question_id: str) -> Card:
    """The card of a question whose answers differ."""
    text, answers = queue.text_of(question_id), known.answers[question_id]
    return conflict_card(question_id, text, queue.run.config.answers, answers)


def screen_of(person: Person, queue: Queue, known: Known, card: Card, notice: str) -> Screen:
    """A card with the person's progress and last answer."""
    mine = [a for given in known.answers.values() for a in given if a.annotator == person.name]
    paid = sum(not label.owned for label in known.labels.values())
    progress = Progress(
        done=sum(i in known.labels for i in queue.asked),
        asked=len(queue.asked),
        left=max(0, queue.allowed - paid),
        mine=len({answer.question_id for answer in mine}),
    )
    last = max(mine, key=lambda answer: answer.number, default=None)
    return Screen(card, progress, None if last is None else _last(queue, last), notice)


def _last(queue: Queue, answer: Answer) -> Last:
    text = field(queue.text_of(answer.question_id))
    return Last(answer.question_id, text, in_words(answer.answer), answer.number)


def said_about(stored: Stored) -> str:
    """The notice about an answer that was stored."""
    if stored.differing:
        return "Somebody else has given another answer to this question."
    return "" if stored.new else "Somebody else has given the same answer to this question."


def rest_of(run: RunDir, num_left: int) -> Card:
    """The reason why a person has nothing to do, and the next command."""
    if num_left:
        what = "question that is" if num_left == 1 else f"{num_left:,} questions that are"
        return _rest(f"Others are answering the {what} left. If they leave some, you get them.")
    try:
        with run.held(wait_s=0.0):
            needed = missing_labels(run)
    except RunBusyError:
        return _rest("The run is at work. Its next questions appear here by themselves.")
    if needed:
        what = f"{counted(len(needed), 'question')} {'waits' if len(needed) == 1 else 'wait'}"
        return _rest(
            f"{what} to be settled by somebody else. To settle here, load the page again, or:",
            f"pivottrace label conflicts {shlex.quote(str(run.path))}",
        )
    return _rest(
        "The run has the answers that it needs now. It goes on with the command below, or by "
        "itself if it was started with --wait. Its next questions appear here by themselves.",
        f"pivottrace run {shlex.quote(str(run.path))}",
    )


def _rest(message: str, command: str = "") -> Card:
    return Card("rest", message=message, command=command)

"""The desk: it gives each person the next question, and stores what the person says at once."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from pivottrace.errors import DataError
from pivottrace.label_page.cards import Card, Reading, Screen, in_words, read_typed
from pivottrace.label_page.claims import Claims
from pivottrace.label_page.question_queue import Queue, read_queue, vote_in_words
from pivottrace.label_page.screens import (
    Known,
    Person,
    card_of_conflict,
    card_of_question,
    own_answer,
    read_known,
    rest_of,
    said_about,
    screen_of,
)
from pivottrace.label_sources.labelling_page import PAGE
from pivottrace.labels.budget import STORE
from pivottrace.labels.intake import open_store, take_in
from pivottrace.labels.remarks import Remark, RemarkKind, read_remarks
from pivottrace.labels.store import Answer, Given, Stored
from pivottrace.labels.used import stages_that_used
from pivottrace.report.texts import clean
from pivottrace.run.directory import RunDir
from pivottrace.verifier import Verifier
from pivottrace.verifier.gold import agree


class NotReadError(DataError):
    """An answer that has to be confirmed. The message says why."""


class Desk:
    """The desk of one run. Its methods may be called from several threads.

    Each answer is on the disk when the method that takes it returns. Nothing else is: who has
    which question is made anew after a restart.
    """

    def __init__(self, folder: Path) -> None:
        """Open the desk of a run directory. Raises as `read_queue` and `read_remarks`."""
        self._folder, self._one_at_a_time = folder, threading.RLock()
        self._claims = Claims()
        # Answers taken back, by seat and question: sent again unchanged, one is stored as it was.
        self._drafts: dict[tuple[str, str], str | None] = {}
        self._put_off: set[tuple[str, str]] = set()  # conflicts, by seat
        self._queue = read_queue(folder, None)
        # In the order of skipping: the first comes back first.
        self._skipped: dict[str, dict[str, None]] = {}
        for remark in read_remarks(folder / STORE):
            if remark.kind == "skipped":
                self._skipped.setdefault(remark.annotator, {})[remark.question_id] = None

    def screen(self, person: Person, notice: str = "") -> Screen:
        """The next screen of a person. The question is theirs until they answer or leave."""
        with self._one_at_a_time:
            queue, known = self._now()
            card = self._next_card(person, queue, known)
            return screen_of(person, queue, known, card, notice)

    def hold(self, person: Person) -> None:
        """Keep the question that a person has for them."""
        with self._one_at_a_time:
            self._claims.hold(person.seat)

    def leave(self, person: Person) -> None:
        """Give the question that a person has to others: they have closed the page."""
        with self._one_at_a_time:
            self._claims.release(person.seat)

    def read(self, question_id: str, text: str) -> Reading:
        """How an answer would be read. Nothing is stored."""
        queue = self._now()[0]
        return _read(queue, question_id, text)

    def answer(self, person: Person, question_id: str, text: str, *, confirmed: bool) -> Screen:
        """Store an answer, and give the next question. The same answer again changes nothing.

        Raises:
            NotReadError: It reads as no answer, or looks like a slip, and is not `confirmed`.
            DataError: The text is blank, the question is not asked, or the person has given it
                another answer.
            RunBusyError: The run is at work.
            BudgetError: The budget is used up.
        """
        with self._writing() as (queue, known):
            given = self._given(queue, known, person, question_id, text, confirmed)
            before = own_answer(known, person, question_id)
            if before is not None and before.answer != given.answer:
                raise DataError(
                    f"You have answered this question already: {in_words(before.answer)}. Take "
                    f"that back first"
                )
            stored = _store(queue.run, given)
            self._claims.release(person.seat)
        self._skipped.get(person.name, {}).pop(question_id, None)
        return self.screen(person, "" if before else said_about(stored))

    def settle(
        self,
        person: Person,
        question_id: str,
        text: str,
        *,
        confirmed: bool,
        number: int | None = None,
    ) -> Screen:
        """Store the answer that settles a question whose answers differ. Raises as `answer`.

        With the `number` of a stored answer, that one settles it as it stands.
        """
        with self._writing() as (queue, known):
            label = known.labels.get(question_id)
            if label is not None and label.disputed:
                chosen = [a for a in known.answers[question_id] if a.number == number]
                if chosen:
                    answer, purpose = chosen[0].answer, label.purpose
                    given = Given(question_id, answer, PAGE.name, purpose, person.name)
                else:
                    given = self._given(queue, known, person, question_id, text, confirmed)
                if given.answer != label.answer:
                    self._refuse_if_used(queue.run, question_id)
                _store(queue.run, replace(given, settles=True))
                notice = f"Settled: {in_words(given.answer)}"
            else:
                notice = "Somebody has settled this question already."
        return self.screen(person, notice)

    def skip(self, person: Person, question_id: str) -> Screen:
        """Leave a question, or a conflict, to others. A question comes back at the end."""
        with self._writing() as (queue, known):
            label = known.labels.get(question_id)
            if label is not None and label.disputed:
                self._put_off.add((person.seat, question_id))
                notice = "Left to somebody else."
            else:
                self._remark(queue, known, person, question_id, "skipped")
                skipped = self._skipped.setdefault(person.name, {})
                skipped.pop(question_id, None)
                skipped[question_id] = None
                notice = "Skipped. Others may answer it."
            self._claims.release(person.seat)
        return self.screen(person, notice)

    def comment(self, person: Person, question_id: str, text: str) -> None:
        """Store a comment on a question. Raises as `answer`."""
        with self._writing() as (queue, known):
            self._remark(queue, known, person, question_id, "comment", text.strip())

    def undo(self, person: Person, question_id: str, number: int) -> Screen:
        """Take a person's answer back, and show its question again.

        A page that got no reply asks again, so only the answer with this number is taken back.

        Raises:
            DataError: It is not the question's last answer, or a stage has used it.
            RunBusyError: The run is at work.
        """
        with self._writing() as (queue, known):
            own = own_answer(known, person, question_id)
            if own is None or own.number != number:
                card, notice = None, "This answer is taken back already."
            else:
                self._refuse_if_used(queue.run, question_id)
                taken = open_store(queue.run).withdraw(question_id, person.name)
                card, notice = self._taken_back(person, question_id, taken)
        if card is None:
            return self.screen(person, notice)
        return screen_of(person, *self._now(), card, notice)

    def _taken_back(
        self, person: Person, question_id: str, taken: Answer
    ) -> tuple[Card | None, str]:
        """The question of an answer that was taken back, if it waits for a label again."""
        notice = f"Taken back: {in_words(taken.answer)}"
        queue, known = self._now()
        if question_id in known.labels or question_id not in queue.asked:
            return None, notice
        self._claims.release(person.seat)
        self._claims.take(person.seat, question_id)
        self._drafts[person.seat, question_id] = taken.answer
        return card_of_question(queue, question_id, draft=in_words(taken.answer)), notice

    def vote(self, person: Person, question_id: str) -> str:
        """The model's vote on a question that the person has answered, in words.

        It is noted before it is shown. If the person takes their answer back and gives another
        one, calibration leaves that one out.

        Raises:
            DataError: The person has not answered the question.
            RunBusyError: The run is at work.
        """
        with self._writing() as (queue, known):
            if own_answer(known, person, question_id) is None:
                raise DataError("The model's vote is shown after you have answered the question")
            self._remark(queue, known, person, question_id, "vote_shown")
            return clean(vote_in_words(queue.run, question_id))

    def num_answers_of_page(self) -> int:
        """Number of answers that people have given on the page, without those taken back."""
        answers = self._now()[1].answers.values()
        return sum(answer.source == PAGE.name for given in answers for answer in given)

    @contextmanager
    def _writing(self) -> Iterator[tuple[Queue, Known]]:
        """One writer at a time, while no run is at work: stages read the labels more than once."""
        with self._one_at_a_time, self._queue.run.held():
            yield self._now()

    def _now(self) -> tuple[Queue, Known]:
        """The run and its labels as they are now."""
        with self._one_at_a_time:
            self._queue = read_queue(self._folder, self._queue)
            return self._queue, read_known(self._folder)

    def _next_card(self, person: Person, queue: Queue, known: Known) -> Card:
        """A conflict of the person's own, else a question, else any conflict, else a rest."""
        disputed = [
            i
            for i, label in known.labels.items()
            if queue.asked and label.disputed and (person.seat, i) not in self._put_off
        ]
        own = [i for i in disputed if own_answer(known, person, i) is not None]
        if own:
            return card_of_conflict(queue, known, own[0])
        left = [i for i in queue.asked if i not in known.labels]
        skipped = self._skipped.get(person.name, {})
        fresh = [i for i in left if i not in skipped]
        again = [i for i in skipped if i in left]
        found = self._claims.take_first(person.seat, [*fresh, *([] if disputed else again)])
        if found is not None:
            message = "You have skipped this question before." if found in skipped else ""
            return card_of_question(queue, found, message=message)
        if disputed:
            return card_of_conflict(queue, known, disputed[0])
        return rest_of(queue.run, len(left))

    def _given(
        self,
        queue: Queue,
        known: Known,
        person: Person,
        question_id: str,
        text: str,
        confirmed: bool,
    ) -> Given:
        """An answer as it is to be stored. Raises as `answer`."""
        purpose = queue.asked.get(question_id)
        if question_id in known.labels:
            purpose = known.labels[question_id].purpose
        if purpose is None:
            raise DataError("This question does not wait for a label any more")
        draft = self._drafts.get((person.seat, question_id), "")
        if text and text == in_words(draft):
            return Given(question_id, draft, PAGE.name, purpose, person.name)
        reading = _read(queue, question_id, text)
        if reading.kind == "blank":
            raise DataError("This leaves the question open. Write an answer, or skip the question")
        if reading.problem is not None and not confirmed:
            raise NotReadError(f"{reading.problem}. Press Enter again to store it as it stands")
        return Given(question_id, reading.stored, PAGE.name, purpose, person.name)

    def _remark(
        self,
        queue: Queue,
        known: Known,
        person: Person,
        question_id: str,
        kind: RemarkKind,
        text: str = "",
    ) -> None:
        if question_id not in queue.asked and question_id not in known.labels:
            raise DataError("This question does not wait for a label any more")
        open_store(queue.run).remark(Remark(question_id, person.name, kind, text))

    @staticmethod
    def _refuse_if_used(run: RunDir, question_id: str) -> None:
        used = stages_that_used(run, [question_id])
        if used is not None:
            words = ["pivottrace", "label", "correct", str(run.path), question_id]
            raise DataError(
                f"{used[1]} has used this answer already. To change it: {shlex.join(words)} "
                f"ANSWER --redo"
            )


def _read(queue: Queue, question_id: str, text: str) -> Reading:
    own = queue.own.get(question_id, ())
    return read_typed(text, queue.run.config.answers, queue.text_of(question_id), own)


def _store(run: RunDir, given: Given) -> Stored:
    with Verifier.of(run.config.answers) as verifier:
        return take_in(run, [given], partial(agree, equal=verifier.equal))

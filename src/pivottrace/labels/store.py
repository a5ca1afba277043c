"""The label store: every answer that was given, in one SQLite file, never beyond the budget.

Rows are only ever added. A question's label is its first answer, or the last answer that settled
the question. A later answer that differs makes the label disputed, until one settles it. A person
takes an answer back by a further row, and readers leave both rows out.

Each call opens its own connection. So threads may share a store, a fork may inherit it, several
processes may open it at once (say, a web page and a run), and there is nothing to close.
"""

from __future__ import annotations

import operator
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from pivottrace.errors import BudgetError, DataError
from pivottrace.label_sources import label_sources
from pivottrace.labels.remarks import Remark, has_seen_vote, insert_remark
from pivottrace.labels.store_schema import (
    COLUMNS,
    arrived,
    connected,
    make_or_migrate,
    only_reading,
    row_as_answer,
    version_of,
)
from pivottrace.labels.verdicts import (
    Answer,
    Given,
    Label,
    cleaned_row,
    label_by,
    verdict_on,
    without_withdrawn,
)

__all__ = [
    "Answer",
    "Given",
    "Label",
    "LabelStore",
    "Stored",
    "num_stored",
    "read_answers",
    "read_labels",
]

_OF_QUESTION = f"SELECT number, {COLUMNS} FROM answers WHERE question_id = ? ORDER BY number"
_INSERT = f"INSERT INTO answers ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


class Stored(NamedTuple):
    """The fate of the answers of one call.

    Attributes:
        new: Questions that had no answer before.
        settled: Questions whose label was settled.
        differing: Ids of the questions with an answer that differs from the label.
    """

    new: int
    settled: int
    differing: tuple[str, ...]


class LabelStore:
    """Writes answers, to at most `allowed` questions that are not owned; `read_labels` reads them.

    Attributes:
        path: The SQLite file; made when missing.
        allowed: The budget: distinct questions whose label may cost something.
    """

    def __init__(self, path: Path, allowed: int) -> None:
        """Open or make the store. One of an older version becomes a present one, with all labels.

        Raises:
            BudgetError: If `allowed` is negative, or the file already holds more labels than that.
            DataError: If the file is not a label store, or one of a newer version.
            OutOfDiskError: If the disk is full.
            RunDirError: If the file cannot be read or written.
        """
        if allowed < 0:
            raise BudgetError(f"label budget {allowed} is negative; give 0 or more labels")
        self.path = path
        self.allowed = allowed
        with connected(path) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("BEGIN IMMEDIATE")
            make_or_migrate(path, connection)
            used = _num_paid(connection)
            connection.execute("COMMIT")
        if used > allowed:
            raise BudgetError(
                f"{path} already holds {used} labels, more than the budget of {allowed}; "
                f"raise the budget to {used} or more, or begin a new run directory"
            )

    def add_many(
        self, rows: Sequence[Given], agree: Callable[[str, str], bool] = operator.eq
    ) -> Stored:
        """Store answers, all or none, in one transaction.

        The label's own answer again changes nothing; it is stored as "agrees" if another person
        gave it. An answer is marked if the person has seen the model's vote before, by the
        remarks. The budget is checked inside the transaction that writes, so that writers who run
        at the same time cannot pass it together.

        Args:
            rows: The answers; they are stripped.
            agree: Whether two answers are the same.

        Raises:
            BudgetError: If the store would hold more than `allowed` labels that cost something;
                nothing is written.
            DataError: If an id, answer or name is empty, or a source or purpose unknown; nothing is
                written.
            OutOfDiskError: If the disk is full.
            RunDirError: If the file cannot be written.
        """
        sources = label_sources()
        cleaned = [cleaned_row(row, index, sources) for index, row in enumerate(rows)]
        now = _now()
        new, settled = 0, 0
        differing: dict[str, None] = {}
        with connected(self.path) as connection:
            connection.execute("BEGIN IMMEDIATE")  # the write lock now: what we count stays true
            used = _num_paid(connection)
            for row in cleaned:
                before = _answers_to(connection, row.question_id)
                verdict = verdict_on(row, before, agree)
                if verdict is not None:
                    # A question stays owned, or not, as its first answer was.
                    owned = before[0].owned if before else row.owned
                    seen = int(has_seen_vote(connection, row.question_id, row.annotator))
                    of_row = replace(row, owned=owned)
                    connection.execute(_INSERT, (*_given(of_row), verdict, now, seen, None))
                new += not before
                settled += bool(before) and verdict == "settles"
                if verdict == "differs":
                    differing[row.question_id] = None
            self._refuse_beyond_budget(connection, used)
            connection.execute("COMMIT")
        return Stored(new, settled, tuple(differing))

    def withdraw(self, question_id: str, annotator: str) -> Answer:
        """Take a person's answer back, by a row that names it; returns the answer.

        If it was the question's only answer, the question has no label again, and the budget has
        the label back.

        Raises:
            DataError: The question's last answer is by somebody else. Nothing is written.
            OutOfDiskError: If the disk is full.
            RunDirError: If the file cannot be written.
        """
        with connected(self.path) as connection:
            connection.execute("BEGIN IMMEDIATE")
            answers = _answers_to(connection, question_id)
            if not answers or answers[-1].annotator != annotator:
                whose = f"by {answers[-1].annotator or 'somebody'}" if answers else "missing"
                raise DataError(
                    f"question {question_id!r}: its last answer is {whose}, and {annotator!r} can "
                    f"take back only an answer of their own that is the last one"
                )
            last = answers[-1]
            connection.execute(_INSERT, (*_given(last), "withdraws", _now(), 0, last.number))
            connection.execute("COMMIT")
        return last

    def remark(self, *remarks: Remark) -> None:
        """Store remarks. One that is there already is not stored again. Raises as `withdraw`."""
        with connected(self.path) as connection:
            connection.execute("BEGIN IMMEDIATE")
            for remark in remarks:
                insert_remark(connection, remark, _now())
            connection.execute("COMMIT")

    def _refuse_beyond_budget(self, connection: sqlite3.Connection, used: int) -> None:
        paid = _num_paid(connection)
        if paid > self.allowed:
            raise BudgetError(
                f"{self.path}: {paid - used} new labels on top of {used} pass the budget of "
                f"{self.allowed}; nothing was stored. Give at most {self.allowed - used}, "
                "or raise the label budget"
            )


def read_labels(path: Path, first: int | None = None) -> dict[str, Label]:
    """The label of each question, in the order of the ids, by all answers or by the first ones.

    Raises as `read_answers`.
    """
    return {i: label_by(answers) for i, answers in read_answers(path, first).items()}


def read_answers(path: Path, first: int | None = None) -> dict[str, list[Answer]]:
    """The answers to each question in order of arrival, the questions in the order of their ids.

    Answers that were taken back are left out, and so are questions without another answer. Nothing
    is written or has to be. A missing file has no answers. A store of an older version is read as
    it is.

    Args:
        path: The label store.
        first: The number of rows to read, in order of arrival; None reads all. Rows are never
            removed, so the first n are the rows that there were at the nth.

    Raises:
        DataError: If the file is not a label store, or one of a newer version.
        RunDirError: If it cannot be read.
    """
    rows: dict[str, list[Answer]] = {}
    for answer in _rows(path, first):
        rows.setdefault(answer.question_id, []).append(answer)
    answers = {question_id: without_withdrawn(given) for question_id, given in rows.items()}
    return {question_id: given for question_id, given in answers.items() if given}


def num_stored(path: Path) -> int:
    """Number of rows that have arrived, withdrawals and withdrawn answers among them.

    It is what `first` counts. Raises as `read_answers`.
    """
    return len(_rows(path, None))


def _rows(path: Path, first: int | None) -> list[Answer]:
    """The rows of the store, or the first ones. The rows of a question are in order of arrival."""
    if not path.is_file():
        return []
    with only_reading(path) as connection:
        version = version_of(path, connection)
        if version is None:
            return []
        return [row_as_answer(row) for row in connection.execute(arrived(version, first))]


def _answers_to(connection: sqlite3.Connection, question_id: str) -> list[Answer]:
    """The answers to a question, without withdrawn ones."""
    rows = connection.execute(_OF_QUESTION, (question_id,))
    return without_withdrawn([row_as_answer(row) for row in rows])


def _given(row: Given) -> tuple[object, ...]:
    """The given fields, as the first of `COLUMNS`."""
    given = (row.question_id, row.answer, row.source, row.purpose, row.annotator)
    return (*given, int(row.owned))


def _num_paid(connection: sqlite3.Connection) -> int:
    """Questions whose label costs something: the first answer was not the pool's own."""
    counted = (
        "SELECT count(*) FROM answers WHERE verdict = 'first' AND NOT owned AND number NOT IN "
        "(SELECT withdraws FROM answers WHERE withdraws IS NOT NULL)"
    )
    return int(connection.execute(counted).fetchone()[0])


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

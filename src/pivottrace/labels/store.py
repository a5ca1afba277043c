"""The label store: every answer that was given, in one SQLite file, never beyond the budget.

Answers are only ever added. A question's label is its first answer, or the last answer that settled
the question. A later answer that differs makes the label disputed, until one settles it.

Each call opens its own connection. So threads may share a store, a fork may inherit it, several
processes may open it at once (say, a web page and a run), and there is nothing to close.
"""

import operator
import shutil
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from pivottrace.errors import BudgetError, DataError, OutOfDiskError, RunDirError
from pivottrace.label_sources import Purpose, label_sources

SCHEMA_VERSION = 3
"""Version 1 listed the sources in a CHECK. Up to version 2 a question had one answer, its label."""
READABLE_VERSIONS = (1, 2, SCHEMA_VERSION)
LOCK_WAIT_S = 30.0
"""A writer holds the lock for milliseconds; half a minute means that its process is stopped."""

LEAST_FREE = 1 << 20
"""Bytes that SQLite's own files always fit into. Its error does not always tell a full disk."""

Verdict = Literal["first", "agrees", "differs", "settles"]
"""The part that an answer plays beside the earlier answers to the same question."""

_SCHEMA = """
CREATE TABLE answers (
    number      INTEGER PRIMARY KEY,
    question_id TEXT NOT NULL CHECK (question_id <> ''),
    answer      TEXT CHECK (answer <> ''),
    source      TEXT NOT NULL CHECK (source <> ''),
    purpose     TEXT NOT NULL CHECK (purpose IN ('probe', 'annotation')),
    annotator   TEXT CHECK (annotator <> ''),
    owned       INTEGER NOT NULL CHECK (owned IN (0, 1)),
    verdict     TEXT NOT NULL CHECK (verdict IN ('first', 'agrees', 'differs', 'settles')),
    created_at  TEXT NOT NULL
)
"""
_BY_QUESTION = "CREATE INDEX by_question ON answers (question_id)"
_COLUMNS = "question_id, answer, source, purpose, annotator, owned, verdict, created_at"
_OLDER_COLUMNS = {"question_id", "answer", "source", "purpose", "created_at"}
# The label of an older version is the first answer to its question.
_FIRST_ANSWERS = (
    "question_id, answer, source, purpose, NULL AS annotator, 0 AS owned, "
    "'first' AS verdict, created_at"
)
_FROM_OLDER = (
    _SCHEMA,
    _BY_QUESTION,
    f"INSERT INTO answers ({_COLUMNS}) SELECT {_FIRST_ANSWERS} FROM labels ORDER BY question_id",
    "DROP TABLE labels",
)
_OF_QUESTION = f"SELECT {_COLUMNS} FROM answers WHERE question_id = ? ORDER BY number"
_INSERT = f"INSERT INTO answers ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"


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
    """A stored answer, with its `verdict`, and the time of its arrival (UTC, ISO 8601)."""

    verdict: Verdict = "first"
    created_at: str = ""


@dataclass(frozen=True)
class Label(Answer):
    """A question's label: one of its answers. It is `disputed` if a later answer differs."""

    disputed: bool = False


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
        with self._connection() as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("BEGIN IMMEDIATE")
            _make_or_migrate(path, connection)
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
        gave it. The budget is checked inside the transaction that writes, so that writers who run
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
        cleaned = [_cleaned(row, index, sources) for index, row in enumerate(rows)]
        now = datetime.now(UTC).isoformat(timespec="seconds")
        new, settled = 0, 0
        differing: dict[str, None] = {}
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")  # the write lock now: what we count stays true
            used = _num_paid(connection)
            for row in cleaned:
                before = [_answer(r) for r in connection.execute(_OF_QUESTION, (row.question_id,))]
                verdict = _verdict(row, before, agree)
                if verdict is not None:
                    owned = before[0].owned if before else row.owned
                    connection.execute(_INSERT, _values(row, owned, verdict, now))
                new += not before
                settled += bool(before) and verdict == "settles"
                if verdict == "differs":
                    differing[row.question_id] = None
            paid = _num_paid(connection)
            if paid > self.allowed:
                raise BudgetError(
                    f"{self.path}: {paid - used} new labels on top of {used} pass the budget of "
                    f"{self.allowed}; nothing was stored. Give at most {self.allowed - used}, "
                    "or raise the label budget"
                )
            connection.execute("COMMIT")
        return Stored(new, settled, tuple(differing))

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """A connection in manual transaction mode; leaving without COMMIT rolls back."""
        try:
            # isolation_level None: transactions are ours, so that each is IMMEDIATE and visible.
            opened = sqlite3.connect(self.path, timeout=LOCK_WAIT_S, isolation_level=None)
            with closing(opened) as connection:
                yield connection
        except sqlite3.Error as error:
            raise _explained(self.path, error) from error


def read_labels(path: Path, first: int | None = None) -> dict[str, Label]:
    """The label of each question, in the order of the ids, by all answers or by the first ones.

    Raises as `read_answers`.
    """
    return {i: _label(answers) for i, answers in read_answers(path, first).items()}


def read_answers(path: Path, first: int | None = None) -> dict[str, list[Answer]]:
    """The answers to each question in order of arrival, the questions in the order of their ids.

    Nothing is written or has to be. A missing file has no answers. A store of an older version is
    read as it is.

    Args:
        path: The label store.
        first: The number of answers to read, in order of arrival; None reads all. Answers are
            never removed, so the first n are the answers that there were at the nth.

    Raises:
        DataError: If the file is not a label store, or one of a newer version.
        RunDirError: If it cannot be read.
    """
    if not path.is_file():
        return {}
    # Without SQLite's write-ahead log no process has it open, so it can be read as it is.
    in_use = path.with_name(f"{path.name}-wal").exists()
    uri = f"{path.resolve().as_uri()}?{'mode=ro' if in_use else 'immutable=1'}"
    try:
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            version = _version(path, connection)
            if version is None:
                return {}
            limit = -1 if first is None else first
            arrived = f"SELECT * FROM answers ORDER BY number LIMIT {limit}"
            source = f"{_COLUMNS} FROM ({arrived}) ORDER BY question_id, number"
            if version < SCHEMA_VERSION:
                source = f"{_FIRST_ANSWERS} FROM labels ORDER BY question_id"
            found: dict[str, list[Answer]] = {}
            for row in connection.execute(f"SELECT {source}"):
                found.setdefault(row[0], []).append(_answer(row))
            return found
    except sqlite3.Error as error:
        raise _explained(path, error) from error


def _answer(row: Sequence[Any]) -> Answer:
    """An answer from a row with `_COLUMNS`."""
    question_id, answer, source, purpose, annotator, owned, verdict, created_at = row
    return Answer(
        question_id,
        answer,
        source,
        purpose,
        annotator,
        owned=bool(owned),
        settles=verdict == "settles",
        verdict=verdict,
        created_at=created_at,
    )


def _label(answers: Sequence[Answer]) -> Label:
    """The label of a question, by all answers to it."""
    standing = _standing(answers)
    disputed = any(answer.verdict == "differs" for answer in standing)
    return Label(**vars(standing[0]), disputed=disputed)


def _standing(answers: Sequence[Answer]) -> Sequence[Answer]:
    """The answers that count: the label and all later ones."""
    return answers[max(i for i, a in enumerate(answers) if a.verdict in ("first", "settles")) :]


def _verdict(
    row: Given, before: Sequence[Answer], agree: Callable[[str, str], bool]
) -> Verdict | None:
    """The verdict on an answer beside the earlier ones; None if it says nothing new."""
    if not before:
        return "first"
    label = _label(before)
    if row.settles:
        return None if row.answer == label.answer and not label.disputed else "settles"
    # Equality is no equivalence (25 and 0.25 both equal 25 %), so every two answers have to agree.
    same = all(_same(row.answer, each.answer, agree) for each in _standing(before))
    given = {(a.annotator, a.answer) for a in before}
    if (row.annotator, row.answer) in given or (same and row.annotator is None):
        return None
    return "agrees" if same else "differs"


def _same(one: str | None, other: str | None, agree: Callable[[str, str], bool]) -> bool:
    if one is None or other is None:
        return one is other
    return agree(one, other)


def _values(row: Given, owned: bool, verdict: Verdict, now: str) -> tuple[object, ...]:
    """The row as `_COLUMNS`. A question stays owned, or not, as its first answer was."""
    given = (row.question_id, row.answer, row.source, row.purpose, row.annotator)
    return (*given, int(owned), verdict, now)


def _make_or_migrate(path: Path, connection: sqlite3.Connection) -> None:
    """Give the file the present schema, within the caller's transaction. Raises as `_version`.

    A process that dies before the caller's COMMIT leaves the file as it was, and of several that
    open an old file at once, the first to get the lock does the work.
    """
    version = _version(path, connection)
    if version == SCHEMA_VERSION:
        return
    for statement in (_SCHEMA, _BY_QUESTION) if version is None else _FROM_OLDER:
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _version(path: Path, connection: sqlite3.Connection) -> int | None:
    """The version of a label store; None for a file in which nothing was made yet.

    Raises:
        DataError: If it is not a label store, or one of a version that cannot be read.
    """
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if not tables:
        return None
    is_ours = bool({"answers", "labels"} & tables)
    if is_ours and version > SCHEMA_VERSION:
        raise DataError(
            f"{path} is a label store of version {version}: a newer PivotTrace made it, and this "
            f"one reads versions up to {SCHEMA_VERSION}. Install the newer one"
        )
    table = "answers" if version == SCHEMA_VERSION else "labels"
    wanted = set(_COLUMNS.split(", ")) if table == "answers" else _OLDER_COLUMNS
    columns = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
    if version not in READABLE_VERSIONS or not wanted <= columns:
        raise DataError(
            f"{path} is a SQLite file of another program, not a label store (its tables: "
            f"{', '.join(sorted(tables))}). Move it away: the same command then makes a label "
            f"store. If labels were bought already, put their file back from a copy instead"
        )
    return version


def _num_paid(connection: sqlite3.Connection) -> int:
    """Questions whose label costs something: the first answer was not the pool's own."""
    counted = "SELECT count(*) FROM answers WHERE verdict = 'first' AND NOT owned"
    return int(connection.execute(counted).fetchone()[0])


def _is_full(path: Path) -> bool:
    """Whether there is too little room for SQLite's own files."""
    try:
        return shutil.disk_usage(path.parent).free < LEAST_FREE
    except OSError:
        return False


def _cleaned(row: Given, index: int, sources: Collection[str]) -> Given:
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


def _explained(path: Path, error: sqlite3.Error) -> Exception:
    """One of our errors for an error of SQLite, with its cure."""
    code = getattr(error, "sqlite_errorcode", None)
    primary = code & 0xFF if code is not None else None  # extended codes keep the cause on top
    if primary == sqlite3.SQLITE_FULL or (primary == sqlite3.SQLITE_IOERR and _is_full(path)):
        return OutOfDiskError(
            f"{path}: the disk is full; the label was not stored and no earlier one is lost. Free "
            f"some room and run the same command again"
        )
    if primary == sqlite3.SQLITE_IOERR:
        return RunDirError(
            f"{path}: the disk cannot be read or written ({error}); no earlier label is lost. "
            f"Look for errors of the disk or of the network share, then run the same command again"
        )
    if path.is_dir():
        return RunDirError(f"{path} is a folder, and the labels need a file there. Move it away")
    if primary in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return DataError(
            f"{path} is damaged, or no label store ({error}). Put it back from a copy. If no label "
            f"was bought yet, move it away: the same command then makes a new one"
        )
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return RunDirError(
            f"{path}: another process has held it for {LOCK_WAIT_S:.0f} s; end that one and retry"
        )
    return RunDirError(
        f"{path}: label store cannot be read or written ({error}); check that its folder exists "
        "and that you may write there"
    )

"""The label store: every answer that was paid for, in one SQLite file, never beyond the budget.

Each call opens its own connection. So threads may share a store, a fork may inherit it, several
processes may open it at once (say, a web page and a run), and there is nothing to close.
"""

import shutil
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

from pivottrace.errors import BudgetError, DataError, OutOfDiskError, RunDirError
from pivottrace.label_sources import Purpose, label_sources

Row = tuple[str, str, str, Purpose]
"""A label to store: question id, answer, source, purpose; see `Label`."""

SCHEMA_VERSION = 2
"""Version 1 listed the sources in a CHECK, so it knew no source but its own."""
READABLE_VERSIONS = (1, SCHEMA_VERSION)
LOCK_WAIT_S = 30.0
"""A writer holds the lock for milliseconds; half a minute means that its process is stopped."""

LEAST_FREE = 1 << 20
"""Bytes that SQLite's own files always fit into. Its error does not always tell a full disk."""

_COLUMNS = ("question_id", "answer", "source", "purpose", "created_at")
_SCHEMA = """
CREATE TABLE labels (
    question_id TEXT PRIMARY KEY CHECK (question_id <> ''),
    answer      TEXT NOT NULL CHECK (answer <> ''),
    source      TEXT NOT NULL CHECK (source <> ''),
    purpose     TEXT NOT NULL CHECK (purpose IN ('probe', 'annotation')),
    created_at  TEXT NOT NULL
)
"""
# SQLite cannot take a CHECK off a table: the labels move into a new one.
_FROM_VERSION_1 = (
    "ALTER TABLE labels RENAME TO labels_of_version_1",
    _SCHEMA,
    "INSERT INTO labels SELECT question_id, answer, source, purpose, created_at "
    "FROM labels_of_version_1",
    "DROP TABLE labels_of_version_1",
)


@dataclass(frozen=True)
class Label:
    """One true answer.

    Attributes:
        question_id: The question that it answers.
        answer: The answer, stripped, not empty.
        source: Its origin: a label source of the package by its name, or the
            `package.module:name` of another one.
        purpose: A calibration "probe", or "annotation" for training.
        created_at: When it was first stored, UTC, ISO 8601 in seconds. Not part of any result.
    """

    question_id: str
    answer: str
    source: str
    purpose: Purpose
    created_at: str


class LabelStore:
    """Writes true answers, at most `allowed` of them, whoever writes; `read_labels` reads them.

    Attributes:
        path: The SQLite file; made when missing.
        allowed: The budget: distinct questions that may carry a label.
    """

    def __init__(self, path: Path, allowed: int) -> None:
        """Open or make the store. One of version 1 becomes one of version 2, with all its labels.

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
            used = _count(connection)
            connection.execute("COMMIT")
        if used > allowed:
            raise BudgetError(
                f"{path} already holds {used} labels, more than the budget of {allowed}; "
                f"raise the budget to {used} or more, or begin a new run directory"
            )

    def add(self, question_id: str, answer: str, source: str, purpose: Purpose) -> bool:
        """Store one label; see `add_many`. True if it is new."""
        return self.add_many([(question_id, answer, source, purpose)]) == 1

    def add_many(self, rows: Sequence[Row]) -> int:
        """Store labels, all or none, in one transaction.

        The same answer for a known question changes nothing: its first source, purpose and time
        stay. The budget is checked inside the transaction that writes, so that writers who run at
        the same time cannot pass it together.

        Args:
            rows: (question id, answer, source, purpose); answers are stripped.

        Returns:
            How many were new: 0 … len(rows).

        Raises:
            BudgetError: If the store would hold more than `allowed` labels; nothing is written.
            DataError: If an id or answer is empty, a source or purpose unknown, or a question
                already has a different answer; nothing is written.
            OutOfDiskError: If the disk is full.
            RunDirError: If the file cannot be written.
        """
        sources = label_sources()
        cleaned = [_cleaned(row, index, sources) for index, row in enumerate(rows)]
        now = datetime.now(UTC).isoformat(timespec="seconds")
        added = 0
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")  # the write lock now: what we count stays true
            used = _count(connection)
            for question_id, answer, source, purpose in cleaned:
                known = connection.execute(
                    "SELECT answer, source FROM labels WHERE question_id = ?", (question_id,)
                ).fetchone()
                if known is None:
                    connection.execute(
                        "INSERT INTO labels VALUES (?, ?, ?, ?, ?)",
                        (question_id, answer, source, purpose, now),
                    )
                    added += 1
                elif known[0] != answer:
                    raise DataError(
                        f"{self.path}: question {question_id!r} already has the answer "
                        f"{known[0]!r} (source: {known[1]}), and is now given {answer!r} "
                        f"(source: {source}); nothing was stored. Settle which is right and give "
                        "that one; to change a stored answer, begin a new run directory"
                    )
            if used + added > self.allowed:
                raise BudgetError(
                    f"{self.path}: {added} new labels on top of {used} pass the budget of "
                    f"{self.allowed}; nothing was stored. Give at most {self.allowed - used}, "
                    "or raise the label budget"
                )
            connection.execute("COMMIT")
        return added

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


def read_labels(path: Path) -> dict[str, Label]:
    """All labels of a store by question id, without writing or needing to: none if it is missing.

    Labels come in the order of the ids. A store of version 1 is read as it is.

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
            if _version(path, connection) is None:
                return {}
            rows = connection.execute(
                f"SELECT {', '.join(_COLUMNS)} FROM labels ORDER BY question_id"
            ).fetchall()
    except sqlite3.Error as error:
        raise _explained(path, error) from error
    return {row[0]: Label(*row) for row in rows}


def _make_or_migrate(path: Path, connection: sqlite3.Connection) -> None:
    """Give the file the present schema, within the caller's transaction. Raises as `_version`.

    A process that dies before the caller's COMMIT leaves the file as it was, and of several that
    open an old file at once, the first to get the lock does the work.
    """
    version = _version(path, connection)
    if version == SCHEMA_VERSION:
        return
    for statement in (_SCHEMA,) if version is None else _FROM_VERSION_1:
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
    if "labels" in tables and version > SCHEMA_VERSION:
        raise DataError(
            f"{path} is a label store of version {version}: a newer PivotTrace made it, and this "
            f"one reads versions up to {SCHEMA_VERSION}. Install the newer one"
        )
    columns = [row[1] for row in connection.execute("PRAGMA table_info(labels)")]
    if version not in READABLE_VERSIONS or not set(_COLUMNS) <= set(columns):
        raise DataError(
            f"{path} is a SQLite file of another program, not a label store (its tables: "
            f"{', '.join(sorted(tables))}). Move it away: the same command then makes a label "
            f"store. If labels were bought already, put their file back from a copy instead"
        )
    return version


def _is_full(path: Path) -> bool:
    """Whether there is too little room for SQLite's own files."""
    try:
        return shutil.disk_usage(path.parent).free < LEAST_FREE
    except OSError:
        return False


def _count(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM labels").fetchone()[0])


def _cleaned(row: Row, index: int, sources: Collection[str]) -> Row:
    """The row with its answer stripped.

    Args:
        row: As it was given.
        index: Its place among the rows, for messages.
        sources: Names of the package's label sources. One outside it has a colon in its name.

    Raises:
        DataError: If a field is empty, not text, or unknown.
    """
    question_id, answer, source, purpose = row
    for name, text in (("question_id", question_id), ("answer", answer)):
        if not isinstance(text, str) or not text.strip():
            raise DataError(
                f"label {index} (question {question_id!r}): {name} is {text!r}; "
                "give text that is not empty, or leave the label out"
            )
    for name, value, known in (
        ("source", source, sources),
        ("purpose", purpose, get_args(Purpose)),
    ):
        outside = name == "source" and ":" in value
        if value not in known and not outside:
            raise DataError(
                f"label {index} (question {question_id!r}): {name} {value!r} is unknown; "
                f"use one of {', '.join(known)}"
            )
    return question_id, answer.strip(), source, purpose


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

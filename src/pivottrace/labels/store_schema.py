"""The label store as a SQLite file: its tables, its older versions, and errors in plain words."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from pivottrace.errors import DataError, OutOfDiskError, RunDirError
from pivottrace.labels.verdicts import Answer

SCHEMA_VERSION = 4
"""Version 1 listed the sources in a CHECK. Up to version 2 a question had one answer, its label.
Version 3 had no answers that were taken back, and no remarks."""
READABLE_VERSIONS = (1, 2, 3, SCHEMA_VERSION)
LOCK_WAIT_S = 30.0
"""A writer holds the lock for milliseconds; half a minute means that its process is stopped."""
LEAST_FREE = 1 << 20
"""Bytes that SQLite's own files always fit into. Its error does not always tell a full disk."""

ANSWERS = """
CREATE TABLE answers (
    number      INTEGER PRIMARY KEY,
    question_id TEXT NOT NULL CHECK (question_id <> ''),
    answer      TEXT CHECK (answer <> ''),
    source      TEXT NOT NULL CHECK (source <> ''),
    purpose     TEXT NOT NULL CHECK (purpose IN ('probe', 'annotation')),
    annotator   TEXT CHECK (annotator <> ''),
    owned       INTEGER NOT NULL CHECK (owned IN (0, 1)),
    verdict     TEXT NOT NULL
                CHECK (verdict IN ('first', 'agrees', 'differs', 'settles', 'withdraws')),
    created_at  TEXT NOT NULL,
    vote_shown  INTEGER NOT NULL CHECK (vote_shown IN (0, 1)),
    withdraws   INTEGER UNIQUE REFERENCES answers (number)
                CHECK ((verdict = 'withdraws') = (withdraws IS NOT NULL))
)
"""
REMARKS = """
CREATE TABLE remarks (
    number      INTEGER PRIMARY KEY,
    question_id TEXT NOT NULL CHECK (question_id <> ''),
    annotator   TEXT NOT NULL CHECK (annotator <> ''),
    kind        TEXT NOT NULL CHECK (kind IN ('skipped', 'vote_shown', 'comment')),
    text        TEXT NOT NULL,
    created_at  TEXT NOT NULL
)
"""
TABLES = (
    ANSWERS,
    REMARKS,
    "CREATE INDEX by_question ON answers (question_id)",
    "CREATE INDEX remarks_by_question ON remarks (question_id)",
)

_OF_VERSION_3 = "question_id, answer, source, purpose, annotator, owned, verdict, created_at"
COLUMNS = f"{_OF_VERSION_3}, vote_shown, withdraws"
_OLDER_COLUMNS = "question_id, answer, source, purpose, created_at"
# The label of version 1 or 2 is the first answer to its question.
_FIRST_ANSWERS = (
    "question_id, answer, source, purpose, NULL AS annotator, 0 AS owned, "
    "'first' AS verdict, created_at, 0 AS vote_shown, NULL AS withdraws"
)
FROM_LABELS = (
    *TABLES,
    f"INSERT INTO answers ({COLUMNS}) SELECT {_FIRST_ANSWERS} FROM labels ORDER BY question_id",
    "DROP TABLE labels",
)
"""Statements that bring a store of version 1 or 2 to the present one."""
FROM_3 = (
    "ALTER TABLE answers RENAME TO answers_3",
    "DROP INDEX by_question",
    *TABLES,
    f"INSERT INTO answers (number, {COLUMNS}) "
    f"SELECT number, {_OF_VERSION_3}, 0, NULL FROM answers_3 ORDER BY number",
    "DROP TABLE answers_3",
)
"""Statements that bring a store of version 3 to the present one. Each answer keeps its number."""
# By version: the columns of the table with the answers, and the columns of a query that gives its
# rows as rows of the present version.
_COLUMNS_OF = {1: _OLDER_COLUMNS, 2: _OLDER_COLUMNS, 3: f"number, {_OF_VERSION_3}"}
_READ_AS = {
    1: f"row_number() OVER (ORDER BY question_id), {_FIRST_ANSWERS}",
    2: f"row_number() OVER (ORDER BY question_id), {_FIRST_ANSWERS}",
    3: f"number, {_OF_VERSION_3}, 0, NULL",
    SCHEMA_VERSION: f"number, {COLUMNS}",
}


def make_or_migrate(path: Path, connection: sqlite3.Connection) -> None:
    """Give the file the present schema, within the caller's transaction. Raises as `version_of`.

    A process that dies before the caller's COMMIT leaves the file as it was, and of several that
    open an old file at once, the first to get the lock does the work.
    """
    version = version_of(path, connection)
    if version == SCHEMA_VERSION:
        return
    statements = {None: TABLES, 3: FROM_3}.get(version, FROM_LABELS)
    for statement in statements:
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def version_of(path: Path, connection: sqlite3.Connection) -> int | None:
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
    wanted = set(_COLUMNS_OF.get(version, f"number, {COLUMNS}").split(", "))
    columns = {row[1] for row in connection.execute(f"PRAGMA table_info({_table_of(version)})")}
    if version not in READABLE_VERSIONS or not wanted <= columns:
        raise DataError(
            f"{path} is a SQLite file of another program, not a label store (its tables: "
            f"{', '.join(sorted(tables))}). Move it away: the same command then makes a label "
            f"store. If labels were bought already, put their file back from a copy instead"
        )
    return version


def _table_of(version: int) -> str:
    return "labels" if version in (1, 2) else "answers"


def arrived(version: int, first: int | None) -> str:
    """The query of all rows as `row_as_answer` takes them, or of the first rows alone.

    The rows of a question follow each other in order of arrival.
    """
    limit = -1 if first is None or version < 3 else first
    table = _table_of(version)
    order = "question_id" if version < 3 else "number"
    rows = f"(SELECT * FROM {table} ORDER BY {order} LIMIT {limit})"
    then = "question_id" if version < 3 else "question_id, number"
    return f"SELECT {_READ_AS[version]} FROM {rows} ORDER BY {then}"


def row_as_answer(row: Sequence[Any]) -> Answer:
    """An answer from a row with `number` and `COLUMNS`."""
    number, question_id, answer, source, purpose, annotator, owned, verdict, at, shown, gone = row
    return Answer(
        question_id,
        answer,
        source,
        purpose,
        annotator,
        owned=bool(owned),
        settles=verdict == "settles",
        verdict=verdict,
        created_at=at,
        vote_shown=bool(shown),
        number=number,
        withdraws=gone,
    )


@contextmanager
def connected(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection in manual transaction mode; leaving without COMMIT rolls back."""
    try:
        # isolation_level None: transactions are ours, so that each is IMMEDIATE and visible.
        opened = sqlite3.connect(path, timeout=LOCK_WAIT_S, isolation_level=None)
        with closing(opened) as connection:
            yield connection
    except sqlite3.Error as error:
        raise explained(path, error) from error


@contextmanager
def only_reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to a file that exists. It writes nothing, and needs no permission to."""
    # Without SQLite's write-ahead log no process has it open, so it can be read as it is.
    in_use = path.with_name(f"{path.name}-wal").exists()
    uri = f"{path.resolve().as_uri()}?{'mode=ro' if in_use else 'immutable=1'}"
    try:
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise explained(path, error) from error


def explained(path: Path, error: sqlite3.Error) -> Exception:
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


def _is_full(path: Path) -> bool:
    """Whether there is too little room for SQLite's own files."""
    try:
        return shutil.disk_usage(path.parent).free < LEAST_FREE
    except OSError:
        return False

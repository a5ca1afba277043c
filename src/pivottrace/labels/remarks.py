"""Remarks beside the answers: questions that a person skipped, votes that were shown, comments."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Literal, NamedTuple

from pivottrace.labels.store_schema import SCHEMA_VERSION, only_reading, version_of

RemarkKind = Literal["skipped", "vote_shown", "comment"]
"""A person skipped a question (on the page, or by a blank row of a file), has seen the model's vote
on it, or has commented on it."""

_INSERT = (
    "INSERT INTO remarks (question_id, annotator, kind, text, created_at) VALUES (?, ?, ?, ?, ?)"
)
_SAME = "SELECT 1 FROM remarks WHERE question_id = ? AND annotator = ? AND kind = ? AND text = ?"
_SHOWN = (
    "SELECT 1 FROM remarks WHERE question_id = ? AND kind = 'vote_shown' "
    "AND (annotator = ? OR ? IS NULL)"
)
SOMEBODY = "somebody"
"""The annotator of a remark without a name."""


class Remark(NamedTuple):
    """A thing that a person did or said beside answering. Only a comment has a `text`."""

    question_id: str
    annotator: str
    kind: RemarkKind
    text: str = ""
    created_at: str = ""


def insert_remark(connection: sqlite3.Connection, remark: Remark, now: str) -> None:
    """Insert a remark within the caller's transaction, unless the same one is there.

    A page that got no reply sends a remark again.
    """
    key = (remark.question_id, remark.annotator, remark.kind, remark.text)
    if connection.execute(_SAME, key).fetchone() is None:
        connection.execute(_INSERT, (*key, now))


def has_seen_vote(connection: sqlite3.Connection, question_id: str, annotator: str | None) -> bool:
    """Whether a person was shown the model's vote on a question; without a name: whether anybody.

    Anybody may have given an answer without a name.
    """
    key = (question_id, annotator, annotator)
    return connection.execute(_SHOWN, key).fetchone() is not None


def read_remarks(path: Path) -> list[Remark]:
    """All remarks in order of arrival; none in a store of an older version, or in no store.

    Raises:
        DataError: If the file is not a label store, or one of a newer version.
        RunDirError: If it cannot be read.
    """
    if not path.is_file():
        return []
    with only_reading(path) as connection:
        if version_of(path, connection) != SCHEMA_VERSION:
            return []
        columns = ", ".join(Remark._fields)
        rows = connection.execute(f"SELECT {columns} FROM remarks ORDER BY number")
        return [Remark(*row) for row in rows]

"""Label files for people: questions out, answers in, through CSV or JSONL."""

import csv
import io
import json
import re
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pivottrace.errors import DataError, counted
from pivottrace.ingest.settling import shortened
from pivottrace.label_sources import Purpose
from pivottrace.labels.file_rows import COLUMNS, FileRow, escaped, is_csv, known_id, read_rows
from pivottrace.run.storage import write_text
from pivottrace.verifier.decimal_signs import Signs, decimal_signs, without_decimal_comma
from pivottrace.verifier.gold import read_gold
from pivottrace.verifier.placeholders import says_unanswerable

MAX_CELL_CHARS = 32_000
"""Spreadsheets cut a cell at 32,767 characters; a longer question is cut here, visibly."""
_FIRST_NUMBER = re.compile(r"\d+")
SHOWN_PROBLEMS = 20
"""Rows of a refused file that the message names."""


@dataclass(frozen=True)
class Request:
    """One question that needs an answer: shown to a person, who fills the answer in."""

    id: str
    question: str
    purpose: Purpose


class FileAnswer(NamedTuple):
    """One row's answer.

    Attributes:
        question_id: The question that it answers.
        answer: The answer, as `verifier.gold` reads it; None says that it cannot be answered.
        annotator: The person's name, if the file has it.
        place: Its place, for messages ("answers.csv, row 3 (line 5)").
    """

    question_id: str
    answer: str | None
    annotator: str | None
    place: str


class FileAnswers(NamedTuple):
    """The content of a filled-in file.

    Attributes:
        rows: The rows with an answer, in the order of the file.
        blank: Question and annotator of each row that leaves its question unlabelled: an empty one,
            "NA", "don't know".
        num_untouched: Rows that no person has handed in; they are blank, too.
        skipped: Ids of the rows that were not read, because they are of other questions.
        problems: The rows that cannot be taken in, one sentence each.
        note: How the numbers of a file with semicolons were read, if that is a question.
    """

    rows: list[FileAnswer]
    blank: list[tuple[str, str | None]]
    skipped: list[str]
    problems: list[str]
    note: str | None = None
    num_untouched: int = 0

    @property
    def answers(self) -> list[tuple[str, str | None]]:
        """(question id, answer) of each row."""
        return [(row.question_id, row.answer) for row in self.rows]


def export_requests(path: Path, rows: Sequence[Request]) -> None:
    """Write the questions that need answers to a CSV or JSONL file, with nothing filled in yet.

    Atomic. A file there that has answers or names in it is never overwritten: where it already asks
    all of these questions it is left as it is (a half-filled file goes on being filled), else
    refused. CSV is UTF-8 with a byte-order mark, so that spreadsheets read it as UTF-8; over-long
    questions are cut at `MAX_CELL_CHARS` there.

    Args:
        path: Ends in `.csv` or `.jsonl`; its folder exists.
        rows: Questions with ids that are not empty and differ.

    Raises:
        DataError: If the suffix is another one, the folder is missing, an id is empty, repeated or
            not valid Unicode, or the file there is filled in for other questions or is not a label
            file.
        OutOfDiskError: If the disk is full.
        RunDirError: If the file cannot be written.
    """
    if not path.parent.is_dir():
        raise DataError(f"{path}: its folder does not exist; make it, or choose another place")
    ids = _checked_ids(path, rows)
    if path.exists() and path.stat().st_size and _already_asks(path, ids):
        return
    write_text(path, _csv_text(rows) if is_csv(path) else _jsonl_text(rows))


def read_answers(
    path: Path,
    known_ids: set[str],
    pattern: str | None = None,
    *,
    confirmed: bool = False,
    only: Container[str] | None = None,
) -> FileAnswers:
    """Read the answers that people filled in.

    Needs the columns (or keys) `id` and `answer`; `annotator` is read if it is there, and others
    are ignored. CSV may be separated by commas, semicolons or tabs. In a file with semicolons the
    comma is usually the decimal sign (`verifier.decimal_signs`). In JSONL an answer may be a
    number, taken as it is written.

    Answers are read as `read_label` reads them. A row that cannot be taken in is a problem, so that
    one reading names all of them: its id is unknown, or its answer is a derivation, a guess or too
    long.

    Args:
        path: A `.csv` or `.jsonl` file.
        known_ids: Ids that may occur.
        pattern: The user's `answers.pattern`.
        confirmed: Whether the people stand by cells that cannot be read as an answer.
        only: Ids whose rows are read. Rows of other ids, known or not, are skipped.

    Raises:
        DataError: The file is missing, not UTF-8 or malformed, a column is missing, a value has
            the wrong type, or a number has two readings. The message names file, row and column.
    """
    return answers_of(
        str(path), read_rows(path), known_ids, pattern, confirmed=confirmed, only=only
    )


def answers_of(
    origin: str,
    file_rows: Iterable[FileRow],
    known_ids: Container[str],
    pattern: str | None = None,
    *,
    confirmed: bool = False,
    only: Container[str] | None = None,
) -> FileAnswers:
    """Read the answers in rows that came from a file or a server, as `read_answers` does.

    Args:
        origin: The name of the file or of the project, for messages.
        file_rows: The rows.
        known_ids: As for `read_answers`, like the arguments that follow.
        pattern: The user's `answers.pattern`.
        confirmed: Whether the people stand by cells that cannot be read as an answer.
        only: Ids whose rows are read.

    Raises:
        DataError: A number of a file with semicolons has two readings.
    """
    file_rows = list(file_rows)
    signs = _signs(origin, file_rows)
    rows, blank, skipped, problems = [], [], list[str](), list[str]()
    num_untouched = 0
    for row in file_rows:
        question_id, place = known_id(row, known_ids), f"{origin}, {row.where}"
        if only is not None and question_id not in only:
            skipped.append(row.id)
            continue
        if question_id is None:
            problems.append(
                f"{place}, {row.names[0]}: {row.id!r} is not a question of this run; "
                "use the ids of the exported file (spreadsheets drop leading zeros: import the "
                "id column as text), or skip the rows of other questions with --skip-unasked"
            )
            continue
        cell = without_decimal_comma(row.cell) if signs.comma else row.cell
        try:
            read = read_label(cell, f"{place}, {row.names[1]}", pattern, confirmed=confirmed)
        except DataError as error:
            problems.append(str(error))
            continue
        if not row.is_given:
            num_untouched += 1
        elif read is None:
            blank.append((question_id, row.annotator))
        else:
            rows.append(FileAnswer(question_id, read.answer, row.annotator, place))
    return FileAnswers(rows, blank, skipped, problems, signs.note, num_untouched)


def refuse(origin: str, problems: Sequence[str]) -> None:
    """Refuse a file whose rows have problems, all of them in one message.

    Raises:
        DataError: There is a problem.
    """
    if len(problems) == 1:
        raise DataError(problems[0])
    if problems:
        rows = [problem.removeprefix(f"{origin}, ") for problem in problems]
        rows.sort(key=lambda row: int(_FIRST_NUMBER.findall(row)[0]))  # "row 3 (line 5): ..."
        more = [f"and {len(rows) - SHOWN_PROBLEMS} more"] if len(rows) > SHOWN_PROBLEMS else []
        raise DataError(
            "\n  ".join(
                [
                    f"{origin}: {len(rows)} problems, and nothing of it is stored:",
                    *rows[:SHOWN_PROBLEMS],
                    *more,
                ]
            )
        )


def _signs(origin: str, rows: Sequence[FileRow]) -> Signs:
    """The meaning of comma and point in the answers."""
    if not (rows and rows[0].semicolons):
        return Signs(comma=False)
    try:
        return decimal_signs((row.where, row.cell) for row in rows)
    except DataError as error:
        raise DataError(f"{origin}, column answer, {error}") from None


class Read(NamedTuple):
    """A label as read. Its `answer` is None if the question cannot be answered."""

    answer: str | None


class Understood(NamedTuple):
    """The meaning of a text that a person wrote.

    Attributes:
        answer: The answer in it; None without one.
        is_unanswerable: Whether it says that the question cannot be answered.
        problem: Why it can be no answer; None if it can, or leaves the question unlabelled.
    """

    answer: str | None
    is_unanswerable: bool = False
    problem: str | None = None


def understood(text: str, pattern: str | None = None) -> Understood:
    """Read what a person wrote. `pattern` is the user's `answers.pattern`."""
    if says_unanswerable(text):
        return Understood(None, is_unanswerable=True)
    gold = read_gold(text, pattern)
    return Understood(gold.answer or None, problem=gold.problem)


def read_label(
    text: str, where: str, pattern: str | None = None, *, confirmed: bool = False
) -> Read | None:
    """Read a label that a person wrote; None if it leaves the question unlabelled.

    Args:
        text: The text.
        where: Its place, for the message.
        pattern: The user's `answers.pattern`.
        confirmed: Whether the person stands by a text that cannot be read as an answer.

    Raises:
        DataError: It can be no answer.
    """
    found = understood(text, pattern)
    if found.problem is not None and not confirmed:
        raise DataError(
            f"{where}: {shortened(text)!r} {found.problem}; give the final answer alone, leave it "
            f"blank, or confirm it as it stands with --confirm"
        )
    answer = text.strip() if found.problem is not None else found.answer
    return Read(answer) if answer or found.is_unanswerable else None


def _checked_ids(path: Path, rows: Sequence[Request]) -> set[str]:
    ids: set[str] = set()
    for index, row in enumerate(rows, start=1):
        if not row.id.strip():
            raise DataError(f"{path}, row {index}, column id: is empty; give every question an id")
        if row.id in ids:
            raise DataError(f"{path}, row {index}, column id: {row.id!r} is repeated; ask once")
        if "\0" in row.id or row.id != _valid_unicode(row.id):
            raise DataError(
                f"{path}, row {index}, column id: {row.id!r} cannot be written as UTF-8 text; "
                "give the question another id in the pool"
            )
        ids.add(row.id)
    return ids


def _already_asks(path: Path, ids: set[str]) -> bool:
    """Whether the file there is filled in and asks for all of `ids`; False is free to replace.

    Raises:
        DataError: If answers or names would be lost, or the file cannot be understood.
    """
    existing: set[str] = set()
    filled = 0
    try:
        for row in read_rows(path):
            existing.add(known_id(row, ids) or row.id)
            filled += bool(row.cell or row.annotator)
    except DataError as error:
        raise DataError(
            f"{error}. The file is left as it is: move it away, or export to another place"
        ) from error
    if filled and not ids <= existing:
        raise DataError(
            f"{path} has {counted(filled, 'row')} filled in and lacks "
            f"{counted(len(ids - existing), 'question')} to be answered; it is left as it is. "
            f"Import it (pivottrace label import) and move it away, or export to another place"
        )
    return filled > 0


def _csv_text(rows: Sequence[Request]) -> str:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    writer.writerow(COLUMNS)
    for row in rows:
        shown = _valid_unicode(row.question.replace("\0", ""))
        if len(shown) > MAX_CELL_CHARS:
            shown = shown[:MAX_CELL_CHARS] + " … [cut; the whole question is in the pool]"
        writer.writerow((escaped(row.id), escaped(shown), "", "", row.purpose))
    return "\ufeff" + buffer.getvalue()


def _jsonl_text(rows: Sequence[Request]) -> str:
    lines = []
    for row in rows:
        values = (row.id, _valid_unicode(row.question), "", "", row.purpose)
        lines.append(json.dumps(dict(zip(COLUMNS, values, strict=True)), ensure_ascii=False))
    return "".join(line + "\n" for line in lines)


def _valid_unicode(text: str) -> str:
    """Text with lone surrogates (half an emoji, cut by a tokenizer) replaced by "?"."""
    return text.encode("utf-8", "replace").decode("utf-8")

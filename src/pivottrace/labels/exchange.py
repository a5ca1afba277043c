"""Label files for people: questions out, answers in, through CSV or JSONL.

A CSV goes through spreadsheets, which run cells that begin with = + - @ as formulas, drop leading
zeros, add a byte-order mark and, in some countries, write semicolons. So cells that a spreadsheet
would run are written with an apostrophe in front (plain numbers such as -5 are not), and exactly
that apostrophe is taken off again: what was exported comes back as it was.
"""

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pivottrace.errors import DataError
from pivottrace.label_sources import Purpose
from pivottrace.run.storage import write_text
from pivottrace.verifier.exact_text import MAX_ANSWER_CHARS

COLUMNS = ("id", "question", "answer", "purpose")
MAX_CELL_CHARS = 32_000
"""Spreadsheets cut a cell at 32,767 characters; a longer question is cut here, visibly."""

# Characters that make a spreadsheet read a cell as a formula (OWASP, "CSV Injection"), behind any
# number of apostrophes: those already there are escaped too, or two texts would become one.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")
_ESCAPED = re.compile(r"'+[=+\-@\t\r\n＝＋－＠]")
_NUMBER = re.compile(r"[+-]?\d[\d,]*(\.\d+)?|[+-]?\.\d+")


@dataclass(frozen=True)
class Request:
    """One question that needs an answer: shown to a person, who fills the answer in."""

    id: str
    question: str
    purpose: Purpose


@dataclass(frozen=True)
class ImportedAnswers:
    """The content of a filled-in file.

    Attributes:
        answers: (question id, answer), stripped, each id once, in the order of the file.
        blank: Rows whose answer is still empty.
        places: The place of each answer, for messages ("answers.csv, row 3 (line 5)"), by id.
    """

    answers: list[tuple[str, str]]
    blank: int
    places: dict[str, str] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class _Row:
    """A row as read: `where` names it in messages ("row 3 (line 5)")."""

    where: str
    id: str
    answer: str


def export_requests(path: Path, rows: Sequence[Request]) -> None:
    """Write the questions that need answers to a CSV or JSONL file, with an empty answer column.

    Atomic. A file there that has answers in it is never overwritten: where it already asks all of
    these questions it is left as it is (a half-filled file goes on being filled), else refused.
    CSV is UTF-8 with a byte-order mark, so that spreadsheets read it as UTF-8; over-long questions
    are cut at `MAX_CELL_CHARS` there.

    Args:
        path: Ends in `.csv` or `.jsonl`; its folder exists.
        rows: Questions with ids that are not empty and differ.

    Raises:
        DataError: If the suffix is another one, the folder is missing, an id is empty, repeated or
            not valid Unicode, or the file there has answers to other questions or is not a label
            file.
        OutOfDiskError: If the disk is full.
        RunDirError: If the file cannot be written.
    """
    is_csv = _is_csv(path)
    if not path.parent.is_dir():
        raise DataError(f"{path}: its folder does not exist; make it, or choose another place")
    ids = _checked_ids(path, rows)
    if path.exists() and path.stat().st_size and _already_asks(path, ids):
        return
    write_text(path, _csv_text(rows) if is_csv else _jsonl_text(rows))


def read_answers(path: Path, known_ids: set[str]) -> ImportedAnswers:
    """Read the answers that a person filled in.

    Needs the columns (or keys) `id` and `answer`; others are ignored. CSV may be separated by
    commas, semicolons or tabs. In JSONL an answer may be a number, taken as it is written.

    Args:
        path: A `.csv` or `.jsonl` file.
        known_ids: Ids that may occur.

    Returns:
        The answers and the number of blank ones.

    Raises:
        DataError: If the file is missing, not UTF-8 or malformed, a column is missing, a value has
            the wrong type, an id is unknown, an answer is over `MAX_ANSWER_CHARS`, or one id has
            two different answers; names file, row and column.
    """
    first: dict[str, _Row] = {}
    blank = 0
    for row in _read_rows(path):
        question_id = _known_id(path, row.id, known_ids)
        if question_id is None:
            raise DataError(
                f"{path}, {row.where}, column id: {row.id!r} is not a question of this run; use "
                "the ids of the exported file (spreadsheets drop leading zeros: import the id "
                "column as text)"
            )
        if not row.answer:
            blank += 1
            continue
        if len(row.answer) > MAX_ANSWER_CHARS:
            raise DataError(
                f"{path}, {row.where}, column answer: {len(row.answer)} characters; give the final "
                f"answer alone, at most {MAX_ANSWER_CHARS} characters"
            )
        earlier = first.setdefault(question_id, row)
        if earlier.answer != row.answer:
            raise DataError(
                f"{path}, {row.where}, column answer: question {question_id!r} is answered "
                f"{row.answer!r} here and {earlier.answer!r} in {earlier.where}; keep one of them"
            )
    return ImportedAnswers(
        [(key, row.answer) for key, row in first.items()],
        blank,
        {key: f"{path}, {row.where}" for key, row in first.items()},
    )


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
    """Whether the file there has answers in it and asks for all of `ids`; False is free to replace.

    Raises:
        DataError: If answers would be lost, or the file cannot be understood.
    """
    existing: set[str] = set()
    filled = 0
    try:
        for row in _read_rows(path):
            existing.add(_known_id(path, row.id, ids) or row.id)
            filled += bool(row.answer)
    except DataError as error:
        raise DataError(
            f"{error}. The file is left as it is: move it away, or export to another place"
        ) from error
    if filled and not ids <= existing:
        raise DataError(
            f"{path} has {filled} answers filled in and lacks {len(ids - existing)} questions that "
            "need one; it is left as it is. Import it (pivottrace label import) and move it away, "
            "or export to another place"
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
        writer.writerow((escaped(row.id), escaped(shown), "", row.purpose))
    return "\ufeff" + buffer.getvalue()


def _jsonl_text(rows: Sequence[Request]) -> str:
    lines = []
    for row in rows:
        values = (row.id, _valid_unicode(row.question), "", row.purpose)
        lines.append(json.dumps(dict(zip(COLUMNS, values, strict=True)), ensure_ascii=False))
    return "".join(line + "\n" for line in lines)


def escaped(cell: str) -> str:
    """Put an apostrophe before a cell that a spreadsheet would run; `_unescaped` takes it off."""
    return "'" + cell if _FORMULA.match(cell) and not _NUMBER.fullmatch(cell) else cell


def _unescaped(cell: str) -> str:
    return cell[1:] if _ESCAPED.match(cell) else cell


def _valid_unicode(text: str) -> str:
    """Text with lone surrogates (half an emoji, cut by a tokenizer) replaced by "?"."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _is_csv(path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".jsonl"):
        raise DataError(f"{path}: label files end in .csv or .jsonl; give one of these")
    return suffix == ".csv"


def _read_rows(path: Path) -> Iterator[_Row]:
    is_csv = _is_csv(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; export it first, or correct the name") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check that you may") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: byte {error.start} is not UTF-8; save it again as 'CSV UTF-8'"
        ) from error
    yield from _csv_rows(path, text) if is_csv else _jsonl_rows(path, text)


def _csv_rows(path: Path, text: str) -> Iterator[_Row]:
    header_line = re.split(r"[\r\n]", text.lstrip("\r\n"), maxsplit=1)[0]
    separator = max(",;\t", key=header_line.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    header: list[str] | None = None
    number = 0
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if header is None:
                header = [cell.strip().lower() for cell in cells]
                _check_header(path, header)
                continue
            number += 1
            where = f"row {number} (line {reader.line_num})"
            if len(cells) != len(header):
                raise DataError(
                    f"{path}, {where}: {len(cells)} cells under {len(header)} columns; put a text "
                    f'that contains "{separator}" or a line break in double quotes'
                )
            named = dict(zip(header, cells, strict=True))
            yield _row(path, where, named["id"], _unescaped(named["answer"].strip()))
    except csv.Error as error:
        raise DataError(
            f"{path}, row {number + 1} (line {reader.line_num}): not valid CSV ({error}); "
            "look for a double quote that is never closed"
        ) from error
    if header is None:
        _check_header(path, [])


def _check_header(path: Path, header: list[str]) -> None:
    for name in ("id", "answer"):
        if header.count(name) != 1:
            found = ", ".join(header) or "nothing"
            fault = "is missing" if name not in header else "occurs twice"
            raise DataError(
                f"{path}, first row: column {name} {fault} (found: {found}); name the columns "
                f"{', '.join(COLUMNS)}"
            )


def _jsonl_rows(path: Path, text: str) -> Iterator[_Row]:
    # Not splitlines(): U+2028 and its like may stand inside a JSON string.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"row {number}"
        try:
            # Numbers stay as written: 0.10 is not 0.1, and 18 is not 18.0.
            record = json.loads(
                line, parse_int=str, parse_float=str, parse_constant=_refuse_constant
            )
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}, {where}: not valid JSON ({error}); correct it") from error
        if not isinstance(record, dict):
            raise DataError(f"{path}, {where}: is not a JSON object; write one object per line")
        answer = _text(path, where, record, "answer")
        yield _row(path, where, _text(path, where, record, "id") or "", (answer or "").strip())


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no answer")


def _text(path: Path, where: str, record: dict[str, Any], column: str) -> str | None:
    if column not in record:
        raise DataError(f"{path}, {where}: column {column} is missing; give id and answer")
    value = record[column]
    if value is not None and not isinstance(value, str):
        raise DataError(
            f"{path}, {where}, column {column}: is a JSON {type(value).__name__}; "
            "give text or a number"
        )
    return value


def _row(path: Path, where: str, question_id: str, answer: str) -> _Row:
    if not question_id.strip():
        raise DataError(f"{path}, {where}, column id: is empty; ids come from the exported file")
    return _Row(where, question_id, answer)


def _known_id(path: Path, cell: str, known_ids: set[str]) -> str | None:
    """The known id that a cell stands for: without our apostrophe, as it is, or stripped."""
    candidates = (_unescaped(cell), cell) if _is_csv(path) else (cell,)
    for candidate in (*candidates, *(text.strip() for text in candidates)):
        if candidate in known_ids:
            return candidate
    return None

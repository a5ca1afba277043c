"""The rows of label files, and the cells that a spreadsheet would run.

A CSV goes through spreadsheets, which run cells that begin with = + - @ as formulas, drop leading
zeros, add a byte-order mark and, in some countries, write semicolons. So cells that a spreadsheet
would run are written with an apostrophe in front (plain numbers such as -5 are not), and exactly
that apostrophe is taken off again: what was exported comes back as it was.
"""

import csv
import io
import json
import re
from collections.abc import Container, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pivottrace.errors import DataError
from pivottrace.ingest.rows import each_key_once

COLUMNS = ("id", "question", "answer", "annotator", "purpose")
SHORT_FORM = (
    "this is Label Studio's short form, in which the number of a task stands in place of the "
    "question's id, and skipped tasks are missing. Export the project as JSON, or take its answers "
    "with: pivottrace label pull RUN"
)
# Characters that make a spreadsheet read a cell as a formula (OWASP, "CSV Injection"), behind any
# number of apostrophes: those already there are escaped too, or two texts would become one.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")
_ESCAPED = re.compile(r"'+[=+\-@\t\r\n＝＋－＠]")
_NUMBER = re.compile(r"[+-]?\d[\d,]*(\.\d+)?|[+-]?\.\d+")


@dataclass(frozen=True)
class FileRow:
    """A row of a file.

    Attributes:
        where: Its place in messages, "row 3 (line 5)".
        id: Its cell of the column id.
        cell: Its cell of the column answer, stripped.
        annotator: Its cell of the column annotator, stripped; None if blank or missing.
        from_csv: Whether a spreadsheet may have escaped its cells.
        semicolons: Whether semicolons separate the columns of its file.
        question: The question that the person has seen; None if the file need not hold it.
        names: The names of its id and of its answer in messages.
        is_given: Whether a person has handed it in. An unopened task is not.
    """

    where: str
    id: str
    cell: str
    annotator: str | None = None
    from_csv: bool = False
    semicolons: bool = False
    question: str | None = None
    names: tuple[str, str] = ("column id", "column answer")
    is_given: bool = True


def escaped(cell: str) -> str:
    """Put an apostrophe before a cell that a spreadsheet would run; `unescaped` takes it off."""
    return "'" + cell if _FORMULA.match(cell) and not _NUMBER.fullmatch(cell) else cell


def unescaped(cell: str) -> str:
    """Take off the apostrophe that `escaped` puts before a cell."""
    return cell[1:] if _ESCAPED.match(cell) else cell


def is_csv(path: Path) -> bool:
    """Whether a label file is CSV; else it is JSONL. Raises DataError for another suffix."""
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".jsonl"):
        raise DataError(
            f"{path}: label files end in .csv or .jsonl; give one of these (the files of Label "
            f"Studio end in .json, and label export writes them with --format label-studio)"
        )
    return suffix == ".csv"


def read_rows(path: Path) -> Iterator[FileRow]:
    """Yield the rows of a label file.

    Raises:
        DataError: The file is missing, not UTF-8 or malformed, a column is missing, or a value has
            the wrong type; the message names file, row and column.
    """
    from_csv = is_csv(path)
    text = read_text(path)
    yield from _csv_rows(path, text) if from_csv else _jsonl_rows(path, text)


def read_text(path: Path) -> str:
    """The text of a file that people hand in. Raises DataError: it cannot be read as UTF-8."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; export it first, or correct the name") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check that you may") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: byte {error.start} is not UTF-8; save it again as 'CSV UTF-8'"
        ) from error


def _csv_rows(path: Path, text: str) -> Iterator[FileRow]:
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
            cell = unescaped(named["answer"].strip())
            annotator = unescaped(named.get("annotator", "").strip())
            row = _row(path, where, named["id"], cell, annotator)
            yield replace(row, from_csv=True, semicolons=separator == ";")
    except csv.Error as error:
        raise DataError(
            f"{path}, row {number + 1} (line {reader.line_num}): not valid CSV ({error}); "
            "look for a double quote that is never closed"
        ) from error
    if header is None:
        _check_header(path, [])


def _check_header(path: Path, header: list[str]) -> None:
    if {"annotation_id", "question_id"} <= set(header):
        raise DataError(f"{path}: {SHORT_FORM}")
    if header.count("annotator") > 1:
        raise DataError(f"{path}, first row: column annotator occurs twice; keep one of them")
    for name in ("id", "answer"):
        if header.count(name) != 1:
            found = ", ".join(header) or "nothing"
            fault = "is missing" if name not in header else "occurs twice"
            raise DataError(
                f"{path}, first row: column {name} {fault} (found: {found}); name the columns "
                f"{', '.join(COLUMNS)}"
            )


def _jsonl_rows(path: Path, text: str) -> Iterator[FileRow]:
    # Not splitlines(): U+2028 and its like may stand inside a JSON string.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"row {number}"
        try:
            # Numbers stay as written: 0.10 is not 0.1, and 18 is not 18.0.
            record = json.loads(
                line,
                parse_int=str,
                parse_float=str,
                parse_constant=_refuse_constant,
                object_pairs_hook=each_key_once,
            )
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}, {where}: not valid JSON ({error}); correct it") from error
        if not isinstance(record, dict):
            raise DataError(f"{path}, {where}: is not a JSON object; write one object per line")
        answer = _text(path, where, record, "answer")
        annotator = _text(path, where, {"annotator": None} | record, "annotator")
        question_id = _text(path, where, record, "id") or ""
        yield _row(path, where, question_id, (answer or "").strip(), (annotator or "").strip())


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


def _row(path: Path, where: str, question_id: str, cell: str, annotator: str) -> FileRow:
    if not question_id.strip():
        raise DataError(f"{path}, {where}, column id: is empty; ids come from the exported file")
    return FileRow(where, question_id, cell, annotator or None)


def known_id(row: FileRow, known_ids: Container[str]) -> str | None:
    """The known id that a row names: without our apostrophe, as it is, or stripped."""
    candidates = (unescaped(row.id), row.id) if row.from_csv else (row.id,)
    for candidate in (*candidates, *(text.strip() for text in candidates)):
        if candidate in known_ids:
            return candidate
    return None

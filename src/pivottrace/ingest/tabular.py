"""Rows of JSONL, JSON, CSV and parquet files.

Rows are streamed through plain Python, without inference of column types. A dataframe reader would
silently change mixed columns, large integers and "007".
"""

from __future__ import annotations

import codecs
import csv
import json
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count, islice
from pathlib import Path
from typing import Any, NamedTuple

from pivottrace.errors import DataError, first_line, is_out_of_memory
from pivottrace.ingest.rows import Row, each_key_once


class Opened(NamedTuple):
    """A file's columns, a function that starts a new pass over its rows, and how to read them."""

    columns: tuple[str, ...]
    rows: Callable[[], Iterator[Row]]
    unit: str
    semicolons: bool = False


PARQUET_BATCH_ROWS = 8_192
# In this order, so that the comma wins where none occurs.
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_BLANK = re.compile(r"[ \t\r\n]*+")
_BOM = "\ufeff"  # Excel and PowerShell put one before the first character


def read_jsonl(name: str, path: Path, limit: int | None) -> Opened:
    """Open a file of one JSON object per line; blank lines are skipped, but counted as lines."""

    def rows() -> Iterator[Row]:
        for number, line in _lines(name, path):
            if line.strip():
                yield number, _parse_object(name, number, line)

    # A key may first occur far down (only some rows have an answer), so this is a separate pass.
    columns: dict[str, None] = {}
    for _, row in islice(rows(), limit):
        columns.update(dict.fromkeys(row))
    return Opened(tuple(columns), rows, "line")


def read_json(name: str, path: Path, limit: int | None) -> Opened:
    """Open a file of one JSON list of objects, or of several objects one after the other."""
    items = _parse_values(name, "".join(line for _, line in _lines(name, path)))
    if len(items) == 1:
        (items,) = items
    if not isinstance(items, list):
        raise DataError(
            f"{name}: holds {_json_type(items)}, not a list of objects. Write the questions as "
            '[{"prompt": ...}, ...], or one object per line in a .jsonl file'
        )
    for number, item in enumerate(items, 1):
        if not isinstance(item, dict):
            raise DataError(
                f"{name}: row {number}: is {_json_type(item)}, not an object. Write "
                '{"prompt": ...} for every question'
            )
    columns = dict.fromkeys(key for item in items[:limit] for key in item)
    return Opened(tuple(columns), lambda: iter(enumerate(items, 1)), "row")


def _parse_values(name: str, text: str) -> list[Any]:
    """Return the JSON values that stand in a text one after the other, as in JSON Lines."""
    values = []
    decoder = json.JSONDecoder(object_pairs_hook=each_key_once)
    end = _after_blanks(text, 0)
    while end < len(text):
        try:
            value, end = decoder.raw_decode(text, end)
        except json.JSONDecodeError as error:
            raise DataError(
                f"{name}: line {error.lineno}: not valid JSON ({error.msg}). Correct it there"
            ) from None
        except (ValueError, RecursionError) as error:
            raise DataError(f"{name}: not valid JSON ({error}). Correct it") from None
        values.append(value)
        end = _after_blanks(text, end)
    return values


def _after_blanks(text: str, start: int) -> int:
    found = _BLANK.match(text, start)
    return found.end() if found else start


def read_csv(name: str, path: Path, limit: int | None) -> Opened:
    """Open a file of a header and rows, separated by commas, semicolons or tabs.

    The separator is the sign that the header has most often; a comma if it has no such sign.
    Every value is text. An empty field is a missing value. Blank lines are skipped.
    """
    separator = _separator(line for _, line in _lines(name, path))

    def records() -> Iterator[list[str]]:
        lines = (line for _, line in _lines(name, path))
        # With `strict` an unclosed quote is an error; without it the rest of the file is one field.
        reader = csv.reader(lines, delimiter=separator, strict=True)
        try:
            yield from reader
        except csv.Error as error:
            raise DataError(
                f"{name}: line {reader.line_num}: not valid CSV ({error}). Look for a quote that "
                "is not closed, or use JSONL for long texts"
            ) from None

    header = next(filter(None, records()), [])
    repeated = next((column for column in header if header.count(column) > 1), None)
    if repeated is not None:
        raise DataError(f"{name}: column {repeated!r} occurs twice in the header. Rename one")

    def rows() -> Iterator[Row]:
        for number, record in enumerate(islice(filter(None, records()), 1, None), 1):
            if len(record) != len(header):
                raise DataError(
                    f"{name}: row {number}: has {len(record)} fields, the header has "
                    f"{len(header)}. Put texts with {_SEPARATORS[separator]} or line breaks in "
                    "double quotes"
                )
            yield number, {k: v if v != "" else None for k, v in zip(header, record, strict=True)}

    return Opened(tuple(header), rows, "row", semicolons=separator == ";")


def _separator(lines: Iterator[str]) -> str:
    header = next((line for line in lines if line.strip()), "")
    outside = "".join(header.split('"')[::2])  # what stands between quotes is a column's name
    return max(_SEPARATORS, key=outside.count)


def read_parquet(name: str, path: Path, limit: int | None) -> Opened:
    """Open a parquet file; its rows are read one batch at a time."""
    from pivottrace.run.storage import parquet_file

    def rows() -> Iterator[Row]:
        with _whole_parquet(name), parquet_file(path) as file:
            yield from arrow_rows(name, file.iter_batches(PARQUET_BATCH_ROWS))

    with _whole_parquet(name), parquet_file(path) as file:
        return Opened(tuple(file.schema_arrow.names), rows, "row")


@contextmanager
def _whole_parquet(name: str) -> Iterator[None]:
    """Turn the errors of a damaged parquet file into a DataError.

    Arrow raises ValueError and OSError of its own for bytes that it cannot read. Values that Python
    cannot hold, such as a date in the year 200000, are a ValueError or an OverflowError.
    """
    import pyarrow as pa

    try:
        yield
    except (DataError, MemoryError):
        raise
    except (pa.ArrowException, ValueError, OverflowError, OSError) as error:
        if is_out_of_memory(error):
            raise MemoryError(first_line(error)) from error
        raise DataError(
            f"{name}: not a whole parquet file ({first_line(error)}). Write or copy it again"
        ) from None


def arrow_rows(name: str, batches: Any) -> Iterator[Row]:
    """Yield the rows of Arrow record batches or tables, numbered from 1.

    Raises:
        DataError: Two columns have the same name, or a text is not UTF-8 (Arrow does not check
            this).
    """
    number = 0
    for batch in batches:
        names = batch.schema.names
        repeated = next((column for column in names if names.count(column) > 1), None)
        if repeated is not None:
            raise DataError(f"{name}: column {repeated!r} occurs twice. Rename one of them")
        try:
            rows = batch.to_pylist()
        except UnicodeDecodeError:
            raise _not_utf8_in_arrow(name, batch, number) from None
        for row in rows:
            number += 1
            yield number, row


def _not_utf8_in_arrow(name: str, batch: Any, rows_before: int) -> DataError:
    for column in batch.schema.names:
        for index, value in enumerate(batch.column(column)):
            try:
                value.as_py()
            except UnicodeDecodeError as error:
                where = f"row {rows_before + index + 1}: column {column!r}"
                return DataError(f"{name}: {where}: not UTF-8 ({error.reason}). Write it as UTF-8")
    return DataError(f"{name}: some text is not UTF-8. Write it as UTF-8")


def _lines(name: str, path: Path) -> Iterator[tuple[int, str]]:
    """Yield lines with their numbers, decoded one by one so that an error names its line."""
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            try:
                line = raw.decode("utf-8")
            except UnicodeDecodeError as error:
                utf16 = number == 1 and raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
                new = _unused_name(path)
                raise DataError(
                    f"{name}: line {number}: byte {error.start + 1} "
                    f"(0x{raw[error.start]:02x}) is not UTF-8. Give {new.name} "
                    f"in its place, made with: iconv -f {'utf-16' if utf16 else 'cp1252'} -t utf-8 "
                    f"{shlex.quote(str(path))} > {shlex.quote(str(new))}"
                ) from None
            yield number, line.removeprefix(_BOM) if number == 1 else line


def _unused_name(path: Path) -> Path:
    """A name beside a file that no file has, for its copy in UTF-8."""
    names = (f"{path.stem}_utf8{'_' * number}{path.suffix}" for number in count())
    return next(new for name in names if not (new := path.with_name(name)).exists())


def _parse_object(name: str, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line, object_pairs_hook=each_key_once)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{name}: line {number}: not valid JSON ({error.msg} at column {error.colno}). "
            "Correct the line, or take it out"
        ) from None
    except (ValueError, RecursionError) as error:  # 5,000 digits; 100,000 brackets
        raise DataError(
            f"{name}: line {number}: not usable JSON ({error}). Correct the line, or take it out"
        ) from None
    if not isinstance(row, dict):
        raise DataError(
            f"{name}: line {number}: is {_json_type(row)}, not an object. "
            'Write {"prompt": ...} on every line'
        )
    return row


def _json_type(value: Any) -> str:
    if value is None:
        return "null"
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}
    return names.get(type(value), "a number")

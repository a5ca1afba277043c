"""Rows of JSONL, JSON, CSV and parquet files.

Rows are streamed through plain Python, without inference of column types. A dataframe reader would
silently change mixed columns, large integers and "007".
"""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from pivottrace.errors import DataError
from pivottrace.ingest.rows import Row

Opened = tuple[tuple[str, ...], Callable[[], Iterator[Row]], str]
"""(columns, function that starts a new pass over the rows, unit of their numbers)."""

PARQUET_BATCH_ROWS = 8_192
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
    return tuple(columns), rows, "line"


def read_json(name: str, path: Path, limit: int | None) -> Opened:
    """Open a file of one JSON list of objects."""
    text = "".join(line for _, line in _lines(name, path))
    try:
        items = json.loads(text)
    except json.JSONDecodeError as error:
        hint = (
            "It looks like JSON Lines: name it .jsonl"
            if error.msg == "Extra data"
            else "Correct it there"
        )
        raise DataError(
            f"{name}: line {error.lineno}: not valid JSON ({error.msg}). {hint}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name}: not valid JSON ({error}). Correct it") from None
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
    return tuple(columns), lambda: iter(enumerate(items, 1)), "row"


def read_csv(name: str, path: Path, limit: int | None) -> Opened:
    """Open a file of a header and comma-separated rows; every value is text.

    An empty field is a missing value. Blank lines are skipped.
    """

    def records() -> Iterator[list[str]]:
        # With `strict` an unclosed quote is an error; without it the rest of the file is one field.
        reader = csv.reader((line for _, line in _lines(name, path)), strict=True)
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
                    f"{len(header)}. Put texts with commas or line breaks in double quotes"
                )
            yield number, {k: v if v != "" else None for k, v in zip(header, record, strict=True)}

    return tuple(header), rows, "row"


def read_parquet(name: str, path: Path, limit: int | None) -> Opened:
    """Open a parquet file; its rows are read one batch at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def broken(error: Exception) -> DataError:
        return DataError(f"{name}: not a whole parquet file ({error}). Write or copy it again")

    try:
        columns = tuple(pq.read_schema(path).names)
    except (pa.ArrowException, OSError) as error:
        raise broken(error) from None

    def rows() -> Iterator[Row]:
        with pq.ParquetFile(path) as file:
            try:
                yield from arrow_rows(name, file.iter_batches(PARQUET_BATCH_ROWS))
            except (pa.ArrowException, OSError) as error:
                raise broken(error) from None

    return columns, rows, "row"


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
                raise DataError(
                    f"{name}: line {number}: byte {error.start + 1} "
                    f"(0x{raw[error.start]:02x}) is not UTF-8. Convert the file, with: "
                    f"iconv -f {'utf-16' if utf16 else 'cp1252'} -t utf-8 {path.name}"
                ) from None
            yield number, line.removeprefix(_BOM) if number == 1 else line


def _parse_object(name: str, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
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

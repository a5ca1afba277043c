"""A file of questions, opened by its suffix."""

from __future__ import annotations

from pathlib import Path

from pivottrace.errors import DataError
from pivottrace.ingest import tabular
from pivottrace.ingest.rows import Source

FILE_SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")


def open_file(name: str, path: Path, column_map: dict[str, str], limit: int | None) -> Source:
    """Open one file; `name` stands for it in messages.

    Raises:
        DataError: The file is missing, empty or broken, or of a kind that is not read.
    """
    if not path.exists():
        raise DataError(f"{name}: no such file. Check the path (it is relative to where you are)")
    readers = {
        ".jsonl": tabular.read_jsonl,
        ".json": tabular.read_json,
        ".csv": tabular.read_csv,
        ".tsv": tabular.read_csv,
        ".parquet": tabular.read_parquet,
    }
    if path.suffix.lower() == ".xml":
        raise DataError(
            f"{name}: XML is not read, because every XML file has elements of its own. Write one "
            'JSON object per question into a .jsonl file: {"prompt": "...", "answer": "..."}'
        )
    if path.suffix.lower() not in readers:
        raise DataError(
            f"{name}: files ending in {path.suffix or 'nothing'!r} are not read; "
            f"write the questions as one of {', '.join(FILE_SUFFIXES)}"
        )
    try:
        path.open("rb").close()
    except PermissionError:
        raise DataError(f"{name}: no permission to read it. Change that, or copy it") from None
    if path.stat().st_size == 0:
        raise DataError(f"{name}: the file is empty. Give one with at least one question")
    found = readers[path.suffix.lower()](name, path, limit)
    return Source(
        name,
        found.columns,
        found.rows,
        found.unit,
        column_map,
        semicolons=found.semicolons,
    )

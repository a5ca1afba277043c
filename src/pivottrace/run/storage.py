"""Files of a run: each is read whole or not at all, and written whole or not at all.

A writer writes a temporary file beside the target, syncs it to the disk, and renames it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pivottrace.errors import OutOfDiskError, RunDirError


def read_parquet(
    path: Path,
    columns: Sequence[str] | None = None,
    filters: Any = None,
    made_by: str | None = None,
) -> pa.Table:
    """Read a parquet file of a run, which the stage `made_by` has written.

    Raises:
        RunDirError: The file is torn, or an older version wrote it without one of the columns.
    """
    _refuse_missing(path, columns or (), made_by)
    with torn(path):
        return pq.read_table(path, columns=columns and list(columns), filters=filters)


def iter_parquet(
    path: Path, columns: Sequence[str], rows: int, made_by: str
) -> Iterator[pa.RecordBatch]:
    """Yield batches of at most so many rows of a parquet file, for files that are too long at once.

    Raises:
        RunDirError: As `read_parquet`.
    """
    _refuse_missing(path, columns, made_by)
    with torn(path), pq.ParquetFile(path) as file:
        yield from file.iter_batches(rows, columns=list(columns))


def num_rows(path: Path) -> int:
    """The number of rows of a parquet file. Raises RunDirError if it is torn."""
    with torn(path):
        number: int = pq.read_metadata(path).num_rows
        return number


def num_list_values(column: pa.ChunkedArray) -> int:
    """How many values the lists of a column hold together, such as its tokens."""
    return int(pc.sum(pc.list_value_length(column)).as_py() or 0)


def column_names(path: Path) -> list[str]:
    """The columns of a parquet file. Raises RunDirError if it is torn."""
    with torn(path):
        names: list[str] = pq.read_schema(path).names
        return names


def _refuse_missing(path: Path, columns: Sequence[str], made_by: str | None) -> None:
    found = column_names(path)
    missing = [name for name in columns if name not in found]
    if missing:
        raise RunDirError(
            f"{path} has no column {', '.join(missing)}: an older version of pivottrace made it. "
            f"Make the stage{f' {made_by}' if made_by else ''} again, in another run directory "
            f"(--output)."
        )


def read_json(path: Path) -> dict[str, Any]:
    """Read an object from a JSON file of a run. Raises RunDirError if the file is torn."""
    with torn(path):
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return values


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Read a log of a run; a missing log has no rows. A last line that a kill has cut is left out.

    Raises:
        RunDirError: Another line is torn.
    """
    with torn(path):
        *whole, last = path.read_text(encoding="utf-8").split("\n") if path.is_file() else [""]
        rows = [json.loads(line) for line in whole]
        with suppress(json.JSONDecodeError):
            rows += [json.loads(last)]
        return rows


@contextmanager
def torn(path: Path) -> Iterator[None]:
    """Turn a reader's error about a torn file into a RunDirError with the cure."""
    try:
        yield
    except (pa.ArrowException, ValueError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RunDirError(
            f"{path} is torn ({reason}). It was whole when it was written: put it back from a "
            f"copy, or start again in another directory (--output)."
        ) from error


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write a parquet file atomically; its bytes are on the disk before it gets its name.

    Raises:
        OutOfDiskError: The disk is full.
        RunDirError: The file cannot be written.
    """
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.tmp")
        pq.write_table(table, beside, compression="zstd")
        _rename(beside, path)


def write_batches(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """Write a long parquet file batch by batch, atomically. Raises as `write_parquet`.

    Only text columns get dictionaries and the tighter compression: numbers rarely repeat, so they
    would gain little.
    """
    texts = [field.name for field in schema if field.type == pa.string()]
    packing = {name: "zstd" if name in texts else "lz4" for name in schema.names}
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.tmp")
        with pq.ParquetWriter(beside, schema, compression=packing, use_dictionary=texts) as writer:
            for batch in batches:
                writer.write_batch(batch)
        _rename(beside, path)


def write_text(path: Path, text: str) -> None:
    """Write a small text file atomically. Raises as `write_parquet`."""
    with disk_errors(path):
        beside = path.with_name(f".{path.name}.tmp")
        beside.write_bytes(text.encode())
        _rename(beside, path)


def digest_file(path: Path) -> str:
    """SHA-256 of the bytes in a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def onto_disk(path: Path) -> None:
    """Wait until a file's bytes are on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _rename(beside: Path, path: Path) -> None:
    onto_disk(beside)
    beside.replace(path)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn an OSError of a writer into an OutOfDiskError or a RunDirError with the cure."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise OutOfDiskError(
                f"{path}: the disk is full. Free some room and run the same command again; "
                f"finished parts are kept."
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            reason = "no permission to write there"
        elif error.errno in (errno.ENOTDIR, errno.EEXIST):
            reason = "a file is in the way"
        else:
            reason = f"it cannot be written ({error.strerror or error})"
        raise RunDirError(
            f"{path}: {reason}. Give another place (for a run, with --output)."
        ) from error

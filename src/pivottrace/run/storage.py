"""Files of a run: each is read whole or not at all, and written whole or not at all.

A writer writes a temporary file of its own beside the target, syncs it to the disk, and renames it.
Tables and JSON objects carry a checksum, and every reader compares it: a file that changed since it
was written is refused.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import secrets
import shlex
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pivottrace.errors import (
    OutOfDiskError,
    RunDirError,
    TornFileError,
    first_line,
    is_out_of_memory,
)
from pivottrace.run.sealing import is_sealed, refuse_broken_seal, seal
from pivottrace.schemas import LOG_KEYS

MANIFEST = "manifest.json"
CHECKSUM = "crc32"
"""Key of a JSON object's checksum over its other entries."""
# A quota is a disk of one's own.
FULL = (errno.ENOSPC, errno.EDQUOT)


# Reading --------------------------------------------------------------------------------------


def read_parquet(
    path: Path,
    columns: Sequence[str] | None = None,
    filters: Any = None,
    made_by: str | None = None,
) -> pa.Table:
    """Read a parquet file of a run, which the stage `made_by` has written.

    Raises:
        TornFileError: The file is torn.
        RunDirError: An older version wrote it without one of the columns.
    """
    _refuse_missing(path, columns or (), made_by)
    with torn(path):
        refuse_broken_seal(path)
        names = None if columns is None else list(columns)
        return pq.read_table(path, columns=names, filters=filters, page_checksum_verification=True)


def iter_parquet(
    path: Path, columns: Sequence[str], rows: int, made_by: str
) -> Iterator[pa.RecordBatch]:
    """Yield batches of at most so many rows of a parquet file, for files that are too long at once.

    Raises:
        RunDirError: As `read_parquet`.
    """
    _refuse_missing(path, columns, made_by)
    with torn(path), parquet_file(path) as file:
        yield from file.iter_batches(rows, columns=list(columns))


@contextmanager
def parquet_file(path: Path) -> Iterator[pq.ParquetFile]:
    """Open a parquet file to read it in parts. All checksums that it has are compared.

    Raises:
        ValueError: The file is torn. Arrow has no single error for this: it raises OSError too.
        OSError: The file is torn or cannot be read.
    """
    refuse_broken_seal(path)
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        yield file


def num_rows(path: Path) -> int:
    """The number of rows of a parquet file. Raises TornFileError."""
    with torn(path), parquet_file(path) as file:
        number: int = file.metadata.num_rows
        return number


def num_list_values(column: pa.ChunkedArray) -> int:
    """How many values the lists of a column hold together, such as its tokens."""
    return int(pc.sum(pc.list_value_length(column)).as_py() or 0)


def schema_of(path: Path) -> pa.Schema:
    """The schema of a parquet file. Raises TornFileError."""
    with torn(path), parquet_file(path) as file:
        return file.schema_arrow


def column_names(path: Path) -> list[str]:
    """The columns of a parquet file. Raises TornFileError."""
    names: list[str] = schema_of(path).names
    return names


def refuse_torn(path: Path) -> None:
    """Read a whole parquet or JSON file of a run. Raises TornFileError."""
    if path.suffix == ".json":
        read_json(path)
        return
    with torn(path), parquet_file(path) as file:
        if not is_sealed(path):
            for _ in file.iter_batches():
                pass


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
    """Read an object from a JSON file, and compare its checksum, if it has one.

    Raises:
        TornFileError: The file is torn, or it does not hold an object.
    """
    with torn(path):
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError(f"it holds a {type(values).__name__}, not an object")
        stored = values.pop(CHECKSUM, None)
        if stored not in (None, _checksum_of(values)):
            raise ValueError("its entries do not match its checksum")
        return values


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Read a log of a run; a missing log has no rows. A last line that a kill has cut is left out.

    Raises:
        TornFileError: Another line is torn, or it lacks one of its `LOG_KEYS`.
    """
    rows: list[dict[str, Any]] = []
    keys = set(LOG_KEYS.get(path.name, ()))
    lines = path.read_bytes().split(b"\n") if path.is_file() else [b""]
    for number, line in enumerate(lines, 1):
        cure = f"Put it back from a copy, or take line {number} out."
        try:
            row = json.loads(line)
        except ValueError as error:
            if number == len(lines):
                break
            raise TornFileError(f"{path} is torn (line {number} is no JSON). {cure}") from error
        if not isinstance(row, dict) or not row.keys() >= keys:
            raise TornFileError(f"{path} is torn (line {number} lacks one of its keys). {cure}")
        rows.append(row)
    return rows


@contextmanager
def torn(path: Path) -> Iterator[None]:
    """Turn a reader's error about a torn file into a TornFileError with the cure.

    Raises:
        TornFileError: The file is torn, or it is missing.
        RunDirError: The file cannot be opened.
    """
    try:
        yield
    except MemoryError:  # Arrow's own is a ValueError's sibling, and no fault of the file
        raise
    except FileNotFoundError as error:
        raise TornFileError(f"{path} is missing. {_cure(path)}") from error
    except (pa.ArrowException, ValueError, OSError) as error:
        if is_out_of_memory(error):  # a thread that Arrow did not get is no fault of the file
            raise MemoryError(first_line(error)) from error
        # Arrow's errors about bytes have no number; the system's have one.
        number = error.errno if isinstance(error, OSError) else None
        if number in (None, errno.EIO):
            raise TornFileError(f"{path} is torn ({first_line(error)}). {_cure(path)}") from error
        raise RunDirError(f"{path} cannot be read ({os.strerror(number)}).") from error


def _cure(path: Path) -> str:
    """How to get a file back: its run makes it again, if it belongs to one with a manifest."""
    again = "start again in another directory (--output)."
    run = next((folder for folder in path.parents if (folder / MANIFEST).is_file()), None)
    if run is not None and path != run / MANIFEST:
        again = f"have it made again with: pivottrace repair {shlex.quote(str(run))}"
    return f"It was whole when it was written: put it back from a copy, or {again}"


# Writing --------------------------------------------------------------------------------------


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write a parquet file atomically; its bytes are on the disk before it gets its name.

    Raises:
        OutOfDiskError: The disk is full.
        RunDirError: The file cannot be written.
    """
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with _new_file(path) as file:
        pq.write_table(table, file, compression="zstd", write_page_checksum=True)
        seal(file)


def write_batches(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """Write a long parquet file batch by batch, atomically. Raises as `write_parquet`.

    Only text columns get dictionaries and the tighter compression: numbers rarely repeat, so they
    would gain little.
    """
    texts = [field.name for field in schema if field.type == pa.string()]
    packing = {name: "zstd" if name in texts else "lz4" for name in schema.names}
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with _new_file(path) as file:
        with pq.ParquetWriter(
            file, schema, compression=packing, use_dictionary=texts, write_page_checksum=True
        ) as writer:
            for batch in batches:
                writer.write_batch(batch)
        seal(file)


def write_text(path: Path, text: str) -> None:
    """Write a small text file atomically. Raises as `write_parquet`."""
    with _new_file(path) as file:
        file.write(text.encode())


def write_json(path: Path, values: dict[str, Any], sort_keys: bool = False) -> None:
    """Write an object as a JSON file with its checksum, atomically. Raises as `write_parquet`."""
    plain = json.loads(json.dumps(values))  # as a reader gets it: keys are texts
    sealed = plain | {CHECKSUM: _checksum_of(plain)}
    write_text(path, json.dumps(sealed, indent=2, sort_keys=sort_keys) + "\n")


def _checksum_of(values: dict[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(values, sort_keys=True).encode()):08x}"


def digest_file(path: Path) -> str:
    """SHA-256 of the bytes in a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def onto_disk(path: Path) -> None:
    """Wait until a file's bytes are on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


@contextmanager
def _new_file(path: Path) -> Iterator[BinaryIO]:
    """A new file to write. At the end it is on the disk and gets the name `path`."""
    with disk_errors(path), _temporary(path) as file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).replace(path)
        finally:
            Path(file.name).unlink(missing_ok=True)


def _temporary(path: Path) -> BinaryIO:
    """A file beside `path` that only this writer has, so that two writers don't meet in one.

    The lock tells `sweep` that its writer lives.
    """
    while True:
        beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        file: BinaryIO = beside.open("x+b")
        with suppress(OSError):  # no file system has to know locks
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()  # a sweep took it before it was locked


def sweep(folder: Path) -> None:
    """Remove the temporary files that killed writers left in a folder and below it."""
    for path in folder.rglob(".*.tmp"):
        # A lock that is held, or a file that its writer has just renamed, is an OSError.
        with suppress(OSError), path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn an OSError of a writer into an OutOfDiskError or a RunDirError with the cure."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
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

"""The seal of a parquet file: a checksum of all its bytes, in its footer.

Parquet's own checksums cover the pages alone. A flipped bit in a page's header or in the footer can
change values without an error. The seal follows the footer's last field and counts in the footer's
length, where readers of parquet skip it. It is at a fixed distance from the file's end, so a
damaged length does not hide it. Files of older versions and of other tools have no seal.
"""

from __future__ import annotations

import os
import struct
import zlib
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

# The file ends with: the mark, the checksum, the length of the footer with both, PARQUET.
MARK = b"\x00PTcrc32\x00\xff\x00\xff"
PARQUET = b"PAR1"
_CHECKSUM, _END = struct.Struct("<I"), struct.Struct("<I4s")
SEALED_END = len(MARK) + _CHECKSUM.size + _END.size
BLOCK = 1 << 20  # bytes read at once


def seal(file: BinaryIO) -> None:
    """Put the seal into a parquet file that is open to read and to write."""
    end = file.seek(-_END.size, os.SEEK_END)
    length, _ = _END.unpack(file.read(_END.size))
    last = _END.pack(length + len(MARK) + _CHECKSUM.size, PARQUET)
    file.seek(0)
    checksum = zlib.crc32(last, zlib.crc32(MARK, _checksum(file, end)))
    file.seek(end)
    file.write(MARK + _CHECKSUM.pack(checksum) + last)


def refuse_broken_seal(path: Path) -> None:
    """Compare a parquet file with its seal, once in a process for a file that does not change.

    Raises:
        ValueError: They differ.
        OSError: The file cannot be read.
    """
    status = path.stat()
    _compare(path, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@lru_cache(maxsize=1 << 16)
def _compare(path: Path, *identity: int) -> None:
    with path.open("rb") as file:
        stored = _stored(file)
        if stored is None:
            return
        end = file.seek(-SEALED_END, os.SEEK_END)
        file.seek(0)
        checksum = _checksum(file, end + len(MARK))
        file.seek(-_END.size, os.SEEK_END)
        if zlib.crc32(file.read(), checksum) != stored:
            raise ValueError("its bytes do not match its checksum")


def is_sealed(path: Path) -> bool:
    """Whether a parquet file has a seal."""
    with path.open("rb") as file:
        return _stored(file) is not None


def checksum_of(path: Path) -> str:
    """The checksum of a file, or of all files in a folder with their names, as 8 hex digits.

    That of a sealed file is read off its seal.
    """
    if path.is_dir():
        inside = sorted(p for p in path.rglob("*") if p.is_file() and p.name[0] != ".")
        lines = (f"{p.relative_to(path).as_posix()} {checksum_of(p)}\n" for p in inside)
        return f"{zlib.crc32(''.join(lines).encode()):08x}"
    with path.open("rb") as file:
        stored = _stored(file)
        file.seek(0)
        found = stored if stored is not None else _checksum(file, path.stat().st_size)
        return f"{found:08x}"


def _stored(file: BinaryIO) -> int | None:
    """The checksum in the seal of a file; None if it has no seal."""
    if file.seek(0, os.SEEK_END) < SEALED_END:
        return None
    file.seek(-SEALED_END, os.SEEK_END)
    mark = file.read(len(MARK))
    number: int = _CHECKSUM.unpack(file.read(_CHECKSUM.size))[0]
    return number if mark == MARK else None


def _checksum(file: BinaryIO, size: int) -> int:
    """CRC-32 of the next `size` bytes."""
    checksum = 0
    while size > 0 and (block := file.read(min(BLOCK, size))):
        checksum = zlib.crc32(block, checksum)
        size -= len(block)
    return checksum

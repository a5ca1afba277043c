"""The marker of a folder whose files were all written: it names each with its size and checksum.

It is written last. So a folder without it was torn, and a folder that has changed does not match.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pivottrace.errors import TornFileError
from pivottrace.run.sealing import checksum_of
from pivottrace.run.storage import onto_disk, read_json, write_json
from pivottrace.schemas import WHOLE


def mark_whole(folder: Path) -> None:
    """Wait until every file of a folder is on the disk, then write the marker atomically."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != WHOLE)
    marks = {}
    for path in files:
        onto_disk(path)
        marks[path.relative_to(folder).as_posix()] = [path.stat().st_size, checksum_of(path)]
    write_json(folder / WHOLE, marks, sort_keys=True)


def is_whole(folder: Path) -> bool:
    """Whether a folder has its marker, and every file is as it was when it was marked."""
    try:
        return (folder / WHOLE).is_file() and not list(changed_files(folder))
    except TornFileError:
        return False


def changed_files(folder: Path, pattern: str = "*") -> Iterator[str]:
    """Names of the marked files of a pattern that are gone or changed; none without a marker.

    Older versions marked sizes alone.

    Raises:
        TornFileError: The marker itself is torn.
    """
    marks = read_json(folder / WHOLE) if (folder / WHOLE).is_file() else {}
    for name, mark in marks.items():
        path = folder / name
        if not path.match(pattern):
            continue
        size, checksum = [*(mark if isinstance(mark, list) else [mark]), None, None][:2]
        whole = path.is_file() and path.stat().st_size == size
        if not whole or checksum not in (None, checksum_of(path)):
            yield name

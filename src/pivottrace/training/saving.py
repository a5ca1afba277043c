"""The errors of torch and safetensors about a full disk, which are no OSError."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from pivottrace.errors import PivotTraceError
from pivottrace.run.storage import FULL, disk_errors

LEAST_FREE = 1 << 20  # bytes: torch does not say why it could not write
_NUMBER = re.compile(r"\(os error (\d+)\)")
# torch's writer of archives, and the words of its older writer.
_TORCH_WRITER, _IN_WORDS = "inline_container", os.strerror(errno.ENOSPC)


@contextmanager
def full_disk_errors(folder: Path) -> Iterator[None]:
    """Turn any library's error about a full disk into an OutOfDiskError; leave all other errors."""
    try:
        yield
    except PivotTraceError:
        raise
    except (OSError, SafetensorError, RuntimeError) as error:
        number = _disk_error(error, folder)
        if number not in FULL:
            raise
        with disk_errors(folder):
            raise OSError(number, os.strerror(number)) from error


def _disk_error(error: Exception, folder: Path) -> int | None:
    """The system's number of an error while a file was written; None if it is not about a disk."""
    if isinstance(error, OSError):
        return error.errno
    found = _NUMBER.search(str(error))
    if isinstance(error, SafetensorError):
        return int(found[1]) if found else None
    is_full = _TORCH_WRITER in str(error) and shutil.disk_usage(folder).free < LEAST_FREE
    return errno.ENOSPC if is_full or _IN_WORDS in str(error) else None

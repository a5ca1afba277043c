"""A `.gguf` file as an ordinary model folder, which is made once and kept in a cache.

Every other part then sees a folder as ever. Reading a GGUF file takes many times as long as reading
its folder, and each stage loads its model anew. Other trainers and servers take folders, too.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from huggingface_hub import constants

from pivottrace.errors import ModelError, OutOfDiskError
from pivottrace.plugins import require
from pivottrace.run.storage import onto_disk, read_json, write_json

SUFFIX = ".gguf"
SOURCE = "made_of.json"
"""What a folder was made of: the file and the versions of what read it."""


def is_gguf(path: Path) -> bool:
    """Whether a path is that of a GGUF file, by its name. Such a file may be missing."""
    return path.suffix.lower() == SUFFIX and not path.is_dir()


def gguf_folder(file: Path, where: str) -> Path:
    """The model folder that a GGUF file makes, with float32 weights. It is made if it is not there.

    There is one folder for a file. It lies in `HF_HOME`, like the models of the Hub, and is made
    again if the file or transformers has changed. Processes that want it at once wait for one.

    Args:
        file: The file.
        where: The model's path, for messages.

    Raises:
        ModelError: The file is missing, or is no whole GGUF file of one model that transformers
            reads. Or the folder cannot be written.
        ConfigError: The package gguf is not installed.
        OutOfDiskError: The disk has no room for the folder.
    """
    if not file.is_file():
        raise ModelError(
            f"{where}: no such file. Give the path of a .gguf file; one of the Hub is downloaded "
            f"with: hf download REPOSITORY FILE.gguf --local-dir ."
        )
    require("gguf", "gguf", f"model.path = {where!r}")
    file = file.resolve()
    made_of = _made_of(file)
    name = f"{file.stem}-{hashlib.sha256(str(file).encode()).hexdigest()[:12]}"
    folder = Path(constants.HF_HOME).expanduser() / "pivottrace" / name
    if not _is_made(folder, made_of):
        try:
            with _one_at_a_time(folder):
                if not _is_made(folder, made_of):
                    _make(folder, file, made_of, where)
        except OSError as error:
            raise ModelError(
                f"{where}: its model folder cannot be written: {folder}: "
                f"{error.strerror or error}. Set HF_HOME to a folder that can be written."
            ) from error
    return folder


def _made_of(file: Path) -> dict[str, Any]:
    status = file.stat()
    return {
        "file": str(file),
        "bytes": status.st_size,
        "changed_ns": status.st_mtime_ns,
        "transformers": version("transformers"),
        "gguf": version("gguf"),
    }


def _is_made(folder: Path, made_of: dict[str, Any]) -> bool:
    """Whether a folder was made of just this, and has all its files in full."""
    if not (folder / SOURCE).is_file():
        return False
    found = read_json(folder / SOURCE)
    sizes = {path.name: path.stat().st_size for path in folder.iterdir() if path.name != SOURCE}
    return found["made_of"] == made_of and found["sizes"] == sizes


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Wait until no other process makes a folder. The lock ends with its process."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w") as file:
        with suppress(OSError):  # no file system has to know locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make(folder: Path, file: Path, made_of: dict[str, Any], where: str) -> None:
    from pivottrace.models.gguf_reading import read_gguf, write_model  # heavy

    reader = read_gguf(file, where)
    size = 4 * sum(int(tensor.n_elements) for tensor in reader.tensors)
    figures = f"{made_of['bytes'] / 1e6:,.0f} MB become {size / 1e6:,.0f} MB"
    if shutil.disk_usage(folder.parent).free < size:
        raise OutOfDiskError(
            f"{where}: dequantised, {figures}, and the disk of {folder.parent} has no room for "
            f"them. Free some, or set HF_HOME to another disk."
        )
    print(
        f"note: {where} is dequantised once, into {folder}: {figures}, there and in memory",
        file=sys.stderr,
        flush=True,
    )
    beside = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(beside, ignore_errors=True)  # of a process that was killed
    try:
        beside.mkdir()
        write_model(reader, file, beside, where)
        for path in beside.iterdir():
            onto_disk(path)
        sizes = {path.name: path.stat().st_size for path in beside.iterdir()}
        write_json(beside / SOURCE, {"made_of": made_of, "sizes": sizes})
        shutil.rmtree(folder, ignore_errors=True)
        beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)

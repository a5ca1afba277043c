"""An export is written: a folder that is whole or absent, with a record of its files.

The run is only read. A folder is written beside its place and renamed into it. Its file
`export.json` has the digests of its files. They tell a later export which files it may replace.
"""

from __future__ import annotations

import json
import shlex
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pivottrace import __version__
from pivottrace.errors import ConfigError, RunDirError
from pivottrace.exports import ExportFormat, Written, export_formats
from pivottrace.run.directory import RunDir
from pivottrace.run.storage import digest_file, disk_errors, onto_disk, write_text

EXPORTS = "export"  # the folder of a run's exports
RECORD = "export.json"
CACHE = "__pycache__"  # appears beside the files once a trainer has imported them


def chosen(to: ExportFormat, given: Mapping[str, str]) -> dict[str, str]:
    """A value for each option of a format: the given one, else its default.

    Raises:
        ConfigError: The format does not take a given option or value.
    """
    for name, value in given.items():
        values = to.options.get(name, ())
        if value in values:
            continue
        others = [n for n, of in export_formats().items() if value in of.options.get(name, ())]
        elsewhere = f" --{name} {value} goes with --to {', '.join(others)}." if others else ""
        if not values:
            raise ConfigError(
                f"--{name} {value}: the format {to.name} has no such option, so leave it out."
                f"{elsewhere}"
            )
        raise ConfigError(
            f"--{name} {value}: with --to {to.name} give one of {', '.join(values)}.{elsewhere}"
        )
    return {name: given.get(name, values[0]) for name, values in to.options.items()}


def export(
    run: RunDir,
    to: ExportFormat,
    folder: Path | None = None,
    given: Mapping[str, str] | None = None,
) -> tuple[Path, Written]:
    """Write one round's routes into a folder.

    Args:
        run: The run, seen in the round whose routes are meant.
        to: The format.
        folder: The folder to write; the default is `export/FORMAT` in the run. An earlier export
            to the same format is replaced.
        given: Values of the format's options. The others have their defaults.

    Returns:
        The folder, and the counts of its rows.

    Raises:
        RunDirError: The round has no routes yet, one of its tables is torn, or the folder cannot
            be written.
        ConfigError: The folder has files that no export to this format has written, or the format
            does not take an option.
    """
    options = chosen(to, given or {})
    if not run.is_done("triage"):
        raise RunDirError(
            f"{run.path} has no routes to export yet. Make them with: {run.until('triage')}"
        )
    folder = folder or run.path / EXPORTS / to.name
    _refuse_what_is_not_ours(folder, to)
    place = folder.expanduser().resolve()
    with disk_errors(folder):
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{place.name}.") as beside:
            made, old = Path(beside) / "new", Path(beside) / "old"
            made.mkdir()
            written = to.write(run, made, **options)
            _write_record(made, run, to, options, written)
            for path in _files_in(made):
                onto_disk(path)
            if place.exists():
                place.replace(old)
            made.replace(place)
    return folder, written


def exports_of_before(run: RunDir, first: int) -> tuple[list[Path], list[str]]:
    """The exports in a run's own folder whose routes are of a round from `first` on.

    Returns:
        The folders that are as they were exported, and a note about each of the others. A trainer
        may have written its checkpoints into such a folder, so it stays.
    """
    ours, notes = [], []
    for folder in sorted(path for path in (run.path / EXPORTS).glob("*") if path.is_dir()):
        record = _record_of(folder)
        if not record or record["round"] < first:
            continue
        foreign = _first_foreign(folder, record)
        if foreign is None:
            ours.append(folder)
        else:
            notes.append(
                f"{shlex.quote(str(folder))} stays, and has the routes of before: {foreign} was "
                f"added or changed since it was exported"
            )
    return ours, notes


def _write_record(
    folder: Path, run: RunDir, to: ExportFormat, options: Mapping[str, str], written: Written
) -> None:
    """Write the record that a later export or a reader needs. The same export repeats its bytes."""
    digests = {path.relative_to(folder).as_posix(): digest_file(path) for path in _files_in(folder)}
    record = {
        "format": to.name,
        "pivottrace": __version__,
        "round": run.round_index,
        "options": dict(options),
        "rows": dict(written.rows),
        "left_out": dict(written.left_out),
        "sha256": digests,
    }
    text = json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    write_text(folder / RECORD, text)


def _refuse_what_is_not_ours(folder: Path, to: ExportFormat) -> None:
    """Refuse a folder with foreign files, or with files that somebody has changed since."""
    place = folder.expanduser()
    cure = "Move it away, or give another folder with --out."
    if place.exists() and not place.is_dir():
        raise ConfigError(f"{folder} is a file, and an export is a folder. {cure}")
    if not place.exists() or not any(place.iterdir()):
        return
    record = _record_of(place)
    if record.get("format") != to.name:
        found = f"an export to {record['format']}" if record else "not empty, and no export"
        raise ConfigError(f"{folder} is {found}. {cure}")
    foreign = _first_foreign(place, record)
    if foreign is not None:
        raise ConfigError(
            f"{folder}: {foreign} was added or changed since it was exported, and a new export "
            f"would replace it. {cure}"
        )


def _first_foreign(folder: Path, record: Mapping[str, Any]) -> str | None:
    """The first file that was added or changed since the export; None if all are as exported."""
    digests = record["sha256"]
    for path in _files_in(folder):
        name = path.relative_to(folder).as_posix()
        is_ours = name in digests and path.is_file() and digests[name] == digest_file(path)
        if name != RECORD and not is_ours:
            return name
    return None


def _record_of(folder: Path) -> dict[str, Any]:
    """The record of an earlier export in the folder; empty without an export."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    kinds = {"format": str, "round": int, "sha256": dict}
    is_ours = isinstance(record, dict) and all(
        isinstance(record.get(key), kind) for key, kind in kinds.items()
    )
    return record if is_ours else {}


def _files_in(folder: Path) -> list[Path]:
    """All files and links in a folder, sorted by path, without Python's own cache of modules."""
    found = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return sorted(path for path in found if CACHE not in path.relative_to(folder).parts)

"""`pivottrace export`: its options by name, and its closing lines. `exports.writing` writes."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

from pivottrace.commands.status import quoted
from pivottrace.errors import ConfigError, counted
from pivottrace.exports import ExportFormat, Written, export_formats
from pivottrace.exports.training_data import UNLABELLED
from pivottrace.plugins import load_part
from pivottrace.run.directory import RunDir


def find_format(name: str | None) -> ExportFormat:
    """The format that `--to` names: a format of the package, or `package.module:name`.

    Raises:
        ConfigError: No such format exists, or the named part is not a format.
    """
    known = export_formats()
    choices = f"Give one of {', '.join(known)}, or your own as package.module:name."
    if name is None:
        raise ConfigError(f"--to is missing: it names the format. {choices}")
    if ":" in name:
        part = load_part(name, "--to")
        if not isinstance(part, ExportFormat):
            raise ConfigError(
                f"--to {name}: it is a {type(part).__name__}, not a "
                f"pivottrace.exports.ExportFormat. Name the record, not its function."
            )
        return part
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ConfigError(f"--to {name}: this format does not exist.{hint} {choices}")
    return known[name]


def option_names(to: ExportFormat | None) -> list[str]:
    """The options that the command line knows: the options of the format and of all others."""
    formats = [*([to] if to else []), *export_formats().values()]
    return list(dict.fromkeys(name for of in formats for name in of.options))


def export_lines(run: RunDir, folder: Path, written: Written) -> Iterator[str]:
    """The closing lines of the command: the files with their rows, omissions, and the next step.

    Args:
        run: The run, seen in the round that was exported.
        folder: The folder of the export.
        written: The counts of its rows.
    """
    for name, rows in written.rows.items():
        yield f"{quoted(folder / name)}: {counted(rows, 'row')}"
    for reason, rows in written.left_out.items():
        yield f"note: left out: {rows} {reason}"
    if written.left_out.get(UNLABELLED) and not run.is_done("label"):
        yield f"next: pivottrace label {quoted(run.path)}, then the same export again"
    else:
        yield f"next: point your trainer at {quoted(folder)}"


def format_lines() -> Iterator[str]:
    """The formats of the package, for the help."""
    for name, record in export_formats().items():
        yield f"  {name:<24} {record.title}"

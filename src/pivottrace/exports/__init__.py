"""Export formats, one file each: a round's routes as the files that another tool reads.

A format is a record at the top level of a module of this folder. No list names it, and
`pivottrace export RUN --to FORMAT` finds it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pivottrace.plugins import records_in


@dataclass(frozen=True)
class Written:
    """The result of an export.

    Attributes:
        rows: Number of rows per file, by the file's path relative to the folder.
        left_out: Number of routed questions that are in no file though the format takes their
            route, by a reason in words ("annotate rows without a label").
    """

    rows: Mapping[str, int]
    left_out: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ExportFormat:
    """One way to write a round's routes.

    Attributes:
        name: Value of `--to`.
        title: A few words about the format, for the help.
        write: Takes the run, seen in a round that has been triaged, a folder that exists, and the
            value of each option by its name. It writes its files into that folder, the same bytes
            each time, and changes nothing of the run.
        options: The options that the format takes, with their values. The first value is the
            default. On the command line an option is `--NAME VALUE`.
    """

    name: str
    title: str
    write: Callable[..., Written]
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def export_formats() -> dict[str, ExportFormat]:
    """The formats of this folder, by name."""
    return records_in(__name__, ExportFormat)

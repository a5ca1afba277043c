r"""`pool.template`: the question from several columns of a row.

    "{Body} {Question}"         two columns with a space between them
    "{qa.question}"             a part of a nested column
    "{question}\n{choices}"     a list of options, one lettered line for each
    "{pre_text}\n{table}\n{q}"  a list of texts as lines; a list of rows as a table
    "{instruction}\n{input?}"   a column that may be empty
    "Box it: \boxed{{}}. {q}"   doubled braces are braces of the text

A list of one user message stands for its text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pivottrace.errors import ConfigError, DataError
from pivottrace.ingest.columns import Path, look_up, path_of, what_there_is
from pivottrace.ingest.options import Options, is_options_name, read_options
from pivottrace.ingest.values import is_missing, kind_of, number_text

# A shell gives "\n" of a flag as two characters; "\ne" and its like are LaTeX.
_LINE_BREAK = re.compile(r"(?<!\\)\\n(?![a-z])")
_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]+)\}|[{}]")
_WHAT_TO_WRITE = (
    'Name columns in braces, as in template = "{Body} {Question}", and write a brace of the text '
    "twice"
)


@dataclass(frozen=True)
class Field:
    """One column in the template.

    Attributes:
        path: The way to its value.
        optional: Whether the value may be missing; it is then an empty text.
    """

    path: Path
    optional: bool

    @property
    def name(self) -> str:
        """The name as the template has it."""
        return ".".join(self.path)


@dataclass(frozen=True)
class Filled:
    """A question made from one row.

    Attributes:
        text: The question.
        options: The options in it, if it has a list of them.
    """

    text: str
    options: Options | None


@dataclass(frozen=True)
class Template:
    """A template with its columns found in a source: literal texts and fields, in order."""

    pieces: tuple[str | Field, ...]

    @property
    def fields(self) -> tuple[Field, ...]:
        """The fields, in order."""
        return tuple(piece for piece in self.pieces if isinstance(piece, Field))

    def fill(self, row: Mapping[str, Any]) -> Filled:
        """Return the question of a row.

        Raises:
            DataError: A column that the question needs is missing in this row, or has a form that
                is no text; the message names the column.
        """
        texts = []
        found: list[Options] = []
        for piece in self.pieces:
            if isinstance(piece, str):
                texts.append(piece)
                continue
            value = look_up(row, piece.path)
            if is_empty(value):
                if not piece.optional:
                    raise DataError(
                        f"{piece.name!r} is missing, and the template needs it. Fill it in, or "
                        f"write {{{piece.name}?}} in the template if it may be empty"
                    )
                continue
            try:
                options = read_options(value) if is_options_name(piece.path[-1]) else None
                found += [options] if options is not None else []
                texts.append(options.text if options is not None else as_text(value))
            except DataError as error:
                raise DataError(f"{piece.name!r} {error}") from None
        if len(found) > 1:
            raise DataError("the template has two lists of options. Keep one of them")
        return Filled("".join(texts).strip(), found[0] if found else None)


def parse_template(source_name: str, text: str, available: Sequence[str]) -> Template:
    """Read a template and find its columns.

    Args:
        source_name: The source, for messages.
        text: The template.
        available: The columns of the source.

    Raises:
        ConfigError: A brace is not closed, or the template names no column.
        DataError: The source lacks a column; the message lists the columns and the nearest one.
    """
    pieces: list[str | Field] = []
    end = 0
    text = _LINE_BREAK.sub("\n", text)
    for found in _PIECE.finditer(text):
        pieces.append(text[end : found.start()])
        end = found.end()
        if found.group() in ("{{", "}}"):
            pieces.append(found.group()[0])
        elif found.group(1) is None:
            raise ConfigError(
                f"pool.template = {json.dumps(text)}: the brace at character {found.start() + 1} "
                f"has no partner. {_WHAT_TO_WRITE}"
            )
        else:
            pieces.append(_field(source_name, found.group(1), available))
    pieces.append(text[end:])
    template = Template(tuple(piece for piece in pieces if piece))
    if not template.fields:
        raise ConfigError(f"pool.template = {json.dumps(text)} names no column. {_WHAT_TO_WRITE}")
    return template


def _field(source_name: str, name: str, available: Sequence[str]) -> Field:
    optional = name.endswith("?") and name not in available
    column = name.removesuffix("?") if optional else name
    if column not in available and column.partition(".")[0] not in available:
        raise DataError(
            f"{source_name}: there is no column {column!r}, which pool.template names. "
            + what_there_is(available, column)
            + f" For this source alone, {source_name.partition('?')[0]}?prompt=COLUMN takes one "
            "column in place of the template"
        )
    return Field(path_of(column, available), optional)


def is_empty(value: Any) -> bool:
    """Return whether a value adds nothing to a question: null, blank, or a list of such values."""
    if isinstance(value, str):
        return not value.strip()
    if isinstance(value, (list, tuple)):
        return all(is_empty(item) for item in value)
    if isinstance(value, Mapping):
        return all(is_empty(item) for item in value.values())
    return is_missing(value)


def as_text(value: Any) -> str:
    """Return a value as it stands in a question: a text, a number, lines, or the rows of a table.

    A list of one user message is the text of that message.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float, Decimal)) and not isinstance(value, bool):
        return number_text(value)
    if isinstance(value, list):
        rows = [item for item in value if item is not None]
        if all(isinstance(item, list) for item in rows):
            return "\n".join(" | ".join(_cell(cell) for cell in row) for row in rows)
        if len(rows) == 1 and isinstance(rows[0], Mapping):
            return _only_message(rows[0])
        return "\n".join(_cell(item) for item in rows)
    inside = f", as in {{COLUMN.{next(iter(value))}}}" if isinstance(value, Mapping) else ""
    raise DataError(
        f"is {kind_of(value)}, which cannot stand in a question. Name a part of it that is a text"
        f"{inside}, or take it out of the template"
    )


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, (str, int, float, Decimal)) and not isinstance(value, bool):
        return as_text(value).strip()
    raise DataError(
        f"holds {kind_of(value)}, which cannot stand in a question. Write it as a text, or take "
        "it out of the template"
    )


def _only_message(item: Mapping[str, Any]) -> str:
    from pivottrace.ingest.messages import to_messages

    return to_messages([item])[0]["content"]

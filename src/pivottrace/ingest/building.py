"""From a source's rows to rows of the question table, with a record of the decisions."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from pivottrace.errors import DataError
from pivottrace.ingest.columns import Columns, look_up, without
from pivottrace.ingest.golds import Choice, choice_of, read_cell, with_tolerance
from pivottrace.ingest.messages import parse_messages, to_messages
from pivottrace.ingest.options import Options, options_in
from pivottrace.ingest.prompts import last_user_message
from pivottrace.ingest.question_parts import Part, nested_parts, parts_of
from pivottrace.ingest.question_template import Template
from pivottrace.ingest.rows import Row, Source
from pivottrace.ingest.values import is_missing, kind_of, to_id, to_json, valid_text
from pivottrace.schemas import QUESTIONS
from pivottrace.verifier.decimal_signs import without_decimal_comma
from pivottrace.verifier.gold import Gold

SHOWN_GOLDS = 5  # beside their cells, in `pivottrace validate`
SHOWN_UNREADABLE = 5  # by row, in messages

# The table while it is built; `prompt_digest` finds equal prompts.
BUILT = QUESTIONS.append(pa.field("prompt_digest", pa.string()))


class IdTrouble(DataError):
    """A row has no usable id, and the user has not named the column."""


@dataclass(frozen=True)
class Unreadable:
    """A cell of the answer column that is no gold.

    Attributes:
        number: The number of its row.
        cell: Its text.
        problem: Why it is none.
    """

    number: int
    cell: str
    problem: str


@dataclass
class Builder:
    """Builds the rows of one source, one after the other, and takes note of its decisions.

    Attributes:
        source: The opened source.
        columns: Its columns.
        template: Makes the prompt; None if a column is the prompt.
        pattern: The user's `answers.pattern`.
        unused: Columns that are not a part of the question, by the user's word.
        decimal_comma: Whether the comma is the decimal sign of the answers.
        compares_letters: Whether answers are compared as letters, so that the options are also
            looked for in the text of the question.
        parts: Columns that look like a part of the question.
        num_given: Golds given so far, readable or not.
        num_unreadable: Golds of these that are none; `unreadable` has the first ones.
        num_open: Cells which say that there is no answer yet, such as "NA"; `first_open` is the
            first one, with the number of its row.
        num_json: Prompts that were messages written as JSON text.
        first_golds: (index of the row, its cell) of the first given golds.
        choices: Index of a row → the options that its gold may name, for rows with options.
    """

    source: Source
    columns: Columns
    template: Template | None
    pattern: str | None
    unused: Sequence[str]
    decimal_comma: bool = False
    compares_letters: bool = False
    parts: list[Part] = field(default_factory=list)
    num_rows: int = 0
    num_given: int = 0
    num_unreadable: int = 0
    unreadable: list[Unreadable] = field(default_factory=list)
    num_open: int = 0
    first_open: tuple[int, str] | None = None
    num_json: int = 0
    first_golds: list[tuple[int, str]] = field(default_factory=list)
    choices: dict[int, Choice] = field(default_factory=dict)
    _kinds: dict[str, tuple[str, int]] = field(default_factory=dict)
    _nested: bool = False

    def __post_init__(self) -> None:
        source = self.source
        if not source.fixed_columns:
            self.parts = parts_of(source.columns, self.columns, self.template, self.unused)
            self._nested = len(self.columns.prompt) > 1

    def build(self, row: Row) -> dict[str, Any]:
        """Return one row of the table `BUILT`.

        Raises:
            IdTrouble: The row has no usable id, in a column that the user has not named.
            DataError: The row is wrong; the message names source, row, column and cure.
        """
        number, values = row
        column = ".".join(self.columns.prompt) or "template"
        try:
            messages, options = self._prompt(number, values)
            self._look_for_parts(number, values, messages)
            digest = digest_of(messages)
            column = ".".join(self.columns.answer or ())
            if options is None and self.compares_letters:
                options = options_in(last_user_message(messages))
            answer = self._answer(number, values, options)
            column = ".".join(self.columns.tolerance or ())
            if self.columns.tolerance is not None:
                tolerance = look_up(values, self.columns.tolerance)
                if self.decimal_comma and isinstance(tolerance, str):
                    tolerance = without_decimal_comma(tolerance)
                answer = with_tolerance(answer, tolerance)
            column = id_column(self.columns)
            question_id = self._id(number, values) or short_id(digest)
            column = "extra"
            extra = to_json(without(values, self.columns.used))
        except IdTrouble as trouble:
            raise IdTrouble(str(row_error(self.source, number, column, trouble))) from None
        except DataError as error:
            raise row_error(self.source, number, column, error) from None
        self.num_rows += 1
        return {
            "id": question_id,
            "prompt": messages,
            "answer": answer,
            "source": self.source.name,
            "extra": extra,
            "prompt_digest": digest,
        }

    def _prompt(
        self, number: int, values: Mapping[str, Any]
    ) -> tuple[list[dict[str, str]], Options | None]:
        if self.template is not None:
            filled = self.template.fill(values)
            return to_messages(filled.text), filled.options
        prompt = look_up(values, self.columns.prompt)
        if is_missing(prompt):
            raise DataError("is missing. Write the question, or take the row out")
        if isinstance(prompt, str) and (parsed := parse_messages(prompt)) is not None:
            self.num_json += 1
            return to_messages(parsed), None
        messages = to_messages(prompt)
        self._same_kind("prompt", kind_of(prompt), number)
        return messages, None

    def _look_for_parts(
        self, number: int, values: Mapping[str, Any], messages: list[dict[str, str]]
    ) -> None:
        if self._nested and not self.num_rows:
            self.parts += nested_parts(values, self.columns.prompt, self.unused)
        if self.parts:
            question = " ".join(" ".join(message["content"] for message in messages).split())
            for part in self.parts:
                part.look(number, values, question)

    def _answer(
        self, number: int, values: Mapping[str, Any], options: Options | None
    ) -> str | None:
        if self.columns.answer is None:
            return None
        value = look_up(values, self.columns.answer)
        if self.source.as_written:
            gold = Gold(valid_text(value), None)
        else:
            gold = read_cell(value, self.pattern, self.decimal_comma)
        if gold.answer is None and gold.problem is None:
            if isinstance(value, str) and value.strip():
                self.num_open += 1
                self.first_open = self.first_open or (number, value)
            return None
        # Texts, numbers and lists may stand side by side, because all of them become texts.
        kind = "true or false" if isinstance(value, bool) else "text, a number or a list"
        self._same_kind("answer", kind, number)
        self.num_given += 1
        if len(self.first_golds) < SHOWN_GOLDS:
            self.first_golds.append((self.num_rows, str(value)))
        if gold.problem is not None:
            self.refuse_gold(number, str(value), gold.problem)
        elif options is not None and gold.answer is not None:
            self.choices[self.num_rows] = choice_of(gold.answer, options)
        return gold.answer if gold.problem is None else None

    def refuse_gold(self, number: int, cell: str, problem: str) -> None:
        """Take note of a given gold that is none."""
        self.num_unreadable += 1
        if len(self.unreadable) < SHOWN_UNREADABLE:
            self.unreadable.append(Unreadable(number, cell, problem))

    def _id(self, number: int, values: Mapping[str, Any]) -> str | None:
        if not self.columns.id:
            return None
        parts = [look_up(values, path) for path in self.columns.id]
        try:
            if self.columns.id_optional:
                missing = is_missing(parts[-1])
                self._same_kind("optional id", "missing" if missing else "given", number)
                if missing:
                    return None
            return "-".join(to_id(part) for part in parts)
        except DataError as error:
            raise error if self.columns.id_mapped else IdTrouble(str(error)) from None

    def _same_kind(self, name: str, kind: str, number: int) -> None:
        """Refuse a value of another type than the first one of its column."""
        was, where = self._kinds.setdefault(name, (kind, number))
        if kind != was:
            raise DataError(
                f"is {kind}, but it is {was} in {self.source.unit} {where}: the types are mixed. "
                "Write the whole column in one of them"
            )


def digest_of(messages: list[dict[str, str]]) -> str:
    """Return the SHA-256 of messages, in hex."""
    digest = hashlib.sha256()
    for message in messages:
        content = message["content"].encode()
        # The length is included, so that two different lists of messages never give the same bytes.
        digest.update(f"{message['role']} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def short_id(digest: str) -> str:
    """Return an id made from a prompt's digest."""
    return digest[:16]  # 64 bits: a million questions collide with a chance of 3e-8


def id_column(columns: Columns) -> str:
    """Return the name of the column of ids, for messages."""
    return " and ".join(".".join(path) for path in columns.id) or "id"


def row_error(source: Source, number: int, column: str, problem: object) -> DataError:
    """Return an error about one row, with its place in front."""
    return DataError(f"{source.name}: {source.unit} {number}: column {column!r}: {problem}")

"""Columns that look like a part of the question, and whether the question has them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

from pivottrace.errors import DataError
from pivottrace.ingest.columns import Columns, Path, look_up, plain
from pivottrace.ingest.options import is_options_name, read_options
from pivottrace.ingest.question_template import Template, as_text, is_empty

# Names of texts before the question (in this order), of texts after it, and of columns that no
# template can ask.
_BEFORE = (
    "instruction",
    "instructions",
    "background",
    "story",
    "document",
    "documents",
    "context",
    "passage",
    "paragraph",
    "premise",
    "pretext",
    "table",
    "posttext",
    "body",
)
_AFTER = {"hypothesis", "input", "optiona", "optionb", "optionc", "optiond", "optione"}
_UNUSABLE = re.compile(
    r"(incorrect|wrong)(answer|option|choice)s?\d*|distractors?\d*|numbers|quesstatement|images?|figures?"
)
_LETTER_COLUMNS = ("A", "B", "C", "D", "E")
# "number0" and "N_1" in place of the numbers, which stand in a column of their own (MAWPS).
_PLACEHOLDER = re.compile(r"\bnumber\d+\b|\bN_?\d+\b|\[NUM\d*\]")
LEAST_CHARS = 12  # of a text that hardly stands in a question by chance; ours


@dataclass
class Part:
    """One such column, with the evidence of the rows so far.

    Attributes:
        path: The way to its value.
        first_lost: Number of the first row whose question lacks its value; None if none does.
        has_gaps: Whether it is empty in some row.
    """

    path: Path
    first_lost: int | None = None
    has_gaps: bool = False

    @property
    def name(self) -> str:
        """The name as `pool.template` and `pool.unused` write it."""
        return ".".join(self.path)

    def look(self, number: int, row: Mapping[str, Any], question: str) -> None:
        """Take note of one row and its question, a text with single spaces."""
        value = look_up(row, self.path)
        if is_empty(value):
            self.has_gaps = True
        elif plain(self.path[-1]) == "numbers" and not _PLACEHOLDER.search(question):
            return  # notes on the question, and no part of it
        elif self.first_lost is None and not _is_in(value, question):
            self.first_lost = number


def parts_of(
    available: Sequence[str], columns: Columns, template: Template | None, unused: Sequence[str]
) -> list[Part]:
    """Return the columns to watch, because they look like a part of the question.

    Columns that are the prompt, an answer or an id, that the template uses, or that the user names
    as unused, are not among them.
    """
    taken = {*columns.used, *((field.path for field in template.fields) if template else ())}
    letters = _LETTER_COLUMNS if {"A", "B"} <= set(available) else ()
    found = []
    for name in available:
        looks = name in letters or _looks_like_a_part(name)
        used = any(path[:1] == (name,) for path in taken)
        if looks and not used and name not in unused:
            found.append(Part((name,)))
    return found


def nested_parts(row: Mapping[str, Any], prompt: Path, unused: Sequence[str]) -> list[Part]:
    """Return the columns to watch beside a nested prompt, as in {"qa": {"stem", "choices"}}."""
    around = look_up(row, prompt[:-1]) if len(prompt) > 1 else None
    names = tuple(around) if isinstance(around, Mapping) else ()
    paths = [(*prompt[:-1], name) for name in names if _looks_like_a_part(name)]
    return [Part(path) for path in paths if path != prompt and ".".join(path) not in unused]


def cure(parts: Sequence[Part], columns: Columns, template_text: str | None) -> str:
    """Return the lines that a user may add, one below the other, each with its meaning."""
    unused = f"unused = {json.dumps([part.name for part in parts], ensure_ascii=False)}"
    lines = [f"{unused}  # the question is whole without"]
    usable = [part for part in parts if not _UNUSABLE.fullmatch(plain(part.path[-1]))]
    if usable:
        question = template_text or f"{{{'.'.join(columns.prompt)}}}"
        line = f"template = {json.dumps(_template_with(usable, question), ensure_ascii=False)}"
        mapped = ", in place of the prompt in the map" if columns.prompt_mapped else ""
        lines.insert(0, f"{line}  # the question with it{mapped}")
    head = "Add one of these lines under [pool]:" if usable else "Add this line under [pool]:"
    if any(_holds_options(part) for part in usable):
        lines += [
            "If the answers are letters of the options, add this under [answers] too:",
            'verifier = "choice"  # compares letters: "A) 11" and "A" are one answer',
        ]
    return "\n  ".join([head, *lines])


def _holds_options(part: Part) -> bool:
    """Whether a part is a list of options, or one option."""
    name = part.path[-1]
    return name in _LETTER_COLUMNS or is_options_name(name) or plain(name).startswith("option")


def _template_with(parts: Sequence[Part], question: str) -> str:
    before = [part for part in parts if plain(part.path[-1]) in _BEFORE]
    before.sort(key=lambda part: _BEFORE.index(plain(part.path[-1])))
    text = question
    for part in reversed(before):
        # A body is the story that the question ends; other texts are blocks of their own.
        text = _field(part) + (" " if plain(part.path[-1]) == "body" else "\n") + text
    for part in parts:
        if part not in before:
            lettered = f"{part.name}) " if part.name in _LETTER_COLUMNS else ""
            text += f"\n{lettered}{_field(part)}"
    return text


def _field(part: Part) -> str:
    return f"{{{part.name}{'?' if part.has_gaps else ''}}}"


def _looks_like_a_part(name: str) -> bool:
    folded = plain(name)
    known = folded in _BEFORE or folded in _AFTER or is_options_name(name)
    return known or _UNUSABLE.fullmatch(folded) is not None


def _is_in(value: Any, question: str) -> bool:
    """Return whether the question has a column's text already; options must be in their order.

    A short text may stand in a question by chance ("3" in "3 litres"). So fewer than
    `LEAST_CHARS` characters count only as options, and only if each stands behind its letter.
    """
    try:
        options = read_options(value) if not isinstance(value, str) else None
        texts = options.contents if options is not None else as_text(value).split("\n")
    except DataError:  # a value that is no text cannot be in one
        return False
    wanted = [rf"(?<!\w){re.escape(' '.join(text.split()))}(?!\w)" for text in texts]
    if sum(map(len, texts)) < LEAST_CHARS:
        if options is None:
            return False
        letters = zip(ascii_uppercase, wanted, strict=False)
        wanted = [rf"(?<!\w){letter}[).:] ?{text}" for letter, text in letters]
    at = 0
    for pattern in wanted:
        found = re.compile(pattern).search(question, at)
        if found is None:
            return False
        at = found.end()
    return True

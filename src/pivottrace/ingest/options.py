"""Options of a multiple-choice question: read from their column, lettered, and found by a gold."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from string import ascii_uppercase
from typing import Any

from pivottrace.errors import DataError
from pivottrace.ingest.columns import plain
from pivottrace.ingest.values import kind_of, number_text
from pivottrace.verifier.multiple_choice import normalise_choice

_OPTION_NAMES = {"options", "choices", "answeroptions", "answerchoices", "endings"}
# "A) 20", "(B) 25", "C. 30" and "D: 35": the option begins with its own letter.
_OWN_LETTER = re.compile(r"\s*\(?([A-Z])\s*[).:]\s*(.*)", re.DOTALL)


@dataclass(frozen=True)
class Options:
    """The options of one question, N of them.

    Attributes:
        text: One line for each option, with its letter: "A) 20".
        labels: (N,) the source's own name of each option; the letter where it has none.
        contents: (N,) the options without letters.
    """

    text: str
    labels: tuple[str, ...]
    contents: tuple[str, ...]

    def by_label(self, gold: str) -> int | None:
        """Return the index of the option with this label or letter; None if no option has it."""
        names = [label.casefold() for label in self.labels]
        for name in (gold.strip(), normalise_choice(gold)):
            if name.casefold() in names:
                return names.index(name.casefold())
        return None

    def by_content(self, gold: str) -> int | None:
        """Return the index of the only option with this content; None if it is not unique."""
        wanted = " ".join(gold.split())
        found = [i for i, c in enumerate(self.contents) if " ".join(c.split()) == wanted]
        return found[0] if len(found) == 1 else None


def is_options_name(name: str) -> bool:
    """Return whether a column of this name holds options."""
    return plain(name) in _OPTION_NAMES


def read_options(value: Any) -> Options | None:
    """Read a column of options; None if it is a text that holds them already, which stays as it is.

    A list of texts or numbers is lettered from A, unless each begins with its own letter. Labels
    and contents may also be an object {"A": ..., "B": ...}, two lists {"text": [...], "label":
    [...]} (ARC), or a list of {"label": ..., "text": ...}. Labels that are not letters from A (1,
    2, 3) are replaced by letters. A text may hold any of these as JSON.

    Raises:
        DataError: The options have another form, or there are more than 26.
    """
    if isinstance(value, str):
        value = _from_json(value)
    if not isinstance(value, (list, Mapping)):
        return None
    labels, contents = _parts(value)
    if len(contents) > len(ascii_uppercase):
        raise DataError(
            f"has {len(contents)} options, more than there are letters. Take it out of the template"
        )
    letters = tuple(ascii_uppercase[: len(contents)])
    own = [_OWN_LETTER.fullmatch(content) for content in contents]
    if labels is None and tuple(match[1] if match else "" for match in own) == letters:
        text = "\n".join(content.strip() for content in contents)
        return Options(text, letters, tuple(match[2] for match in own if match))
    text = "\n".join(f"{letter}) {c}" for letter, c in zip(letters, contents, strict=True))
    return Options(text, labels or letters, contents)


def options_in(question: str) -> Options | None:
    """Return the options that stand in a question, each on a line with its letter; None if none do.

    The lines begin with "A)", "(B)", "C." or "D:", in this order from A, and are at least two. Of
    several lists the last one counts.
    """
    contents: list[str] = []
    for line in question.split("\n"):
        own = _OWN_LETTER.fullmatch(line)
        if own is not None and own[1] == "A":
            contents = [own[2]]
        elif own is not None and contents and own[1] == ascii_uppercase[len(contents) % 26]:
            contents.append(own[2])
    if len(contents) < 2:
        return None
    letters = tuple(ascii_uppercase[: len(contents)])
    text = "\n".join(f"{letter}) {c}" for letter, c in zip(letters, contents, strict=True))
    return Options(text, letters, tuple(contents))


def _from_json(text: str) -> Any:
    if not text.lstrip().startswith(("[", "{")):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _parts(value: Any) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """Return the labels, None where the source has none, and the contents."""
    if isinstance(value, Mapping):
        if {"text", "label"} <= value.keys():
            pairs = list(zip(value["label"], value["text"], strict=False))
            if len(pairs) != max(len(value["label"]), len(value["text"])):
                raise DataError("has more labels than texts, or fewer. Correct the row")
        else:
            # A parquet struct has every letter in every row, so letters with null are left out.
            pairs = sorted((k, v) for k, v in value.items() if v is not None)
            if tuple(k for k, _ in pairs) != tuple(ascii_uppercase[: len(pairs)]):
                raise DataError(
                    "is an object whose keys are not the letters A, B, ... Write the options as a "
                    "list"
                )
    elif all(isinstance(item, Mapping) and {"label", "text"} <= item.keys() for item in value):
        pairs = [(item["label"], item["text"]) for item in value]
    else:
        return None, tuple(_scalar(item) for item in value)
    return tuple(_scalar(k) for k, _ in pairs), tuple(_scalar(v) for _, v in pairs)


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float, Decimal)) and not isinstance(value, bool):
        return number_text(value)
    raise DataError(f"has an option that is {kind_of(value)}. Write every option as a text")

"""A truth as a text: alternatives, one of them enough, and perhaps a tolerance of its own.

Examples are "12 ||| twelve" and "9.81 [tolerance 0.01]". The truth of a question from reasoning-gym
may carry the entry that its task's scorer judges by.
"""

import re
import sys
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache

ALTERNATIVES = " ||| "
"""Between alternatives in a truth's text."""

_ENTRY = "\n[entry of reasoning-gym] "
_TOLERANCE = re.compile(r"(?<!\s)\s*\[tolerance (\d+(?:\.\d+)?(?:[eE][+-]?\d{1,3})?|\.\d+)\]\s*$")


@dataclass(frozen=True)
class Truth:
    """A true answer.

    Attributes:
        alternatives: Texts. An answer that matches one is right.
        tolerance: Greatest relative difference of a number; None if the text states none.
        entry: See `gym_scorer.judge`; None if the text has none.
    """

    alternatives: tuple[str, ...]
    tolerance: Fraction | None = None
    entry: str | None = None


def read_truth(text: str) -> Truth:
    """Split a truth's text."""
    gold, mark, entry = text.partition(_ENTRY)
    # An entry may have thousands of characters: one copy serves all replies, and none is kept here.
    return replace(_read_gold(gold), entry=sys.intern(entry)) if mark else _read_gold(text)


@lru_cache(maxsize=65_536)
def _read_gold(text: str) -> Truth:
    tolerance = None
    if found := _TOLERANCE.search(text):
        text, tolerance = text[: found.start()], Fraction(found.group(1))
    parts = tuple(part.strip() for part in text.split(ALTERNATIVES.strip()))
    return Truth(tuple(part for part in parts if part) or ("",), tolerance)


def write_truth(alternatives: list[str], tolerance: str | None = None) -> str:
    """The text of a truth; the inverse of `read_truth`."""
    text = ALTERNATIVES.join(dict.fromkeys(alternatives))
    return f"{text} [tolerance {tolerance}]" if tolerance else text


def with_entry(gold: str, entry: str) -> str:
    """A gold's text with the entry that its task's scorer judges by."""
    return f"{gold}{_ENTRY}{entry}"

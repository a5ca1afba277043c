"""A truth as a text: alternatives, one of them enough, and perhaps a tolerance of its own.

Examples are "12 ||| twelve" and "9.81 [tolerance 0.01]".
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

ALTERNATIVES = " ||| "
"""Between alternatives in a truth's text."""

_TOLERANCE = re.compile(r"(?<!\s)\s*\[tolerance (\d+(?:\.\d+)?(?:[eE][+-]?\d{1,3})?|\.\d+)\]\s*$")


@dataclass(frozen=True)
class Truth:
    """A true answer.

    Attributes:
        alternatives: Texts. An answer that matches one is right.
        tolerance: Greatest relative difference of a number; None if the text states none.
    """

    alternatives: tuple[str, ...]
    tolerance: Fraction | None = None


@lru_cache(maxsize=65_536)
def read_truth(text: str) -> Truth:
    """Split a truth's text."""
    tolerance = None
    if found := _TOLERANCE.search(text):
        text, tolerance = text[: found.start()], Fraction(found.group(1))
    parts = tuple(part.strip() for part in text.split(ALTERNATIVES.strip()))
    return Truth(tuple(part for part in parts if part) or ("",), tolerance)


def write_truth(alternatives: list[str], tolerance: str | None = None) -> str:
    """The text of a truth; the inverse of `read_truth`."""
    text = ALTERNATIVES.join(dict.fromkeys(alternatives))
    return f"{text} [tolerance {tolerance}]" if tolerance else text

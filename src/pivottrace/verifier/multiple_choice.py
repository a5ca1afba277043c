r"""Multiple-choice answers as their letters."""

import re
from collections.abc import Iterator

from pivottrace.verifier.exact_text import normalise_exact
from pivottrace.verifier.notation import without_text_commands

_LEAD = re.compile(
    r"(?:the\s+)?(?:correct\s+)?(?:options?|choices?|answers?)\s*(?:is|are)?\s*:?\s*", re.IGNORECASE
)
_LETTER = r"(?:[(\[]\s*[A-Z]\s*[)\]]|[A-Z](?![A-Za-z]))"
_JOINT = r"(?:\s*(?:,|;|/|&|\band\b|\bor\b)\s*|\s+)"
_LETTERS = re.compile(
    rf"(?P<letters>{_LETTER}(?:{_JOINT}{_LETTER})*)(?P<set_off>\s*[.:)](?=\s|$)|\s+[-–—](?=\s))?(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_RUN = re.compile(r"[A-J]{2,10}")
_JOINTS = re.compile(r"\b(?:and|or)\b", re.IGNORECASE)

# "A man has 3" is no answer, because no mark sets the letter off, and "I." heads a part.
_LETTER_FIRST = re.compile(
    r"\s*[*_$]{0,3}[(\[]?(?!I[.:\s])([A-J])(?:[)\].:]+[*_$]{0,3}(?=\s|$)|[*_$]{0,3}[ \t]*(?:\n|$))"
)
_LETTERED_LINE = re.compile(r"^[ \t>*_-]*[(\[]?([A-J])[)\].:]+(?=\s|$)", re.MULTILINE)


def normalise_choice(answer: str) -> str:
    r"""Bring a multiple-choice answer to its letter, or its letters in alphabetical order.

    "(B)", "B.", "b", "\text{B}", "option B", '"B"', "B. Paris", "B - Paris" and "\text{(B)}\ 24"
    all give "B"; "C, A", "A and C" and "AC" give "AC". Text after the letter is dropped only if a
    bracket, full stop, colon or dash sets the letter off ("A cat" is not choice A). An answer
    without a choice letter gives its case-folded exact text, so that it equals itself and never a
    letter.
    """
    plain = without_text_commands(answer).replace("\\ ", " ").replace("~", " ")
    text = normalise_exact(re.sub(r"\\(?:boxed|fbox)\s*\{([^{}]*)\}", r"\1", plain))
    text = text.strip("*$\"'`“” ").strip()
    bare = _LEAD.sub("", text, count=1)
    if _RUN.fullmatch(bare) and len(set(bare)) == len(bare):
        return "".join(sorted(bare))
    found = _LETTERS.fullmatch(bare)
    if found is None:
        return text.casefold()
    letters, rest = found["letters"], found["rest"].strip(" .)]")
    set_off = found["set_off"] or letters.rstrip()[-1:] in ")]"
    if rest and not set_off:
        return text.casefold()
    return "".join(sorted(set(re.findall(r"[A-Z]", _JOINTS.sub("", letters).upper()))))


def letter_first(text: str) -> Iterator[str]:
    """The option's letter that begins a response: set off by a mark, or alone in its line.

    A response that lists several options has not chosen one.
    """
    first = _LETTER_FIRST.match(text)
    if first is None:
        return
    letter = first.group(1)
    if all(other == letter for other in _LETTERED_LINE.findall(text)):
        yield letter

r"""A gold, the true answer of a question, read off what people and data sets write.

The same reader serves a pool's column of answers, label files and labels from other sources.
"""

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from pivottrace.verifier.amounts import read_suffix
from pivottrace.verifier.answers import stated_answer
from pivottrace.verifier.exact_text import MAX_ANSWER_CHARS
from pivottrace.verifier.formats import end_of_sentence
from pivottrace.verifier.forms import REMARK, form_of
from pivottrace.verifier.placeholders import plain_words, says_none
from pivottrace.verifier.truths import read_truth, write_truth
from pivottrace.verifier.value_text import clean, is_derivation, is_value

GOLD_FORMATS = ("tags", "boxed", "hashes", "line", "stated")
"""The formats of a gold, whatever `answers.formats` says: data sets have formats of their own."""

NO_ANSWER = "is a derivation without a final answer"
GUESS = "is a guess"

# These may be the answer to a question. Alone in a cell they mean that it is missing.
_UNLABELLED_ALONE = frozenset({"none", "unknown", "missing", "nil"})

_LEAD = re.compile(r"\W*(?:(?:the|final|my)\s+){0,3}answer(?:\s+is)?\b[\s:=*]*", re.IGNORECASE)
_SAID = re.compile(
    r"(?:(?:so|thus|therefore|i\s+(?:think|believe))\b,?\s+){0,3}"
    r"(?:(?:it|that|this)(?:['’]s|\s+is)\s+|ans\b\.?\s*[:=]?\s*)?",
    re.IGNORECASE,
)
# Short words such as "I am" look like products of variables.
_NO_WORD = re.compile(r"[\d\\$=+^]|^\(?[A-Z]\)?$")
_DOUBTS = (
    r"(?:i\s+am\s+|i['’]m\s+)?not\s+(?:quite\s+|really\s+)?(?:sure|certain)|unsure|uncertain|maybe|"
    r"perhaps|probably|possibly|presumably|(?:just\s+)?(?:i\s+|a\s+|my\s+)?guess"
)
_DOUBT_BEFORE = re.compile(rf"(?:(?:{_DOUBTS})\b[\s,.:;–-]*(?:but\s+)?){{1,3}}", re.IGNORECASE)
_DOUBT_BEHIND = re.compile(
    rf"[\s,;.(\[–-]*\b(?:{_DOUBTS})[\s)\].!?]*$|\s*\(?\?+\)?$", re.IGNORECASE
)
_THOUSANDS = re.compile(r"[-+]?(?!0)\d{1,3}(,\d{3})+(\.\d+)?")
_TOLERANCE = re.compile(r"\[tolerance ([^\]]*)\]\s*$")


class Gold(NamedTuple):
    """A gold as read, or why it is none.

    Attributes:
        answer: The gold's text, as `truths.read_truth` splits it; None without a gold.
        problem: Why what is written cannot be a true answer; None if it can, and if the place is
            blank or says that the answer is not known.
    """

    answer: str | None
    problem: str | None


def read_gold(text: str, pattern: str | None = None) -> Gold:
    r"""Read the gold that a person or a data set wrote.

    A format in the text is read ("25" of "The answer is 25" and of "31 - 6 = 25. #### 25"), and
    else the text is the answer. A remark in brackets is dropped ("9 (apples)"), and a unit stays.
    "1,200" gives "1200". Blank cells, "NA", "?", "don't know" and their like are no answer yet.
    "none" and "unknown" alone are none either; "the answer is none" and `\boxed{none}` are answers,
    and so is "no". A value with a doubt ("maybe 25", "25?") has the problem `GUESS`, because a
    wrong label costs more than a missing one. The time is linear in the text.

    Args:
        text: One cell, or one of its alternatives. Alternatives (` ||| `) are read one by one, and
            a tolerance (` [tolerance 0.01]`) stays behind them.
        pattern: The user's `answers.pattern`, which is tried first.
    """
    truth = read_truth(text)
    if truth.tolerance is None and len(truth.alternatives) == 1:
        return _read_one(text, pattern)
    golds = [_read_one(alternative, pattern) for alternative in truth.alternatives]
    answers = [gold.answer for gold in golds if gold.answer is not None]
    if not answers:
        return next((gold for gold in golds if gold.problem), Gold(None, None))
    own = _TOLERANCE.search(text) if truth.tolerance is not None else None
    return Gold(write_truth(answers, own.group(1) if own else None), None)


def _read_one(text: str, pattern: str | None) -> Gold:
    stripped = text.strip()
    lead = _LEAD.match(stripped)
    said = stripped[lead.end() :] if lead else stripped
    if says_none(said) or plain_words(stripped) in _UNLABELLED_ALONE:
        return Gold(None, None)
    found = stated_answer(text, pattern) if pattern else None
    found = found or stated_answer(text, formats=GOLD_FORMATS)
    if found is None and is_derivation(stripped):
        return Gold(None, NO_ANSWER)
    if _is_guess(said) or _is_guess(found or stripped):
        return Gold(None, GUESS)
    answer = _without_extras(found or _said(stripped))
    if len(answer) > MAX_ANSWER_CHARS:
        problem = f"has {len(answer)} characters, and an answer has {MAX_ANSWER_CHARS} at most"
        return Gold(None, problem)
    return Gold(None if says_none(answer) else answer, None)


def _is_guess(text: str) -> bool:
    """Whether a text is a value with a doubt before or behind it; "maybe" alone is an answer."""
    if len(text) > MAX_ANSWER_CHARS:
        return False
    doubt = _DOUBT_BEFORE.match(text)
    rest = text[doubt.end() :] if doubt else text
    if behind := _DOUBT_BEHIND.search(rest):
        rest = rest[: behind.start()]
    return rest != text and is_value(_said(rest.strip()))


def _said(text: str) -> str:
    """The value of a short sentence: "It's 25", "So 25.", "The total is 25"; else the text."""
    if len(text) > MAX_ANSWER_CHARS:
        return text
    sentence = text.removesuffix(".")
    said = sentence[_SAID.match(sentence).end() :]  # type: ignore[union-attr]
    value = end_of_sentence(sentence)
    if value != sentence and not value.endswith("?"):
        return value
    is_said = said != sentence and is_value(said) and _NO_WORD.search(said)
    return said if is_said else text


def _without_extras(text: str) -> str:
    """An answer without a remark behind it, bold marks, a full stop, and signs of thousands."""
    text = clean(text)
    if text.endswith(".") and "." not in text[:-1] and not text.endswith("\\."):
        text = text[:-1].rstrip()
    if len(text) <= MAX_ANSWER_CHARS and (remark := REMARK.search(text)):
        head = text[: remark.start()].strip()
        other = remark["words"].strip().removeprefix("or ")
        if head and form_of(head) not in ("text", "empty") and not _has_mark(remark["words"]):
            is_other = other != remark["words"].strip() and is_value(other)
            text = write_truth([head, other]) if is_other else head
    return text.replace(",", "") if _THOUSANDS.fullmatch(text) else text


def _has_mark(words: str) -> bool:
    """Whether a remark is a unit, a factor, or a part of the mathematics ("mod n")."""
    behind = read_suffix(f"({words})")
    return bool(behind and (behind[0] != 1 or behind[1])) or words.startswith("mod ")


def first_that_differs(
    gold: str, known: Iterable[str], equal: Callable[[str, str], bool]
) -> str | None:
    """Return the first known gold that does not agree with a gold; None if all of them agree.

    A reward is no equivalence (25 and 0.25 are both right by 25 %), so golds of one question agree
    only if every two of them do. Then their order does not matter.
    """
    return next((other for other in known if not agree(gold, other, equal)), None)


def agree(one: str, other: str, equal: Callable[[str, str], bool]) -> bool:
    """Return whether two golds are the same: an alternative of one is right by the other."""
    return one == other or any(
        equal(answer, gold)
        for given, gold in ((one, other), (other, one))
        for answer in read_truth(given).alternatives
    )

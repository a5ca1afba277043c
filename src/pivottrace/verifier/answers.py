r"""Read an answer off a completion, normalise it, group equal answers, vote.

Everything here is pure text and counting. `pivottrace.verifier.comparison` compares answers.
"""

import re
import unicodedata
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from pivottrace.errors import ConfigError, DataError

MAX_ANSWER_CHARS = 1_000
"""A longer "answer" is a derivation or garbage. No truth is that long, and comparison costs."""

SEARCH_TAIL_CHARS = 1_000_000
"""Only this much of a completion's end is read (about 250,000 tokens), against hostile input."""

# Tokens that matter for brace matching. An escaped brace or backslash is consumed as one token, so
# `\{` does not count and `\\boxed{` (double escaping, common in model output) is still a box.
_BOX_TOKEN = re.compile(r"\\[^a-zA-Z]|(?P<box>(?<=\\)(?:boxed|fbox)[ \t]*\{)|[{}]")
_HASHES = re.compile(r"(?<!#)####(?!#)[ \t]*([^\n]*)")
_ANSWER_IS = re.compile(r"\bthe\s(?:final\s|correct\s)?answer\sis\b[ \t]*:?\s*", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?](?=\s|\**$|\*\*\s)|\n")
_BOLD = re.compile(r"(?<!\S)\*\*(?=\S)|(?<=\S)\*\*(?!\S)")


def extract_answer(text: str, pattern: str | None = None) -> str | None:
    r"""Read the final answer off a completion.

    With `pattern`, only `pattern` counts. Otherwise the first of these forms with content counts,
    and each is read at its *last* occurrence: `\boxed{...}` (or `\fbox`; braces balanced, the
    innermost of nested boxes), `#### 18` (to the end of the line), "the answer is X" (also "final"
    or "correct answer"; to the end of the sentence, without its punctuation). A box that is empty
    (an echoed instruction) or not closed (a trace cut at the token limit) does not count. The time
    is linear in the text; only its last `SEARCH_TAIL_CHARS` are read.

    Args:
        text: One completion, without the question.
        pattern: A Python regular expression for `re.finditer`. The answer is group 1 of its last
            match, or the whole match if it has no group. The pattern is trusted: catastrophic
            backtracking is not interrupted.

    Returns:
        The answer, stripped and not empty. None if no form occurs, if it is empty, or if it is
        longer than `MAX_ANSWER_CHARS`. A weaker form does not replace an over-long answer, because
        the model did answer, although unusably.

    Raises:
        ConfigError: If `pattern` is not a valid regular expression.
    """
    tail = text[-SEARCH_TAIL_CHARS:]
    if pattern is not None:
        answer = _last_match(tail, pattern)
    else:
        answer = _last_boxed(tail) or _last_hashes(tail) or _last_stated(tail)
    if not answer or len(answer) > MAX_ANSWER_CHARS:
        return None
    return answer


def _last_match(text: str, pattern: str) -> str | None:
    """Return group 1 (or all) of the last match of the user's own pattern."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(
            f"answer pattern {pattern!r} is not a valid regular expression ({error}); "
            "correct it, or leave it out to use \\boxed{}, ####, and 'the answer is'"
        ) from error
    matches = deque(compiled.finditer(text), maxlen=1)
    if not matches:
        return None
    found = matches[0].group(1 if compiled.groups else 0)
    return found.strip() if found else None


def _last_boxed(text: str) -> str | None:
    """Return the content of the last closed box with content; the innermost opens last."""
    if "boxed" not in text and "fbox" not in text:
        return None
    open_braces: list[int | None] = []  # start of a box's content, or None for an ordinary brace
    last_start, last_content = -1, None
    for token in _BOX_TOKEN.finditer(text):
        kind = token.group()
        if token.group("box"):
            open_braces.append(token.end())
        elif kind == "{":
            open_braces.append(None)
        elif kind == "}" and open_braces:
            start = open_braces.pop()
            if start is not None and start > last_start:
                content = text[start : token.start()].strip()
                if content:
                    last_start, last_content = start, content
    return last_content


def _last_hashes(text: str) -> str | None:
    """Return the text after the last non-empty `####`, the end of solutions in GSM8K."""
    found = None
    for match in _HASHES.finditer(text):
        found = _without_markup(match.group(1)).removesuffix(".").rstrip() or found
    return found


def _last_stated(text: str) -> str | None:
    """Return the text after the last "the answer is", up to the end of its sentence."""
    starts = [match.end() for match in _ANSWER_IS.finditer(text)]
    for start in reversed(starts):
        limit = start + MAX_ANSWER_CHARS + 2  # one beyond, so that over-long stays over-long
        end = _SENTENCE_END.search(text, start, limit)
        candidate = _without_markup(text[start : end.start() if end else limit])
        if candidate := candidate.rstrip(".!?").rstrip():
            return candidate
    return None


def _without_markup(text: str) -> str:
    """Drop Markdown's bold marks, but keep a `**` that is a power."""
    return _BOLD.sub("", text).strip()


def normalise_exact(answer: str) -> str:
    """Bring an answer to the form in which exact text is compared.

    The form is Unicode NFC (not NFKC, which turns "x²" into "x2"), without outer whitespace, and
    with one space for each inner run of whitespace. Case, punctuation and digits stay unchanged.
    """
    return " ".join(unicodedata.normalize("NFC", answer).split())


def group_equivalent(answers: Sequence[str | None], equal: Callable[[str, str], bool]) -> list[int]:
    """Give every answer the id of its class, where chains of equal answers make a class.

    So a relation that is not transitive still gives one partition, whatever the order. `Verifier`
    has the faster `group`, which uses this only for a user's own function.

    Args:
        answers: (N,) answers of one question; None or blank if a completion gave no answer.
        equal: Whether two answers are the same; symmetric. It is called once per pair of different
            texts.

    Returns:
        (N,) class ids, 0, 1, … by order of first appearance; -1 for None or blank.
    """
    given = list(dict.fromkeys(a for a in answers if a is not None and a.strip()))
    leader = {answer: answer for answer in given}

    def lead(answer: str) -> str:
        while leader[answer] != answer:
            answer = leader[answer]
        return answer

    for index, answer in enumerate(given):
        for earlier in given[:index]:
            first, second = lead(earlier), lead(answer)
            if first != second and equal(earlier, answer):
                leader[second] = first
    ids: dict[str, int] = {}
    return [
        ids.setdefault(lead(answer), len(ids)) if answer in leader else -1
        for answer in ("" if a is None else a for a in answers)
    ]


@dataclass(frozen=True)
class Vote:
    """The outcome of a majority vote over the completions of one question.

    Attributes:
        winner: Class id of the only class with most votes; None is an abstention.
        count: Votes of the leading class, 0 … N; at a tie, of each tied class.
        share: Count / N in [0, 1], where N includes the empty answers; higher is more agreement.
        margin: (count − votes of the runner-up) / N in [0, 1]; 0 at a tie.
        reason: "ok", "tie" (several classes lead), "empty" (there is no answer) or "margin" (the
            lead is smaller than `least_margin`).
    """

    winner: int | None
    count: int
    share: float
    margin: float
    reason: Literal["ok", "tie", "empty", "margin"]


def majority_vote(classes: Sequence[int], least_margin: float = 0.0) -> Vote:
    """Take the class with most votes; abstain at a tie, and if it leads by too little.

    Empty answers (-1) never win, but they count in the denominator of share and margin. So 1 answer
    among 15 empty ones wins with share 1/16.

    Args:
        classes: (N,) class ids from `group_equivalent`; N may be 0.
        least_margin: The margin that a winner needs, in [0, 1].

    Returns:
        The vote; see `Vote` for ranges.

    Raises:
        DataError: If an id is below -1.

    Source: TTRL's majority vote (arXiv 2504.16084), which breaks ties by order. We abstain, because
    a tie is no evidence for either answer.
    """
    lowest = min(classes, default=-1)
    if lowest < -1:
        raise DataError(
            f"class ids must be -1 (empty) or from 0 up, found {lowest}; use group_equivalent's"
        )
    counts: dict[int, int] = {}
    for class_id in classes:
        if class_id >= 0:
            counts[class_id] = counts.get(class_id, 0) + 1
    if not counts:
        return Vote(winner=None, count=0, share=0.0, margin=0.0, reason="empty")
    winner = max(counts, key=counts.__getitem__)
    count = counts.pop(winner)
    runner_up = max(counts.values(), default=0)
    total = len(classes)
    if count == runner_up:
        return Vote(winner=None, count=count, share=count / total, margin=0.0, reason="tie")
    share, margin = count / total, (count - runner_up) / total
    if margin < least_margin:
        return Vote(winner=None, count=count, share=share, margin=margin, reason="margin")
    return Vote(winner, count, share, margin, "ok")

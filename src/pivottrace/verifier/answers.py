"""Read an answer off a completion, group equal answers, vote.

Everything here is pure text and counting. `pivottrace.verifier.comparison` compares answers.
"""

import re
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from pivottrace.errors import ConfigError, DataError
from pivottrace.verifier.exact_text import MAX_ANSWER_CHARS
from pivottrace.verifier.formats import DEFAULT_FORMATS, found_in
from pivottrace.verifier.placeholders import is_placeholder, says_none

SEARCH_TAIL_CHARS = 1_000_000
"""Only this much of a completion's end is read (about 250,000 tokens), against hostile input."""

THINKING_END = "</think>"
"""Behind it a reasoning model speaks to the user; before it, an answer may be a guess."""


def extract_answer(
    text: str,
    pattern: str | None = None,
    formats: Sequence[str] = DEFAULT_FORMATS,
    placeholders: Collection[str] = (),
) -> str | None:
    """Read the final answer off a completion: `stated_answer`, unless it says that there is none.

    "N/A" and "I don't know" are no answer, or they could win a vote. An earlier place or a later
    format does not replace them, because the model did end with them.

    Args and errors as `stated_answer`.
    """
    answer = stated_answer(text, pattern, formats, placeholders)
    return None if answer is None or says_none(answer) else answer


def stated_answer(
    text: str,
    pattern: str | None = None,
    formats: Sequence[str] = DEFAULT_FORMATS,
    placeholders: Collection[str] = (),
) -> str | None:
    r"""Read what stands in the place of the answer, also "N/A" and "I don't know".

    Of a response with `</think>`, only the text behind it is read, unless that is blank. The
    formats are tried in order, and each one is read at its last place that has an answer.
    Template words (`\boxed{number}`), an empty box (an echoed instruction) and an open box (a trace
    cut at the token limit) are none. The time is linear in the text; only its last
    `SEARCH_TAIL_CHARS` are read.

    Args:
        text: One completion, without the question.
        pattern: A Python regular expression for `re.finditer`, which replaces the formats. The
            answer is group 1 of its last match, or the whole match if it has no group. The pattern
            is trusted: catastrophic backtracking is not interrupted.
        formats: Names of formats; see `verifier.formats`.
        placeholders: Template words of the prompt, from `placeholders.placeholders_of`.

    Returns:
        The answer, stripped and not empty. None if no format occurs, or if the answer is longer
        than `MAX_ANSWER_CHARS`. A later format does not replace an over-long answer, because the
        model did answer, although unusably.

    Raises:
        ConfigError: `pattern` is not a valid regular expression, or a format does not exist.
    """
    tail = text[-SEARCH_TAIL_CHARS:]
    if pattern is not None:
        answer = _last_match(tail, pattern)
        return answer if answer and len(answer) <= MAX_ANSWER_CHARS else None
    thought, _, said = tail.rpartition(THINKING_END)
    for name in formats:
        for candidate in found_in(said if said.strip() else thought, name):
            if len(candidate) > MAX_ANSWER_CHARS:
                return None
            if not is_placeholder(candidate, placeholders):
                return candidate
    return None


def _last_match(text: str, pattern: str) -> str | None:
    """Return group 1 (or all) of the last match of the user's own pattern."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(
            f"answer pattern {pattern!r} is not a valid regular expression ({error}); "
            "correct it, or leave it out to use answers.formats"
        ) from error
    matches = deque(compiled.finditer(text), maxlen=1)
    if not matches:
        return None
    found = matches[0].group(1 if compiled.groups else 0)
    return found.strip() if found else None


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


@dataclass(frozen=True, slots=True)
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
    counts: dict[int, int] = {}
    for class_id in classes:
        counts[class_id] = counts.get(class_id, 0) + 1
    counts.pop(-1, None)
    if counts and (lowest := min(counts)) < -1:
        raise DataError(
            f"class ids must be -1 (empty) or from 0 up, found {lowest}; use group_equivalent's"
        )
    if not counts:
        return Vote(winner=None, count=0, share=0.0, margin=0.0, reason="empty")
    winner = count = runner_up = 0
    for class_id, votes in counts.items():
        if votes > count:
            winner, count, runner_up = class_id, votes, count
        elif votes > runner_up:
            runner_up = votes
    total = len(classes)
    if count == runner_up:
        return Vote(winner=None, count=count, share=count / total, margin=0.0, reason="tie")
    share, margin = count / total, (count - runner_up) / total
    if margin < least_margin:
        return Vote(winner=None, count=count, share=share, margin=margin, reason="margin")
    return Vote(winner, count, share, margin, "ok")

"""The samples of one question, grouped by answer as they voted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pivottrace.errors import ConfigError, DataError, first_line
from pivottrace.report.texts import CutText, cut
from pivottrace.rollouts.sampled_answers import compare_answers
from pivottrace.verifier import Verifier
from pivottrace.verifier.exact_text import normalise_exact
from pivottrace.verifier.keys import vote_classes

MAX_SAMPLE_CHARS = 60_000


@dataclass(frozen=True)
class Response:
    """A sampled response: its number, its cleaned text, its tokens, and the way it ended."""

    sample: int
    text: CutText
    num_tokens: int
    finish: str


@dataclass(frozen=True)
class AnswerGroup:
    """The samples that gave one answer.

    Attributes:
        answer: The answer as the first of them wrote it; None for samples without an answer.
        share: Share of all samples, in [0, 1].
        is_vote: Whether it won the vote.
        is_greedy: Whether the greedy trace gave it too.
        right: Whether it is right; None without a label.
        responses: The samples, in their order.
    """

    answer: str | None
    share: float
    is_vote: bool
    is_greedy: bool
    right: bool | None
    responses: list[Response]


@dataclass(frozen=True)
class Samples:
    """The samples of a question.

    Attributes:
        groups: The groups, largest first; samples without an answer are last.
        num_samples: Number of samples.
        greedy_right: Whether the greedy answer is right; None without it or without a label.
        vote: The vote in words.
        failure: The reason why the question was not sampled, else None.
        notes: Sentences about differences from the stored vote.
    """

    groups: list[AnswerGroup]
    num_samples: int
    greedy_right: bool | None
    vote: str
    failure: str | None
    notes: list[str]


def samples_of(
    rows: Sequence[dict[str, Any]],
    votes: dict[str, Any] | None,
    greedy: str | None,
    truth: str | None,
    verifier: Verifier,
    max_chars: int = MAX_SAMPLE_CHARS,
) -> Samples:
    """Group the samples of a question.

    Args:
        rows: Its rows of `rollouts_sampled`, in sample order.
        votes: Its row of `votes`; None before the vote.
        greedy: The greedy answer; None without one.
        truth: Its label; None without one.
        verifier: The verifier of the run, which groups as it did for the vote.
        max_chars: Characters of a response that are shown.
    """
    failure = next((row["failure"] for row in rows if row["finish"] == "failed"), None)
    rows = [row for row in rows if row["finish"] != "failed"]
    answers = [row["answer"] for row in rows]
    notes = []
    try:
        found = compare_answers(answers, verifier.group, greedy)
        given = [*found.class_answers, greedy]
        right = verifier.check_many(given, [truth] * len(given)) if truth else []
    except (ConfigError, DataError) as error:  # the user's own function cannot be used here
        found = compare_answers(answers, _as_text, greedy)
        right = []
        notes.append(
            f"The answers are compared as text here, and none is checked, because the verifier "
            f"cannot be used: {first_line(error)}"
        )
    order = list(dict.fromkeys(found.classes))
    largest_first = sorted(order, key=lambda c: (c < 0, -found.classes.count(c)))
    if votes and list(votes["class_counts"] or []) != found.class_counts and not notes:
        notes.append(
            "The answers form other groups now than when they voted: the settings or the version "
            "of the verifier have changed."
        )
    groups = []
    for place, each in enumerate(largest_first):
        own = [row for row, c in zip(rows, found.classes, strict=True) if c == each]
        groups.append(
            AnswerGroup(
                answer=None if each < 0 else own[0]["answer"],
                share=len(own) / len(rows),
                is_vote=each >= 0 and each == found.vote.winner,
                is_greedy=place == found.greedy_class,
                right=right[place] if right and each >= 0 else None,
                responses=[_response(row, max_chars) for row in own],
            )
        )
    return Samples(
        groups=groups,
        num_samples=len(rows),
        greedy_right=right[-1] if right and greedy is not None else None,
        vote=_vote_in_words(found.vote.reason, bool(votes)),
        failure=failure,
        notes=notes,
    )


def _as_text(answers: Sequence[str | None]) -> list[int]:
    keys = [normalise_exact(answer) if answer else "" for answer in answers]
    return vote_classes([(key, "") if key else None for key in keys])


def _response(row: dict[str, Any], max_chars: int) -> Response:
    text = cut(row["text"] or "", max_chars)
    return Response(row["sample"], text, len(row["tokens"] or []), row["finish"])


def _vote_in_words(reason: str, has_voted: bool) -> str:
    if not has_voted:
        return "The samples have not voted yet."
    return {
        "ok": "The largest group is the vote.",
        "tie": "No group won the vote: the largest groups have equal size.",
        "empty": "No sample gives an answer, so there is no vote.",
    }.get(reason, reason)

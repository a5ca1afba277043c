"""The results that need only a question's samples: classes of equal answers, and the vote."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pivottrace.verifier.answers import Vote, majority_vote


@dataclass(frozen=True)
class SampledAnswers:
    """The G sampled answers of one question, compared with each other.

    Attributes:
        answers: (G,) extracted answers; None if the sample has no answer.
        classes: (G,) equivalence class of each answer; -1 if the sample has no answer.
        vote: The majority vote of the classes.
    """

    answers: Sequence[str | None]
    classes: list[int]
    vote: Vote

    @property
    def is_unanswered(self) -> bool:
        """Whether no sample gives an answer."""
        return all(each < 0 for each in self.classes)

    def columns(self) -> dict[str, Any]:
        """The columns of `scores` that depend only on the samples."""
        winner = self.vote.winner
        return {
            "vote_answer": None if winner is None else self.answers[self.classes.index(winner)],
            "vote_share": self.vote.share,
            "vote_reason": self.vote.reason,
            "num_samples": len(self.classes),
        }


def compare_answers(
    answers: Sequence[str | None], group: Callable[[Sequence[str | None]], list[int]]
) -> SampledAnswers:
    """Group a question's sampled answers and let them vote.

    Args:
        answers: (G,) in sample order; G may be 0.
        group: Puts the answers into classes, as `Verifier.group`.
    """
    classes = group(answers)
    return SampledAnswers(answers, classes, majority_vote(classes))

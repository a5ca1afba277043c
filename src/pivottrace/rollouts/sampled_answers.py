"""The results that need only a question's answers: classes of equal answers, and the vote."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pivottrace.verifier.answers import Vote, majority_vote

Group = Callable[[Sequence[str | None]], list[int]]


@dataclass(frozen=True)
class SampledAnswers:
    """The G sampled answers of one question, compared with each other and with the greedy answer.

    Attributes:
        answers: (G,) extracted answers; None if the sample has no answer.
        classes: (G,) equivalence class of each answer; -1 if the sample has no answer.
        vote: The majority vote of the classes.
        class_counts: Sizes of the classes, largest first, ties by first appearance.
        greedy_class: Place in `class_counts` of the greedy answer's class: their number if no
            sample gave it, and -1 without a greedy answer.
        class_answers: An answer of each class of `class_counts`, and then the greedy answer if no
            sample gave it.
    """

    answers: Sequence[str | None]
    classes: list[int]
    vote: Vote
    class_counts: list[int]
    greedy_class: int
    class_answers: list[str]

    @property
    def is_unanswered(self) -> bool:
        """Whether no sample gives an answer."""
        return not self.class_counts

    @property
    def num_agreeing(self) -> int:
        """Number of samples that gave the greedy answer."""
        is_given = 0 <= self.greedy_class < len(self.class_counts)
        return self.class_counts[self.greedy_class] if is_given else 0

    def columns(self) -> dict[str, Any]:
        """The columns of `votes` that depend only on the answers."""
        winner = self.vote.winner
        return {
            "vote_answer": None if winner is None else self.answers[self.classes.index(winner)],
            "vote_share": self.vote.share,
            "vote_reason": self.vote.reason,
            "num_samples": len(self.classes),
            "class_counts": self.class_counts,
            "greedy_class": self.greedy_class,
        }


def compare_answers(
    answers: Sequence[str | None], group: Group, greedy: str | None
) -> SampledAnswers:
    """Group a question's sampled answers, let them vote, and find the greedy answer among them.

    Args:
        answers: (G,) in sample order; G may be 0.
        group: Puts answers into classes, as `Verifier.group`.
        greedy: The answer of the greedy trace, which has no vote; None if it has no answer.
    """
    classes = group(answers)
    # Classes are numbered by first appearance, and `sorted` keeps that order in ties.
    counts = sorted(Counter(c for c in classes if c >= 0).items())
    largest_first = [c for c, _ in sorted(counts, key=lambda item: -item[1])]
    place = _place(greedy, answers, classes, largest_first, group)
    given = [answers[classes.index(c)] for c in largest_first]
    return SampledAnswers(
        answers,
        classes,
        majority_vote(classes),
        [dict(counts)[c] for c in largest_first],
        place,
        [each for each in (*given, *([greedy] if place == len(given) else [])) if each is not None],
    )


def _place(
    greedy: str | None,
    answers: Sequence[str | None],
    classes: Sequence[int],
    largest_first: Sequence[int],
    group: Group,
) -> int:
    """The place of the greedy answer's class: after all others if no sample gave it, else -1.

    Its class is found among samples and greedy answer together. That is a second grouping, because
    one more answer may join or part others, and it has no say in the vote.
    """
    if greedy is None:
        return -1
    if greedy in answers:
        # The same text adds nothing, so the grouping would be the same.
        own = same = classes[answers.index(greedy)]
    else:
        *together, own = group([*answers, greedy])
        same = next((c for c, t in zip(classes, together, strict=True) if t == own >= 0), -1)
    if own < 0:
        return -1  # an empty answer is none
    return largest_first.index(same) if same >= 0 else len(largest_first)

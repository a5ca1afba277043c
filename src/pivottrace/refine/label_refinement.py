"""Online label refinement: the model's majority replaces a label that the model grows out of.

Source: Yang et al., Can LLMs Learn to Reason Robustly under Noisy Supervision? (OLR, arXiv
2604.03993), and its authors' code (github.com/ShenzhiYang2000/OLR). Theirs: the two conditions, the
start, and that every pass decides anew. Ours: a replaced label stays while its answer holds (see
`LabelRefinement`), and a decision takes effect at the question's next pass, because a pass is
rewarded before it is observed. The authors' decisions take effect at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from statistics import linear_regression
from typing import Any

from pivottrace.refine.state import check_state
from pivottrace.rewards.groups import Group
from pivottrace.verifier.answers import majority_vote

NAME = "label_refinement"
MAX_HISTORY = 32
"""Last passes kept per question: a bound on the state, three times OLR's 10 passes."""


@dataclass
class History:
    """The passes of an annotate question.

    Attributes:
        winners: The majority answer of each pass, None at a tie or without answers. Equal answers
            have one spelling.
        shares: Share of the group with the majority answer, in [0, 1]; 0 without a majority.
        replacement: The answer that replaces the label; None while the label stands.
        replaced_at: Share of that answer when it replaced the label.
    """

    winners: list[str | None] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    replacement: str | None = None
    replaced_at: float = 0.0


class LabelRefinement:
    """Verify an annotate row by the majority's answer while that answer steadily gains.

    Once a question has been seen `warm_up` times, its label is replaced if both conditions hold:

    - The majority's share rises: a least-squares line through the shares of the passes has a slope
      of at least `slope` per pass.
    - The majority is consistent: the winner of the last pass won more passes than any other answer,
      and more than the passes that had no majority.

    The label stays replaced while the same answer is consistent and its share is no less than when
    it replaced the label. The authors test the slope at every pass; but a share that has risen to 1
    has no slope left, so after enough passes the wrong label would come back. If a condition fails,
    the label is back, and may be replaced again.

    Weak rows are left alone, and no weight changes. State: an answer and a share for each of at
    most `MAX_HISTORY` passes, about 0.5 kB of JSON per question if answers are short.

    Args:
        warm_up: Number of passes before the first replacement.
        slope: Rise of the share per pass, in [0, 1].
        equal: Whether two answers are the same.
    """

    def __init__(self, *, warm_up: int, slope: float, equal: Callable[[str, str], bool]) -> None:
        self.warm_up = warm_up
        self.slope = slope
        self._equal = equal
        self._histories: dict[str, History] = {}

    def observe(self, step: int, groups: Sequence[Group]) -> None:
        """Append each annotate group's majority, and decide on its label."""
        for group in groups:
            if group.route == "annotate":
                history = self._histories.setdefault(group.question_id, History())
                self._append(history, group)
                self._decide(history)

    def weight(self, question_id: str, route: str) -> float:
        """Return 1.0: the rule changes labels only."""
        return 1.0

    def label(self, question_id: str, label: str) -> str:
        """Return the label or its replacement, which is never another spelling of the label."""
        history = self._histories.get(question_id)
        if history is None or history.replacement is None:
            return label
        return label if self._equal(history.replacement, label) else history.replacement

    def state_dict(self) -> dict[str, Any]:
        """Return the histories by question."""
        return {"rule": NAME, "questions": {i: asdict(h) for i, h in self._histories.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state. Raises ConfigError if another rule wrote it."""
        check_state(state, NAME, "questions")
        self._histories = {
            i: History(list(h["winners"]), list(h["shares"]), h["replacement"], h["replaced_at"])
            for i, h in state["questions"].items()
        }

    def _append(self, history: History, group: Group) -> None:
        vote = majority_vote(group.classes)
        winner = None
        if vote.winner is not None:
            winner = self._spelling(history, group.answers[group.classes.index(vote.winner)])
        history.winners.append(winner)
        history.shares.append(vote.share if winner is not None else 0.0)
        del history.winners[:-MAX_HISTORY]
        del history.shares[:-MAX_HISTORY]

    def _spelling(self, history: History, answer: str | None) -> str | None:
        """Return the first spelling that an equal answer had, so that text can be counted."""
        for known in dict.fromkeys([history.replacement, *history.winners]):
            if known is not None and answer is not None and self._equal(known, answer):
                return known
        return answer

    def _decide(self, history: History) -> None:
        winner, share = history.winners[-1], history.shares[-1]
        if winner is None or not _is_consistent(history.winners):
            history.replacement = None
            return
        if winner == history.replacement and share >= history.replaced_at:
            return
        rises = len(history.shares) >= self.warm_up and share_slope(history.shares) >= self.slope
        history.replacement = winner if rises else None
        history.replaced_at = share if rises else 0.0


def share_slope(shares: Sequence[float]) -> float:
    """Return the rounded slope per pass of a least-squares line through (n,) shares; 0 if n < 2."""
    if len(shares) < 2:
        return 0.0
    # It is rounded, so that a slope that equals the threshold on paper equals it here too.
    return round(linear_regression(range(len(shares)), shares).slope, 12)


def _is_consistent(winners: Sequence[str | None]) -> bool:
    """Return whether the last winner alone won most passes; no majority counts as a winner too."""
    leaders = Counter(winners).most_common(2)
    alone = len(leaders) == 1 or leaders[0][1] > leaders[1][1]
    return alone and leaders[0][0] == winners[-1]

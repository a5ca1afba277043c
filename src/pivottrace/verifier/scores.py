"""Verdicts of the scorers of reasoning-gym, which run in a process that can be killed."""

from collections.abc import Sequence
from typing import Any

from pivottrace.errors import DataError
from pivottrace.verifier.decisions import Decisions, in_order
from pivottrace.verifier.process import DIED
from pivottrace.verifier.workers import Workers

MOST_KEPT = 200_000
"""Verdicts kept; beyond this the oldest are dropped, and asked again if needed."""

Item = tuple[str, ...]
"""(reply, gold, entry), as `gym_scorer.judge` takes them."""


class Scores:
    """Verdicts of each question's own scorer.

    Attributes:
        crashes: Replies at which the process ended. They are wrong.
    """

    def __init__(self, workers: Workers) -> None:
        self.crashes = 0
        self._decisions = Decisions(workers, sets_hard_aside=True, most_kept=MOST_KEPT)

    @property
    def timeouts(self) -> int:
        """Replies that took too long; they are wrong, too."""
        return self._decisions.timeouts

    def verdicts(self, items: Sequence[Item]) -> list[bool]:
        """Whether each reply is right. The replies to one entry are a question.

        Raises:
            ConfigError: If reasoning-gym cannot be loaded.
            DataError: If it has no such task, or refuses the options that made the question.
        """
        questions: dict[Item, list[Item]] = {}
        for item in items:
            questions.setdefault(item[1:], []).append(item)
        late = self._decisions.settle([in_order(each) for each in questions.values()], self._read)
        undecided = set[Item]().union(*late)
        return [item not in undecided and self._decisions.known[item] for item in items]

    def _read(self, items: Sequence[Item], replies: Sequence[Any]) -> list[bool]:
        self.crashes += sum(reply == DIED for reply in replies)
        for reply in replies:
            if reply != DIED and "error" in reply:
                raise DataError(
                    f"reasoning-gym cannot score its own question: {reply['error']}. Another "
                    f"version made the questions; install that one"
                )
        return [reply != DIED and reply["value"] for reply in replies]

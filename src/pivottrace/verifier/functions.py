"""Verdicts of a user's own function, which runs in a process that can be killed."""

from collections.abc import Sequence
from typing import Any

from pivottrace.errors import DataError
from pivottrace.verifier.decisions import Decisions, in_order
from pivottrace.verifier.workers import ProcessEnded, Workers

CACHE_PAIRS = 500_000
"""Number of verdicts kept, about 100 MB at worst; the oldest go first."""

Pair = tuple[str, ...]


class Functions:
    """Verdicts of the function that the processes have loaded."""

    def __init__(self, name: str, workers: Workers) -> None:
        self._name = name
        self._decisions = Decisions(workers, sets_hard_aside=False, most_kept=CACHE_PAIRS)

    @property
    def timeouts(self) -> int:
        """Pairs that took too long; none of them is equal."""
        return self._decisions.timeouts

    def verdicts(self, pairs: Sequence[Pair], indices: Sequence[int]) -> list[bool]:
        """Whether the function says so of each pair.

        Args:
            pairs: (N,) of (answer, truth). The answers to one truth are a question.
            indices: (N,) the caller's numbers of the pairs, for messages.

        Raises:
            ConfigError: If the function cannot be loaded.
            DataError: If it raises, returns None or ends its process.
        """
        places: dict[Pair, int] = {}
        questions: dict[str, list[Pair]] = {}
        for pair, index in zip(pairs, indices, strict=True):
            if pair not in places and all(side.strip() for side in pair):
                places[pair] = index
                questions.setdefault(pair[1], []).append(pair)

        def read(asked: Sequence[Pair], replies: Sequence[Any]) -> list[bool]:
            for pair, reply in sorted(zip(asked, replies, strict=True), key=lambda e: places[e[0]]):
                if "error" in reply:
                    raise self._error(reply["error"], pair, places[pair])
            return [bool(reply["value"]) for reply in replies]

        try:
            late = self._decisions.settle([in_order(each) for each in questions.values()], read)
        except ProcessEnded as error:
            pair = tuple(error.item)
            raise self._error("ended its process", pair, places[pair]) from error
        undecided = set[Pair]().union(*late)
        known = self._decisions.known
        return [pair not in undecided and bool(known.get(pair)) for pair in pairs]

    def _error(self, what: str, pair: Pair, index: int) -> DataError:
        return DataError(
            f"verifier {self._name!r} {what} at pair {index} "
            f"(answer {_shortened(pair[0])}, truth {_shortened(pair[1])}); "
            "let the function return False for an answer that it cannot read"
        )


def _shortened(text: str, limit: int = 60) -> str:
    """Shorten an answer for a message."""
    return repr(text if len(text) <= limit else text[:limit] + "…")

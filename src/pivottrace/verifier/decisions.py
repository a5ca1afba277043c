"""Items that the processes decide: each one once, and not every slow one of a question.

An item is an expression, a pair of texts, or a call of a user's function. The items of a question
are the group of a vote, or the answers to one truth. The verdict on an item depends on the other
items of its question only if `MOST_SLOW` of them are slow. It never depends on earlier calls.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from pivottrace.verifier.process import SLOW
from pivottrace.verifier.workers import Workers

MOST_SLOW = 3
"""Slow items of a question that are waited for. The hard ones behind them are not tried."""

QUICK_SHARE = 0.1
"""Share of its processor time within which an ordinary expression is valued. A harder one is set
aside until the others are there. Ordinary ones take up to 0.15 s, and the limit is 5 s by
default."""

Item = tuple[str, ...]
Read = Callable[[Sequence[Item], Sequence[Any]], Sequence[Any]]
"""Turns the replies to items into values that are kept. Slow items are left out."""


def in_order(items: Iterable[Item]) -> list[Item]:
    """The order in which hard items of a question are tried: short ones first, then by their text.

    So it does not depend on the order of the answers.
    """
    return sorted(set(items), key=lambda item: (sum(map(len, item)), item))


class Decisions:
    """Ask processes about items, and keep what they find.

    Attributes:
        known: The value that `read` made of the reply to an item; None for a slow one.
    """

    def __init__(self, workers: Workers, *, sets_hard_aside: bool, most_kept: int) -> None:
        """Keep nothing yet.

        Args:
            workers: The processes.
            sets_hard_aside: Whether all items are first tried for a short time. Else each one is
                taken for hard: a user's function may need the same time for every call.
            most_kept: Items kept; beyond this the oldest are dropped, and asked again if needed.
        """
        self.known: dict[Item, Any] = {}
        self._workers = workers
        self._sets_hard_aside = sets_hard_aside
        self._most_kept = most_kept
        self._hard: set[Item] = set()
        self._slow: set[Item] = set()
        self._undecided: set[Item] = set()

    @property
    def timeouts(self) -> int:
        """Items that were slow, or that were not waited for after slow ones."""
        return len(self._undecided)

    def is_hard(self, item: Item) -> bool:
        """Whether the decision on an item depends on the others of its question."""
        return not self._sets_hard_aside or item in self._hard

    def settle(self, questions: Sequence[Sequence[Item]], read: Read) -> list[set[Item]]:
        """Decide the items of some questions.

        Args:
            questions: The items of each question, each once, in the order in which hard ones are
                tried.
            read: Makes values of replies.

        Returns:
            For each question its undecided items: slow items, and hard items that are not waited
            for after them.

        Raises:
            ConfigError: As `Workers.ask`.
            ProcessEnded: As `Workers.ask`.
        """
        while len(self.known) > self._most_kept:
            del self.known[next(iter(self.known))]
        if self._sets_hard_aside:
            self._ask_quickly(dict.fromkeys(chain(*questions)), read)
        queues = [_Queue([i for i in items if self.is_hard(i)]) for items in questions]
        while wanted := dict.fromkeys(chain(*(q.take(self.known, self._slow) for q in queues))):
            for item in self._ask(list(wanted), 1.0, read):
                self._slow.add(item)
                self.known[item] = None
        undecided = [queue.undecided(self._slow) for queue in queues]
        self._undecided.update(*undecided)
        return undecided

    def _ask_quickly(self, items: Iterable[Item], read: Read) -> None:
        new = [item for item in items if item not in self.known and item not in self._hard]
        self._hard.update(self._ask(new, QUICK_SHARE, read))

    def _ask(self, items: Sequence[Item], share: float, read: Read) -> list[Item]:
        """Keep what is found; return the slow items."""
        if not items:
            return []
        replies = dict(zip(items, self._workers.ask(items, share), strict=True))
        slow = [item for item, reply in replies.items() if reply == SLOW]
        for item in slow:
            del replies[item]
        found = read(list(replies), list(replies.values()))
        self.known.update(zip(replies, found, strict=True))
        return slow


@dataclass
class _Queue:
    """The hard items of a question, until enough of them were slow.

    Attributes:
        items: In the order in which they are tried.
        place: Number of items that were taken, or that were known.
        num_slow: Slow ones among those whose decision has been seen.
        taken: Items whose decision has not been seen.
    """

    items: Sequence[Item]
    place: int = 0
    num_slow: int = 0
    taken: list[Item] = field(default_factory=list)

    def take(self, known: Collection[Item], slow: Collection[Item]) -> list[Item]:
        """Return the next items to try: no more than may be slow before the rest is left."""
        self.num_slow += sum(item in slow for item in self.taken)
        self.taken = []
        while self.place < len(self.items) and self.num_slow + len(self.taken) < MOST_SLOW:
            item = self.items[self.place]
            self.place += 1
            if item in slow:
                self.num_slow += 1
            elif item not in known:
                self.taken.append(item)
        return self.taken

    def undecided(self, slow: Collection[Item]) -> set[Item]:
        """Return the slow items, and all items that were not taken."""
        return {item for item in self.items[: self.place] if item in slow} | {
            *self.items[self.place :]
        }

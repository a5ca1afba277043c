"""The processes that value, score and run users' functions, as one pool that can be killed."""

import os
import sys
import threading
from collections.abc import Sequence
from itertools import count
from typing import Any

from pivottrace.errors import ConfigError
from pivottrace.verifier.process import (
    DIED,
    LATE,
    OWN_KINDS,
    SLOW,
    STARTUP_TIMEOUT_S,
    ChildProcess,
    Item,
)

BATCH_ITEMS = 64
"""Items per message. Their replies always fit a pipe, so no side can block."""

ITEMS_PER_PROCESS = 24
"""Ordinary items for which no further process starts, because its start takes a second."""

MOST_REPEATS = 2
"""An item at which its process ended is asked so often again, alone in a fresh process. If each of
them ends too, it is the item's doing."""

WALL_FACTOR = 100
"""An expression may take so many times its processor time by the clock. Only a process that gets
less than a hundredth of a core takes longer."""


class ProcessEnded(Exception):
    """A user's function ended every process that was asked for one item.

    Attributes:
        item: Its arguments.
    """

    def __init__(self, item: Item) -> None:
        super().__init__()
        self.item = item


class Workers:
    """At most one process per core; each starts at need. Threads may share them.

    An expression and a scored reply have a limit of processor time, so that the verdict does not
    depend on other work on the machine. A user's function has one by the clock, because it may wait
    for something, or compute on several cores.

    A process that ends at an item, or is late by the clock, may have been killed or stopped from
    outside. The item is asked again, alone in a fresh process.

    After a fork each side has processes of its own.
    """

    def __init__(
        self, kind: str, timeout_s: float, memory_bytes: int | None, most: int | None = None
    ) -> None:
        self._kind = kind
        self._timeout_s = timeout_s
        self._processor_s, self._wall_s = 0.0, timeout_s
        if kind in OWN_KINDS:
            self._processor_s, self._wall_s = timeout_s, WALL_FACTOR * timeout_s
        self._memory_bytes = memory_bytes
        self._most = most or len(os.sched_getaffinity(0))
        self._children: dict[int, ChildProcess] = {}
        self._lock = threading.Lock()

    def load(self) -> None:
        """Start the first process, so that a function that cannot be loaded is refused early."""
        with self._lock:
            self._child(0)

    def close(self) -> None:
        """End all processes. A later call starts them again."""
        with self._lock:
            for slot in list(self._children):
                self._stop(slot)

    def forget(self) -> None:
        """In a fork: leave the processes to the parent, and the lock to its thread."""
        self._lock = threading.Lock()
        self._children = {}

    def ask(self, items: Sequence[Item], share: float = 1.0) -> list[Any]:
        """Return the reply to each item: {"value": …}, {"error": …}, `SLOW` or `DIED`.

        Args:
            items: Requests, or pairs of a user's function.
            share: Share of its processor time that each may have, in (0, 1]. A user's function has
                no such time.

        Raises:
            ConfigError: The user's module, math-verify or reasoning-gym cannot be loaded.
            ProcessEnded: A user's function ends its process. Nothing more is asked of it.
        """
        replies: list[Any] = [None] * len(items)
        # A hard item, which has its whole time, takes longer than the start of a process.
        per_process = ITEMS_PER_PROCESS if share < 1 else 1
        wanted = min(self._most, 1 + (len(items) - 1) // per_process)
        with self._lock:
            tickets = count()
            if wanted == 1:
                self._work(0, items, share, replies, tickets, BATCH_ITEMS)
                return replies
            size = max(1, min(BATCH_ITEMS, len(items) // (4 * wanted)))
            errors: list[BaseException] = []

            def work(slot: int) -> None:
                try:
                    self._work(slot, items, share, replies, tickets, size)
                except BaseException as error:
                    errors.append(error)

            threads = [threading.Thread(target=work, args=(slot,)) for slot in range(1, wanted)]
            for thread in threads:
                thread.start()
            work(0)
            for thread in threads:
                thread.join()
            if errors:
                raise errors[0]
        return replies

    def _work(
        self,
        slot: int,
        items: Sequence[Item],
        share: float,
        replies: list[Any],
        tickets: "count[int]",
        size: int,
    ) -> None:
        """Take batch after batch, until none is left."""
        finished = False
        try:
            while (start := next(tickets) * size) < len(items):
                batch = items[start : start + size]
                while batch:
                    found = self._batch(slot, batch, share)
                    replies[start : start + len(found)] = found
                    start, batch = start + len(found), batch[len(found) :]
            finished = True
        finally:
            if not finished:  # replies may be on their way: they must not meet the next batch
                self._stop(slot)

    def _batch(self, slot: int, items: Sequence[Item], share: float) -> list[Any]:
        """Replies to all items, or to the first ones, up to one at which the process ended."""
        replies: list[Any] = []
        child = self._child(slot)
        reply = child.hand_over(items, share * self._processor_s)
        for item in items:
            if reply not in (LATE, DIED):
                reply = child.receive()
            if reply in (LATE, DIED):
                return [*replies, self._alone(slot, item, share)]
            replies.append(reply)
            if reply == SLOW:
                break
        return replies

    def _alone(self, slot: int, item: Item, share: float) -> Any:
        """Ask again in fresh processes, which have nothing else to do."""
        for _ in range(MOST_REPEATS):
            self._stop(slot)
            child = self._child(slot)
            reply = child.hand_over([item], share * self._processor_s)
            if reply is True:
                reply = child.receive()
            if reply not in (LATE, DIED):
                return reply
            if reply == LATE:
                self._stop(slot)
                return SLOW
        self._stop(slot)
        if self._kind not in OWN_KINDS:
            raise ProcessEnded(item)
        return DIED

    def _child(self, slot: int) -> ChildProcess:
        child = self._children.get(slot)
        if child is None or child.owner_pid != os.getpid():
            child = self._children[slot] = self._started()
        return child

    def _started(self) -> ChildProcess:
        for _ in range(1 + MOST_REPEATS):
            child = ChildProcess(self._kind, self._timeout_s, self._wall_s, self._memory_bytes)
            reply = child.load()
            if reply is True:
                return child
            child.stop()
            if isinstance(reply, dict):
                raise ConfigError(reply["error"])
            if reply == LATE:
                break
        fate = "did not load within" if reply == LATE else "ended while loading, within"
        raise ConfigError(
            f"verifier {self._kind!r} {fate} {STARTUP_TIMEOUT_S:.0f} s; check that "
            f"`{sys.executable} -c 'import pivottrace.verifier.child'` and your module load"
        )

    def _stop(self, slot: int) -> None:
        if child := self._children.pop(slot, None):
            child.stop()

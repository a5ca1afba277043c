"""The processes that value expressions and run users' functions, as one pool that can be killed."""

import os
import threading
from collections.abc import Sequence
from itertools import count
from typing import Any

from pivottrace.verifier.process import ChildProcess

BATCH_ITEMS = 64
"""Items per message. Their replies always fit a pipe, so no side can block."""

ITEMS_PER_PROCESS = 24
"""A further process starts for this many items, because its start takes a second."""

Item = Sequence[str]
TIMEOUT, DIED = "timeout", "died"
"""Replies for an item that took too long, and for one at which the process ended."""


class Workers:
    """At most one process per core; each starts at need. Threads may share them.

    A process that is late with an item, or ends at it, is replaced for the next item. After a fork
    each side has processes of its own.
    """

    def __init__(
        self, kind: str, timeout_s: float, memory_bytes: int | None, most: int | None = None
    ) -> None:
        self._kind = kind
        self._timeout_s = timeout_s
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

    def ask(self, items: Sequence[Item]) -> list[Any]:
        """Return the reply to each item: {"value": …}, {"error": …}, `TIMEOUT` or `DIED`.

        Raises:
            ConfigError: The user's module, or math-verify, cannot be loaded.
        """
        replies: list[Any] = [None] * len(items)
        wanted = min(self._most, 1 + len(items) // ITEMS_PER_PROCESS)
        with self._lock:
            tickets = count()
            if wanted == 1:
                self._work(0, items, replies, tickets, BATCH_ITEMS)
                return replies
            size = max(1, min(BATCH_ITEMS, len(items) // (4 * wanted)))
            errors: list[BaseException] = []

            def work(slot: int) -> None:
                try:
                    self._work(slot, items, replies, tickets, size)
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
        self, slot: int, items: Sequence[Item], replies: list[Any], tickets: "count[int]", size: int
    ) -> None:
        """Take batch after batch, until none is left."""
        finished = False
        try:
            while (start := next(tickets) * size) < len(items):
                self._batch(slot, items, replies, start, min(start + size, len(items)))
            finished = True
        finally:
            if not finished:  # replies may be on their way: they must not meet the next batch
                self._stop(slot)

    def _batch(
        self, slot: int, items: Sequence[Item], replies: list[Any], start: int, end: int
    ) -> None:
        while start < end:
            child = self._child(slot)
            child.send([list(item) for item in items[start:end]])
            while start < end:
                reply = child.receive(self._timeout_s)
                replies[start] = reply
                start += 1
                if reply in (TIMEOUT, DIED):
                    self._stop(slot)
                    break  # the rest of the batch goes to the next process

    def _child(self, slot: int) -> ChildProcess:
        child = self._children.get(slot)
        if child is None or child.owner_pid != os.getpid():
            child = ChildProcess(self._kind, self._timeout_s, self._memory_bytes)
            child.await_ready()
            self._children[slot] = child
        return child

    def _stop(self, slot: int) -> None:
        if child := self._children.pop(slot, None):
            child.stop()

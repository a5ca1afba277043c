"""The questions that people have now: two people at once get different ones.

Claims only save work. They are lost with the server, and then made anew; two answers to the same
question are compared by the verifier.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

HELD_S = 180.0
"""Seconds after which a question goes to the next person. An open page holds it every minute."""


class Claims:
    """Questions by the browser that has them."""

    def __init__(self) -> None:
        self._until: dict[str, tuple[str, float]] = {}

    def take_first(self, seat: str, question_ids: Iterable[str]) -> str | None:
        """Claim the first free question; None if others have them all.

        The question that the browser has already comes first, so a page that is loaded again shows
        the same one.
        """
        ids = list(question_ids)
        own = self.of(seat)
        free = (i for i in ids if self._holder(i) in (None, seat))
        found = own if own in ids else next(free, None)
        self.release(seat)
        if found is not None:
            self.take(seat, found)
        return found

    def take(self, seat: str, question_id: str) -> None:
        """Claim a question."""
        self._until[question_id] = (seat, time.monotonic() + HELD_S)

    def hold(self, seat: str) -> None:
        """Hold what a browser has for longer."""
        found = self.of(seat)
        if found is not None:
            self.take(seat, found)

    def of(self, seat: str) -> str | None:
        """The question that a browser has."""
        return next((i for i in self._until if self._holder(i) == seat), None)

    def release(self, seat: str) -> None:
        """Give back what a browser has."""
        for question_id in [i for i, (holder, _) in self._until.items() if holder == seat]:
            del self._until[question_id]

    def _holder(self, question_id: str) -> str | None:
        holder, until = self._until.get(question_id, (None, 0.0))
        return holder if until > time.monotonic() else None

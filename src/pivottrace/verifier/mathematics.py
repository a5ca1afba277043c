"""Mathematical answers: their keys for votes, and verdicts for rewards.

Numbers and texts are settled here. Only expressions go to the processes, each distinct one once.
"""

from collections.abc import Hashable, Iterable, Sequence
from fractions import Fraction
from typing import Any

from pivottrace.verifier.forms import Form, read_form
from pivottrace.verifier.keys import Key, Value, key_of, matches, vote_classes
from pivottrace.verifier.workers import DIED, TIMEOUT, Workers

NO_ANSWER = -1
"""The class of an empty answer."""

SETTLED = {"number", "text", "time", "ratio", "empty", "infinity"}
"""Kinds of forms that need no parser."""

MOST_KEPT = 200_000
"""Values and verdicts kept; beyond this the oldest are dropped, and asked again if needed."""


class Mathematics:
    """Keys and verdicts of mathematical answers.

    Attributes:
        timeouts: Expressions and pairs that took too long. They equal nothing but their own text.
        crashes: Expressions and pairs at which the process ended or ran out of memory; likewise.
    """

    def __init__(self, workers: Workers) -> None:
        self.timeouts = 0
        self.crashes = 0
        self._workers = workers
        self._values: dict[tuple[str, str], Value | None] = {}
        self._same: dict[tuple[str, str], bool] = {}
        # A vote looks up one small number per answer, so that it costs no hash of a key.
        self._number_of: dict[str | None, int] = {None: NO_ANSWER}
        self._numbers: dict[Key, int] = {}
        self._keys: list[Key] = []  # with a number in place of the value, for the same reason
        self._whats: dict[Hashable, int] = {}
        self._marked: set[int] = set()

    def classes(self, answers: Sequence[str | None]) -> list[int]:
        """The class of each answer in a vote; see `keys.vote_classes`."""
        known = self._number_of
        try:
            numbers = [known[answer] for answer in answers]
        except KeyError:
            self._learn(answers)
            numbers = [self._number_of[answer] for answer in answers]
        different = dict.fromkeys(numbers)  # a few of many samples
        if self._marked.isdisjoint(different):
            different.pop(NO_ANSWER, None)
            class_of = dict(zip(different, range(len(different)), strict=True))
            class_of[NO_ANSWER] = NO_ANSWER
        else:
            keys = [self._keys[n] if n != NO_ANSWER else None for n in different]
            class_of = dict(zip(different, vote_classes(keys), strict=True))
        return [class_of[number] for number in numbers]

    def _learn(self, answers: Sequence[str | None]) -> None:
        """Find the keys of new answers, and number the keys."""
        if len(self._number_of) > MOST_KEPT:
            self._number_of = {None: NO_ANSWER}
            self._numbers, self._keys, self._whats, self._marked = {}, [], {}, set()
        new = {a: read_form(a) for a in answers if a is not None and a not in self._number_of}
        self._value(new.values())
        for answer, form in new.items():
            key = key_of(form, self._value_of)
            if key is None:
                self._number_of[answer] = NO_ANSWER
                continue
            key = self._whats.setdefault(key[0], len(self._whats)), key[1]
            number = self._number_of[answer] = self._numbers.setdefault(key, len(self._keys))
            if number == len(self._keys):
                self._keys.append(key)
                if key[1]:
                    self._marked.add(number)

    def verdicts(
        self, pairs: Sequence[tuple[str, str]], tolerances: Sequence[Fraction | None]
    ) -> list[bool]:
        """Whether each answer matches its truth.

        Args:
            pairs: (N,) of (answer, truth), each one value.
            tolerances: (N,) as in `matches`.
        """
        forms = [(read_form(answer), read_form(truth)) for answer, truth in pairs]
        # Nothing is valued for a pair whose forms settle it, such as a number and a text.
        self._value(form for pair in forms for form in pair if not _are_settled(pair))
        found = [
            matches(*pair, self._value_of, tolerance)
            for pair, tolerance in zip(forms, tolerances, strict=True)
        ]
        unsettled = {
            _ordered(answer.text, truth.text): None
            for (answer, truth), verdict in zip(forms, found, strict=True)
            if verdict is None
        }
        asked = [pair for pair in unsettled if pair not in self._same]
        for pair, reply in zip(asked, self._ask([("same", *pair) for pair in asked]), strict=True):
            self._same[pair] = bool(reply)
        verdicts = [
            self._same[_ordered(pair[0].text, pair[1].text)] if verdict is None else verdict
            for pair, verdict in zip(forms, found, strict=True)
        ]
        _trim(self._same)
        return verdicts

    def _value(self, forms: Iterable[Form]) -> None:
        """Have the expressions of the forms valued, each distinct one once."""
        wanted = {
            (leaf.kind, leaf.text): None
            for form in forms
            for leaf in form.expressions()
            if (leaf.kind, leaf.text) not in self._values
        }
        for item, reply in zip(wanted, self._ask(list(wanted)), strict=True):
            self._values[item] = Value.of(reply)

    def _value_of(self, form: Form) -> Value | None:
        return self._values.get((form.kind, form.text))

    def _ask(self, items: Sequence[tuple[str, ...]]) -> list[Any]:
        """The values of the replies; None for a reply without a value."""
        if not items:
            return []
        _trim(self._values)
        values = []
        for reply in self._workers.ask(items):
            self.timeouts += reply == TIMEOUT
            self.crashes += reply == DIED or (isinstance(reply, dict) and "error" in reply)
            values.append(reply.get("value") if isinstance(reply, dict) else None)
        return values


def _are_settled(pair: tuple[Form, Form]) -> bool:
    """Whether both sides are forms without an expression."""
    return {form.kind for form in pair} <= SETTLED


def _ordered(left: str, right: str) -> tuple[str, str]:
    return (left, right) if left <= right else (right, left)


def _trim(kept: dict[Any, Any]) -> None:
    while len(kept) > MOST_KEPT:
        del kept[next(iter(kept))]

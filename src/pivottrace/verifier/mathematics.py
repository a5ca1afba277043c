"""Mathematical answers: their keys for votes, and verdicts for rewards.

Numbers and texts are settled here. Only expressions go to the processes, each distinct one once.
"""

from collections.abc import Collection, Hashable, Mapping, Sequence
from fractions import Fraction
from itertools import chain
from typing import Any

from pivottrace.verifier.decisions import Decisions, Item, in_order
from pivottrace.verifier.forms import Form, read_form
from pivottrace.verifier.keys import Key, Lookup, Value, key_of, matches, vote_classes
from pivottrace.verifier.process import DIED
from pivottrace.verifier.workers import Workers

NO_ANSWER = -1
"""The class of an empty answer."""

SETTLED = {"number", "text", "time", "ratio", "empty", "infinity"}
"""Kinds of forms that need no parser."""

MOST_KEPT = 200_000
"""Values and verdicts kept; beyond this the oldest are dropped, and asked again if needed."""


class Mathematics:
    """Keys and verdicts of mathematical answers.

    Attributes:
        crashes: Expressions and pairs at which the process ended or ran out of memory. They equal
            nothing but their own text.
    """

    def __init__(self, workers: Workers) -> None:
        self.crashes = 0
        self._decisions = Decisions(workers, sets_hard_aside=True, most_kept=MOST_KEPT)
        # A vote looks up one small number per answer, so that it costs no hash of a key.
        self._number_of: dict[str | None, int] = {None: NO_ANSWER}
        self._numbers: dict[Key, int] = {}
        self._keys: list[Key] = []  # with a number in place of the value, for the same reason
        self._whats: dict[Hashable, int] = {}
        self._marked: set[int] = set()

    @property
    def timeouts(self) -> int:
        """Expressions and pairs that took too long; likewise."""
        return self._decisions.timeouts

    def classes(self, answers: Sequence[str | None]) -> list[int]:
        """The class of each answer in a vote; see `keys.vote_classes`."""
        known = self._number_of
        try:
            numbers = [known[answer] for answer in answers]
        except KeyError:
            hard = self._learn(answers)
            numbers = [hard[a] if a in hard else self._number_of[a] for a in answers]
        different = dict.fromkeys(numbers)  # a few of many samples
        if self._marked.isdisjoint(different):
            different.pop(NO_ANSWER, None)
            class_of = dict(zip(different, range(len(different)), strict=True))
            class_of[NO_ANSWER] = NO_ANSWER
        else:
            keys = [self._keys[n] if n != NO_ANSWER else None for n in different]
            class_of = dict(zip(different, vote_classes(keys), strict=True))
        return [class_of[number] for number in numbers]

    def _learn(self, answers: Sequence[str | None]) -> dict[str | None, int]:
        """Find the keys of new answers, and number the keys.

        Returns:
            The numbers of hard answers, which may differ in another question.
        """
        if len(self._number_of) > MOST_KEPT:
            self._number_of = {None: NO_ANSWER}
            self._numbers, self._keys, self._whats, self._marked = {}, [], {}, set()
        new = {a: read_form(a) for a in answers if a is not None and a not in self._number_of}
        # Most answers are numbers and texts, and these need no process.
        items = {a: _items(form) for a, form in new.items() if form.kind not in SETTLED}
        (late,) = self._settle([in_order(chain(*items.values()))]) if items else [set()]
        values = self._values(late)
        hard: dict[str | None, int] = {}
        for answer, form in new.items():
            is_hard = any(map(self._decisions.is_hard, items.get(answer, ())))
            numbers = hard if is_hard else self._number_of
            numbers[answer] = self._number(key_of(form, values))
        return hard

    def _number(self, key: Key | None) -> int:
        if key is None:
            return NO_ANSWER
        key = self._whats.setdefault(key[0], len(self._whats)), key[1]
        number = self._numbers.setdefault(key, len(self._keys))
        if number == len(self._keys):
            self._keys.append(key)
            if key[1]:
                self._marked.add(number)
        return number

    def verdicts(
        self, pairs: Sequence[tuple[str, str]], tolerances: Sequence[Fraction | None]
    ) -> list[bool]:
        """Whether each answer matches its truth.

        Args:
            pairs: (N,) of (answer, truth), each one value. The answers to one truth are a question.
            tolerances: (N,) as in `matches`.
        """
        forms = [(read_form(answer), read_form(truth)) for answer, truth in pairs]
        truths = [truth for _, truth in pairs]
        questions = _questions(truths, forms)
        late = dict(zip(questions, self._settle(list(questions.values())), strict=True))
        found = [
            matches(*pair, self._values(late.get(truth, ())), tolerance)
            for truth, pair, tolerance in zip(truths, forms, tolerances, strict=True)
        ]
        texts: dict[str, set[Item]] = {}
        for truth, pair, verdict in zip(truths, forms, found, strict=True):
            if verdict is None and late[truth].isdisjoint(_items(*pair)):
                texts.setdefault(truth, set()).add(_same(*pair))
        same = self._same_texts(questions, texts)
        return [
            _same(*pair) in same.get(truth, ()) if verdict is None else verdict
            for truth, pair, verdict in zip(truths, forms, found, strict=True)
        ]

    def _same_texts(
        self, questions: Mapping[str, Sequence[Item]], texts: Mapping[str, Collection[Item]]
    ) -> dict[str, set[Item]]:
        """The pairs of texts of each question that are the same. Slow expressions count, too."""
        whole = [[*questions[truth], *in_order(items)] for truth, items in texts.items()]
        return {
            truth: {item for item in items if item not in late and self._decisions.known[item]}
            for (truth, items), late in zip(texts.items(), self._settle(whole), strict=True)
        }

    def _settle(self, questions: Sequence[Sequence[Item]]) -> list[set[Item]]:
        return self._decisions.settle(questions, self._read)

    def _read(self, items: Sequence[Item], replies: Sequence[Any]) -> list[Value | bool | None]:
        """Values of expressions and equations, and verdicts on pairs; None without one."""
        self.crashes += sum(reply == DIED or "error" in reply for reply in replies)
        values = [reply.get("value") if isinstance(reply, dict) else None for reply in replies]
        return [
            value if item[0] == "same" else Value.of(value)
            for item, value in zip(items, values, strict=True)
        ]

    def _values(self, late: Collection[Item]) -> Lookup:
        """The values of expressions, for a question in which some are not decided."""
        known = self._decisions.known
        if not late:
            return lambda form: known.get((form.kind, form.text))
        return lambda form: None if (item := (form.kind, form.text)) in late else known.get(item)


def _questions(truths: Sequence[str], forms: Sequence[tuple[Form, Form]]) -> dict[str, list[Item]]:
    """The expressions of each truth and its answers, in the order in which hard ones are tried.

    A truth's own go first, because all of its answers need them. Nothing is valued for a pair whose
    forms settle it, such as a number and a text.
    """
    own: dict[str, list[Item]] = {}
    others: dict[str, set[Item]] = {}
    for text, (answer, truth) in zip(truths, forms, strict=True):
        if not {answer.kind, truth.kind} <= SETTLED:
            own.setdefault(text, _items(truth))
            others.setdefault(text, set()).update(_items(answer))
    return {
        text: list(dict.fromkeys([*items, *in_order(others[text])])) for text, items in own.items()
    }


def _items(*forms: Form) -> list[Item]:
    return [(leaf.kind, leaf.text) for form in forms for leaf in form.expressions()]


def _same(answer: Form, truth: Form) -> Item:
    """The request to compare two texts, in either order."""
    return ("same", *sorted((answer.text, truth.text)))

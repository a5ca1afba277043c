"""Decide whether answers are right and whether they are the same.

Hostile answers are valued in other processes, which start at the first need and are killed when
one item takes too long (`pivottrace.verifier.workers`). Their findings are kept, and after a few
slow items of a question the rest is not waited for (`pivottrace.verifier.decisions`). Answers that
need no parsing (plain numbers, words, exact text, multiple choice) are decided here.
"""

import math
import os
import re
import threading
import weakref
from collections.abc import Callable, Sequence
from fractions import Fraction
from types import TracebackType
from typing import Protocol, Self

from pivottrace.errors import ConfigError, DataError
from pivottrace.verifier.exact_text import normalise_exact
from pivottrace.verifier.functions import Functions
from pivottrace.verifier.keys import vote_classes
from pivottrace.verifier.mathematics import Mathematics
from pivottrace.verifier.multiple_choice import normalise_choice
from pivottrace.verifier.process import OWN_KINDS
from pivottrace.verifier.scores import Scores
from pivottrace.verifier.truths import Truth, read_truth
from pivottrace.verifier.workers import Workers

DEFAULT_MEMORY_BYTES = 2 * 1024**3

_FUNCTION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_NORMALISERS: dict[str, Callable[[str], str]] = {
    "exact": normalise_exact,
    "choice": normalise_choice,
    "reasoning-gym": normalise_exact,  # for votes, and for truths without an entry
}


class Settings(Protocol):
    """The settings that a verifier needs."""

    @property
    def verifier(self) -> str:
        """The kind."""
        ...

    @property
    def timeout_s(self) -> float:
        """Seconds per item."""
        ...

    @property
    def tolerance(self) -> float | None:
        """Relative, or None."""
        ...


class Verifier:
    """Compare answers; a context manager. Threads may share it; a fork starts its own processes.

    It needs POSIX, because it relies on pipes that can be polled, on process groups and on interval
    timers.

    Attributes:
        kind: The rule that decides equality, as given.
    """

    def __init__(
        self,
        kind: str,
        timeout_s: float = 5.0,
        *,
        tolerance: float | None = None,
        memory_bytes: int | None = DEFAULT_MEMORY_BYTES,
    ) -> None:
        r"""Choose the comparison. No process starts before the first answer that needs one.

        Args:
            kind: "math" (the rules of docs/answers.md), "exact" (`normalise_exact`,
                case-sensitive), "choice" (`normalise_choice`), "reasoning-gym" (the scorer of the
                question's task; "exact" for votes), or "package.module:function" with
                `function(answer: str, truth: str) -> bool`, deterministic, importable from
                `sys.path`; it is called in a process of its own.
            timeout_s: Seconds that one item may take in a process, > 0: of processor time for an
                expression or a score, and by the clock for a function, since it may wait.
            tolerance: Greatest relative difference of a right number from the truth, in [0, 1).
                None is `keys.DEFAULT_TOLERANCE`, which serves only where a decimal cannot be
                exact. Votes have no tolerance. Only "math" uses it.
            memory_bytes: Memory that a process may allocate beyond its loaded modules, if the
                system can limit it; None is no limit.

        Raises:
            ConfigError: If `kind` is none of these, or a number is out of its range.
        """
        if kind not in ("math", *_NORMALISERS) and not _FUNCTION.fullmatch(kind):
            raise ConfigError(
                f"answers.verifier = {kind!r} is unknown; use math, exact, choice, reasoning-gym "
                f"or package.module:function"
            )
        if not (math.isfinite(timeout_s) and timeout_s > 0):
            raise ConfigError(f"verifier timeout_s must be a positive number, not {timeout_s}")
        if tolerance is not None and not 0 <= tolerance < 1:
            raise ConfigError(f"answers.tolerance must lie in [0, 1), not be {tolerance}")
        self.kind = kind
        self._tolerance = None if tolerance is None else Fraction(str(tolerance))
        # A user's function may hold a model of its own, so it gets one process.
        most = None if kind in OWN_KINDS else 1
        self._workers = Workers(kind, timeout_s, memory_bytes, most)
        self._mathematics = Mathematics(self._workers)
        self._scores = Scores(self._workers)
        self._functions = Functions(kind, self._workers)
        self._normalise = _NORMALISERS.get(kind)
        self._lock = threading.RLock()
        _VERIFIERS.add(self)

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The verifier of a configuration's section `answers`."""
        return cls(settings.verifier, settings.timeout_s, tolerance=settings.tolerance)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def load(self) -> None:
        """Load a user's function or the scorers now, so that a missing one is refused early.

        Raises:
            ConfigError: If the module, the function or reasoning-gym cannot be loaded.
        """
        if ":" in self.kind or self.kind == "reasoning-gym":
            self._workers.load()

    def close(self) -> None:
        """End the processes. The verifier stays usable; a later answer starts new ones."""
        self._workers.close()

    @property
    def timeouts(self) -> int:
        """Items that took too long, or were left behind such ones; each counts as not equal."""
        return self._functions.timeouts + self._mathematics.timeouts + self._scores.timeouts

    @property
    def crashes(self) -> int:
        """Items that ended each of their processes or its memory; not equal. No function's."""
        return self._mathematics.crashes + self._scores.crashes

    def facts(self) -> dict[str, int]:
        """Return the facts that a stage records: how many items timed out, and how many crashed."""
        return {"verifier_timeouts": self.timeouts, "verifier_crashes": self.crashes}

    def group(self, answers: Sequence[str | None]) -> list[int]:
        """Give every answer the id of its class, for a vote.

        Equality is an equivalence, so the classes do not depend on the order of the answers (only
        their numbers do). A user's function need not be one: there two answers are in one class if
        a chain of equal answers joins them.

        Args:
            answers: (N,) answers of one question; None or blank if a completion gave no answer.

        Returns:
            (N,) class ids, 0, 1, … by order of first appearance; -1 for None or blank.

        Raises:
            ConfigError: As `check_many`.
            DataError: As `check_many`.
        """
        if self.kind == "math":
            with self._lock:
                return self._mathematics.classes(answers)
        if self._normalise:
            keys = [self._normalise(answer) if answer else "" for answer in answers]
            return vote_classes([(key, "") if key else None for key in keys])
        given = list(dict.fromkeys(a for a in answers if a is not None and a.strip()))
        pairs = [(a, b) for a in given for b in given if a != b]
        same = dict(zip(pairs, self._calls(pairs, range(len(pairs))), strict=True))
        from pivottrace.verifier.answers import group_equivalent  # with the formats of responses

        return group_equivalent(answers, lambda a, b: a == b or same[a, b] or same[b, a])

    def equal(self, answer: str, truth: str) -> bool:
        """Whether an answer is right. An empty answer never is. See `check_many`."""
        return self.check_many([answer], [truth])[0]

    def check_many(self, answers: Sequence[str | None], truths: Sequence[str]) -> list[bool]:
        """Whether each answer is right.

        Args:
            answers: (N,) extracted answers; None is wrong.
            truths: (N,) true answers, as `truths.read_truth` reads them: one of several
                alternatives is enough, and its own tolerance replaces this verifier's tolerance.

        Returns:
            (N,) True is right. An answer whose comparison timed out is wrong, or was not waited
            for: see `decisions.MOST_SLOW`, where the answers to one truth are a question.

        Raises:
            ConfigError: If the user's module or function cannot be loaded, or math-verify or
                reasoning-gym is not installed.
            DataError: If the lengths differ, or the user's function raises, returns None or ends
                its process. The message names the function and the index of the pair. Or
                reasoning-gym cannot score one of its questions.
        """
        if len(answers) != len(truths):
            raise DataError(
                f"{len(answers)} answers against {len(truths)} truths; give one truth an answer"
            )
        right = [False] * len(answers)
        pairs, indices, wanted = [], [], []
        for index, (answer, text) in enumerate(zip(answers, truths, strict=True)):
            if answer is None or not answer.strip():
                continue
            truth = read_truth(text)
            for alternative in truth.alternatives:
                pairs.append((answer, alternative))
                indices.append(index)
                wanted.append(truth)
        for index, verdict in zip(indices, self._compare(pairs, indices, wanted), strict=True):
            right[index] |= verdict
        return right

    def _compare(
        self,
        pairs: Sequence[tuple[str, str]],
        indices: Sequence[int],
        wanted: Sequence[Truth],
    ) -> list[bool]:
        if self.kind == "math":
            own = [truth.tolerance for truth in wanted]
            tolerances = [self._tolerance if tolerance is None else tolerance for tolerance in own]
            with self._lock:
                return self._mathematics.verdicts(pairs, tolerances)
        if self._normalise is None:
            return self._calls(pairs, indices)
        keys = [(self._normalise(answer), self._normalise(truth)) for answer, truth in pairs]
        verdicts = [bool(answer) and answer == truth for answer, truth in keys]
        return self._scored(pairs, wanted, verdicts) if self.kind == "reasoning-gym" else verdicts

    def _scored(
        self, pairs: Sequence[tuple[str, str]], wanted: Sequence[Truth], verdicts: list[bool]
    ) -> list[bool]:
        """The verdicts; a scorer gives its own where a truth has an entry."""
        items = {
            place: (*pair, truth.entry)
            for place, (pair, truth) in enumerate(zip(pairs, wanted, strict=True))
            if truth.entry is not None
        }
        with self._lock:
            scored = dict(zip(items, self._scores.verdicts(list(items.values())), strict=True))
        return [scored.get(place, verdict) for place, verdict in enumerate(verdicts)]

    def _calls(self, pairs: Sequence[tuple[str, str]], indices: Sequence[int]) -> list[bool]:
        with self._lock:
            return self._functions.verdicts(pairs, indices)

    def renew_after_fork(self) -> None:
        """Start afresh if another thread, absent from this fork, was using the verifier."""
        if self._lock.acquire(blocking=False):
            self._lock.release()
            return
        self._lock = threading.RLock()
        self._workers.forget()
        self._mathematics = Mathematics(self._workers)
        self._scores = Scores(self._workers)
        self._functions = Functions(self.kind, self._workers)


_VERIFIERS: "weakref.WeakSet[Verifier]" = weakref.WeakSet()


def _renew_all() -> None:
    for verifier in list(_VERIFIERS):
        verifier.renew_after_fork()


os.register_at_fork(after_in_child=_renew_all)

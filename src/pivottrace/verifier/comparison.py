"""Decide whether two answers are equal, with hostile answers in another process.

One child process compares mathematical answers and runs users' own functions. It starts at the
first need, is killed when a pair takes too long, and starts again for the next pair. Answers that
need no parsing (plain numbers, words, exact text, multiple choice) are decided here.
"""

import functools
import math
import os
import re
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from pivottrace.errors import ConfigError, DataError
from pivottrace.verifier.answers import normalise_choice, normalise_exact
from pivottrace.verifier.math_text import normalise_math, quick_verdict
from pivottrace.verifier.process import ChildProcess

BATCH_PAIRS = 256
"""Pairs per message. Their replies (6 bytes each) always fit a pipe, so no side can block."""

CACHE_PAIRS = 500_000
"""Number of verdicts kept, about 100 MB at worst; the oldest are dropped first."""

DEFAULT_MEMORY_BYTES = 2 * 1024**3

_FUNCTION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


class Verifier:
    """Compare answers; a context manager. Threads may share it; a fork starts its own child.

    It needs POSIX, because it relies on pipes that can be polled, on process groups and on interval
    timers.

    Attributes:
        kind: The rule that decides equality, as given.
        timeouts: Pairs whose comparison was killed after `timeout_s`; each counts as not equal.
        crashes: Pairs of kind "math" at which the child died or ran out of memory; not equal.
    """

    def __init__(
        self,
        kind: str,
        timeout_s: float = 5.0,
        *,
        memory_bytes: int | None = DEFAULT_MEMORY_BYTES,
    ) -> None:
        r"""Choose the comparison. The child does not start before the first pair that needs it.

        Args:
            kind: "math" (math-verify after `normalise_math`; numbers agree to 6 decimals, units are
                not compared), "exact" (`normalise_exact`, case-sensitive), "choice"
                (`normalise_choice`), or "package.module:function" with `function(answer: str,
                truth: str) -> bool`, deterministic, importable from `sys.path`; it is called in the
                child process.
            timeout_s: Seconds that one pair may take in the child, > 0.
            memory_bytes: Memory that the child may allocate beyond its loaded modules, if the
                system can limit it; None is no limit.

        Raises:
            ConfigError: If `kind` is none of these, or `timeout_s` is not a positive number.
        """
        if kind not in ("math", "exact", "choice") and not _FUNCTION.fullmatch(kind):
            raise ConfigError(
                f"answers.verifier = {kind!r} is unknown; use math, exact, choice or "
                f"package.module:function"
            )
        if not (math.isfinite(timeout_s) and timeout_s > 0):
            raise ConfigError(f"verifier timeout_s must be a positive number, not {timeout_s}")
        self.kind = kind
        self.timeouts = 0
        self.crashes = 0
        self._timeout_s = timeout_s
        self._memory_bytes = memory_bytes
        self._verdicts: dict[tuple[str, str], bool] = {}
        self._child: ChildProcess | None = None
        self._lock = threading.Lock()

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
        """Load a user's function now, so that a wrong one is refused early.

        Raises:
            ConfigError: If the module or function cannot be loaded.
        """
        if ":" in self.kind:
            with self._lock:
                self._running_child()

    def close(self) -> None:
        """End the child process. The verifier stays usable; a later pair starts a new child."""
        with self._lock:
            self._stop_child()

    def facts(self) -> dict[str, int]:
        """Return the facts that a stage records: how many pairs timed out, and how many crashed."""
        return {"verifier_timeouts": self.timeouts, "verifier_crashes": self.crashes}

    def equal(self, a: str, b: str) -> bool:
        """Whether two answers are the same. An empty answer equals nothing. See `equal_many`."""
        verdict, _ = self._decide_here(a, b)
        return self.equal_many([(a, b)])[0] if verdict is None else verdict

    def equal_many(self, pairs: Sequence[tuple[str, str]]) -> list[bool]:
        """Compare pairs of answers.

        The comparison is symmetric for every built-in kind, and reflexive except on an empty
        answer. A pair is compared once, because verdicts are kept in memory.

        Args:
            pairs: (N,) pairs (answer, truth).

        Returns:
            (N,) verdicts; True is equal. A pair that timed out is False.

        Raises:
            ConfigError: If the user's module or function cannot be loaded, or math-verify is not
                installed.
            DataError: If the user's function raises, returns None or ends its process. The message
                names the function and the index of the pair.
        """
        return self._compare(list(pairs), list(range(len(pairs))))

    def check_many(self, answers: Sequence[str | None], truths: Sequence[str]) -> list[bool]:
        """Whether each answer is right.

        Args:
            answers: (N,) extracted answers; None is wrong.
            truths: (N,) true answers.

        Returns:
            (N,) True is right.

        Raises:
            DataError: If the lengths differ, and as in `equal_many`.
        """
        if len(answers) != len(truths):
            raise DataError(
                f"{len(answers)} answers against {len(truths)} truths; give one truth an answer"
            )
        given = [(i, answer) for i, answer in enumerate(answers) if answer is not None]
        verdicts = self._compare([(a, truths[i]) for i, a in given], [i for i, _ in given])
        right = [False] * len(answers)
        for (i, _), verdict in zip(given, verdicts, strict=True):
            right[i] = verdict
        return right

    def _compare(self, pairs: list[tuple[str, str]], indices: list[int]) -> list[bool]:
        """Return verdicts of `pairs`; messages name the caller's numbers for them, `indices`."""
        verdicts: list[bool | None] = []
        keys: list[tuple[str, str]] = []
        for a, b in pairs:
            verdict, key = self._decide_here(a, b)
            verdicts.append(verdict)
            keys.append(key)
        with self._lock:
            pending: dict[tuple[str, str], int] = {}
            for position, key in enumerate(keys):
                if verdicts[position] is None and key not in self._verdicts:
                    pending.setdefault(key, indices[position])
            fresh = self._ask(list(pending), list(pending.values())) if pending else {}
            known = self._verdicts
            settled = [
                (fresh[key] if key in fresh else known[key]) if verdict is None else verdict
                for verdict, key in zip(verdicts, keys, strict=True)
            ]
            known.update(fresh)
            while len(known) > CACHE_PAIRS:
                del known[next(iter(known))]
        return settled

    def _decide_here(self, a: str, b: str) -> tuple[bool | None, tuple[str, str]]:
        """Return the verdict if no child is needed, and the key under which a verdict is kept."""
        if self.kind == "math":
            left, right = _normalise_math(a), _normalise_math(b)
            return quick_verdict(left, right), (left, right) if left <= right else (right, left)
        if self.kind == "exact":
            left, right = normalise_exact(a), normalise_exact(b)
            return bool(left) and left == right, (a, b)
        if self.kind == "choice":
            left, right = normalise_choice(a), normalise_choice(b)
            return bool(left) and left == right, (a, b)
        return (None if a.strip() and b.strip() else False), (a, b)

    def _ask(self, pairs: list[tuple[str, str]], indices: list[int]) -> dict[tuple[str, str], bool]:
        """Get verdicts from the child, and restart it after every pair that it does not survive."""
        verdicts: dict[tuple[str, str], bool] = {}
        position, finished = 0, False
        try:
            while position < len(pairs):
                batch = pairs[position : position + BATCH_PAIRS]
                child = self._running_child()
                child.send(batch)
                for pair in batch:
                    reply = child.receive(self._timeout_s)
                    verdicts[pair] = self._judge(reply, pair, indices[position])
                    position += 1
                    if reply in ("timeout", "died"):
                        self._stop_child()
                        break  # the rest of the batch goes to the next child
            finished = True
        finally:
            if not finished:  # replies may be on their way: they must not meet the next batch
                self._stop_child()
        return verdicts

    def _judge(self, reply: Any, pair: tuple[str, str], index: int) -> bool:
        """Turn one reply into a verdict, a count, or an error."""
        if isinstance(reply, bool):
            return reply
        if reply == "timeout":
            self.timeouts += 1
            return False
        if self.kind == "math":
            self.crashes += 1
            return False
        what = "ended its process" if reply == "died" else reply["error"]
        raise DataError(
            f"verifier {self.kind!r} {what} at pair {index} "
            f"(answer {_shortened(pair[0])}, truth {_shortened(pair[1])}); "
            "let the function return False for an answer that it cannot read"
        )

    def _running_child(self) -> ChildProcess:
        if self._child is not None and self._child.owner_pid != os.getpid():
            self._child = None  # after a fork the child belongs to the other process
        if self._child is None:
            child = ChildProcess(self.kind, self._timeout_s, self._memory_bytes)
            child.await_ready()
            self._child = child
        return self._child

    def _stop_child(self) -> None:
        if self._child is not None:
            self._child.stop()
            self._child = None


@functools.lru_cache(maxsize=65_536)
def _normalise_math(answer: str) -> str:
    """Return `normalise_math` from a cache, because samples of one question share few answers."""
    return normalise_math(answer)


def _shortened(text: str, limit: int = 60) -> str:
    """Shorten an answer for a message."""
    return repr(text if len(text) <= limit else text[:limit] + "…")

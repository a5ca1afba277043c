"""Score responses as PivotTrace does: read the answer, compare it, weigh the verdict.

It needs math-verify alone. It takes no signals in this process, so it works in threads and in Ray
workers. Expressions are valued in processes of their own, which are killed when they hang.
"""

import json
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pivottrace.verifier.answers import extract_answer
from pivottrace.verifier.comparison import Verifier
from pivottrace.verifier.truths import read_truth

logger = logging.getLogger(__name__)

Score = dict[str, float]
"""The result of a response, always under the same keys. `score` is the reward. `acc` is 1 for a
right answer, whatever its weight. `answered` is 1 if an answer was read. `failed` is 1 if the
response could not be judged, and so got 0."""


class Scorer:
    """Scores responses by the settings of the run that was exported. Threads may share it."""

    def __init__(self, settings: Path) -> None:
        """Read the settings, and make sure that answers can be compared here.

        Args:
            settings: The file `reward.json` of the export.

        Raises:
            RuntimeError: Answers cannot be compared here, since math-verify or the run's own
                function is missing. It is better to stop now than to train on zeros.
        """
        values: dict[str, Any] = json.loads(settings.read_text(encoding="utf-8"))
        self._weighted = bool(values["weighted"])
        self._reading = (values["pattern"], tuple(values["formats"]), set(values["placeholders"]))
        self._verifier = Verifier(
            values["verifier"], values["timeout_s"], tolerance=values["tolerance"]
        )
        try:
            self._verifier.load()
            # Both sides are expressions, so this needs math-verify.
            known = self._verifier.equal("x+1", "1+x") or values["verifier"] != "math"
        except ValueError as error:
            raise RuntimeError(f"answers cannot be compared: {error}") from error
        if not known:
            raise RuntimeError("math-verify is here, and says that x+1 is not 1+x")
        self._verifier.close()  # the next answer starts the process again
        self._warned = False

    def score(self, response: Any, truth: Any, weight: Any = 1.0) -> Score:
        """Score one response. See `score_many`."""
        return self.score_many([response], [truth], [weight])[0]

    def score_many(
        self, responses: Sequence[Any], truths: Sequence[Any], weights: Sequence[Any]
    ) -> list[Score]:
        """Score some responses. It never raises.

        Args:
            responses: (N,) texts, without their prompts.
            truths: (N,) answers that judge them.
            weights: (N,) weights of their rows, in [0, 1].

        Returns:
            (N,) scores. A response that cannot be judged has `failed` = 1, and the first of them is
            logged.
        """
        try:
            return self._scored(responses, truths, weights)
        except Exception as error:  # a trainer hides a reward's exception, or dies of it
            if len(responses) == 1:
                self._warn(error)
                return [_score(0.0, 0.0, answered=False, failed=True)]
        triples = zip(responses, truths, weights, strict=False)
        return [self.score_many(*([part] for part in triple))[0] for triple in triples]

    def can_be_given(self, truth: str) -> bool:
        """Whether an answer in the truth's own words would be right. It never raises."""
        try:
            return self._verifier.equal(read_truth(truth).alternatives[0], truth)
        except Exception as error:
            self._warn(error)
            return False

    def _scored(
        self, responses: Sequence[Any], truths: Sequence[Any], weights: Sequence[Any]
    ) -> list[Score]:
        if not all(isinstance(text, str) for text in (*responses, *truths)):
            raise TypeError("a response and its true answer must be texts")
        answers = [extract_answer(text, *self._reading) for text in responses]
        verdicts = self._verifier.check_many(answers, truths)
        factors = [_weight(weight) if self._weighted else 1.0 for weight in weights]
        return [
            _score(factor * right, float(right), answered=answer is not None, failed=False)
            for answer, right, factor in zip(answers, verdicts, factors, strict=True)
        ]

    def _warn(self, error: Exception) -> None:
        if not self._warned:
            logger.warning("a response could not be judged, and gets 0: %r", error)
        self._warned = True


def _weight(value: Any) -> float:
    """A row's weight; a row without one counts in full."""
    weight = 1.0 if value is None else float(value)
    if not math.isfinite(weight):
        raise ValueError(f"a weight must be a finite number, not {value!r}")
    return weight


def _score(score: float, acc: float, *, answered: bool, failed: bool) -> Score:
    return {"score": score, "acc": acc, "answered": float(answered), "failed": float(failed)}

"""The expected return of a label budget: errors of pseudo-labels, learning, tokens and hours.

All of it is ours. The gains come from `routing.gains`; their bound is the paper's Prop. 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from pivottrace.routing.curves import ProbeEvidence, calibrate
from pivottrace.routing.gains import expected_gains
from pivottrace.routing.question_evidence import QuestionEvidence
from pivottrace.routing.routes import ROUTE_CODE, Route, TriageResult
from pivottrace.routing.vote_floor import with_own_votes

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

Rows = TypeVar("Rows", QuestionEvidence, TriageResult)

NUM_RESAMPLES = 200
# Bands use at most this many questions, evenly over the ranking; more would change no digit.
MAX_BAND_QUESTIONS = 20_000
# A training step runs a token forward once, and backward once at the cost of two forward passes.
FORWARDS_PER_TRAINED_TOKEN = 3.0


@dataclass(frozen=True)
class Expectation:
    """The expected result of one budget.

    Attributes:
        wrong_votes: Share of weak rows whose pseudo-label is wrong, in [0, 1]; NaN without weak
            rows.
        learning: Sum of the gains of all trained rows (`routing.gains`), in units of sqrt(p(1-p)):
            0.5 is the most that one question can teach.
    """

    wrong_votes: float
    learning: float


@dataclass(frozen=True)
class CostModel:
    """A model of the seconds that training takes, from measured rates.

    Attributes:
        generated_per_s: Response tokens per second while sampling.
        traced_per_s: Prompt and response tokens per second of a forward pass (tracing).
        prompt_tokens: Mean length of a question, in tokens.
        response_tokens: Mean length of a sampled response, in tokens.
        num_generations: Rollouts per question in training.
    """

    generated_per_s: float
    traced_per_s: float
    prompt_tokens: float
    response_tokens: float
    num_generations: int

    def tokens(self, num_questions: int) -> float:
        """Return the response tokens that one pass over `num_questions` questions samples."""
        return num_questions * self.num_generations * self.response_tokens

    def seconds(self, num_questions: int) -> float:
        """Return the seconds of one pass: sampling, then forward and backward over every token."""
        learned = self.tokens(num_questions) + (
            num_questions * self.num_generations * self.prompt_tokens
        )
        return (
            self.tokens(num_questions) / self.generated_per_s
            + FORWARDS_PER_TRAINED_TOKEN * learned / self.traced_per_s
        )


def expectation(result: TriageResult, vote: FloatArray) -> Expectation:
    """Return the expected result of a triage.

    Args:
        result: The routes of Q questions.
        vote: (Q,) chance that each question's vote is right, in [0, 1].
    """
    weak = result.route == ROUTE_CODE[Route.WEAK]
    learning = _learning(result, result.label_gain, result.pseudo_gain)
    return Expectation(float(1.0 - vote[weak].mean()) if weak.any() else np.nan, learning)


def learning_bands(
    results: Sequence[TriageResult],
    probes: ProbeEvidence,
    ranks: FloatArray,
    evidence: QuestionEvidence,
    *,
    window: int | None = None,
    level: float = 0.9,
    seed: int = 0,
) -> tuple[FloatArray, FloatArray]:
    """Return the interval of each triage's expected learning, by a bootstrap over the probes.

    The routes stay as the probes decided them. Their gains are read off curves of resampled probes.
    A band therefore says how well the curves are known, not how the routes would have changed.

    Args:
        results: Triages of the same Q questions.
        probes: The labelled probes.
        ranks: (Q,) places in the ranking.
        evidence: Evidence on the Q questions.
        window: Number of probes in a sliding window.
        level: Confidence of each interval.
        seed: Seed of the resamples.

    Returns:
        (low, high), each (len(results),), in the units of `Expectation.learning`.
    """
    chosen = _evenly(ranks, MAX_BAND_QUESTIONS)
    part = _part(evidence.filled(ranks.size), chosen)
    parts = [_part(result, chosen) for result in results]
    scale = ranks.size / max(chosen.size, 1)
    rng = np.random.default_rng(seed)
    # Draw the probes with replacement, calibrate again, and add up each triage's gains; a row each.
    found = np.empty((NUM_RESAMPLES, len(results)))
    for row in found:
        drawn = rng.integers(0, probes.ranks.size, probes.ranks.size)
        again = ProbeEvidence(**{name: values[drawn] for name, values in vars(probes).items()})
        curve = calibrate(again, window, level).at(ranks[chosen])
        values = with_own_votes(curve, again, ranks[chosen], part.vote_share, window=window)
        label, pseudo = expected_gains(values, part)
        row[:] = [scale * _learning(result, label, pseudo) for result in parts]
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(found, (tail, 1.0 - tail), axis=0)
    return low, high


def _learning(result: TriageResult, label: FloatArray, pseudo: FloatArray) -> float:
    verified = result.route == ROUTE_CODE[Route.ANNOTATE]
    weak = result.route == ROUTE_CODE[Route.WEAK]
    return float(np.nansum(label[verified]) + np.nansum(pseudo[weak]))


def _evenly(ranks: FloatArray, limit: int) -> IntArray:
    order = np.argsort(ranks, kind="stable")
    if order.size <= limit:
        return order.astype(np.int64)
    places = ((np.arange(limit) + 0.5) * order.size / limit).astype(np.int64)
    return order[places].astype(np.int64)


def _part(rows: Rows, chosen: IntArray) -> Rows:
    """Return the chosen rows of every array."""
    arrays: dict[str, Any] = {
        name: values[chosen]
        for name, values in vars(rows).items()
        if isinstance(values, np.ndarray)
    }
    return replace(rows, **arrays)

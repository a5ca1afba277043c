"""What a label budget is expected to buy: errors of pseudo-labels, learning, tokens and hours.

Ours throughout. Gains are those of `routing.gains`, whose bound is the paper's Prop. 1.
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
# Bands are read off at most so many questions, evenly over the ranking; more change no digit.
MAX_BAND_QUESTIONS = 20_000
# A training step runs a token forward once and backward once, which costs twice a forward pass.
FORWARDS_A_TRAINED_TOKEN = 3.0


@dataclass(frozen=True)
class Expectation:
    """What one budget is expected to give.

    Attributes:
        wrong_votes: Share of weak rows whose pseudo-label is wrong, in [0, 1]; NaN without any.
        learning: Sum over trained rows of what their signal teaches (`routing.gains`), in units of
            sqrt(p(1-p)): 0.5 is the most that one question can teach.
    """

    wrong_votes: float
    learning: float


@dataclass(frozen=True)
class CostModel:
    """Seconds of training, from rates that were measured.

    Attributes:
        generated_per_s: Response tokens a second while sampling.
        traced_per_s: Tokens a second of a forward pass, prompt and response (tracing).
        prompt_tokens: Mean length of a question.
        response_tokens: Mean length of a sampled response.
        num_generations: Rollouts of a question in training.
    """

    generated_per_s: float
    traced_per_s: float
    prompt_tokens: float
    response_tokens: float
    num_generations: int

    def tokens(self, num_questions: int) -> float:
        """Response tokens that one pass over so many questions samples."""
        return num_questions * self.num_generations * self.response_tokens

    def seconds(self, num_questions: int) -> float:
        """Seconds of one pass: sampling, then a forward and a backward pass over every token."""
        learned = self.tokens(num_questions) + (
            num_questions * self.num_generations * self.prompt_tokens
        )
        return (
            self.tokens(num_questions) / self.generated_per_s
            + FORWARDS_A_TRAINED_TOKEN * learned / self.traced_per_s
        )


def expectation(result: TriageResult, vote: FloatArray) -> Expectation:
    """Return what a triage is expected to give.

    Args:
        result: The routes of Q questions.
        vote: (Q,) chance that each question's vote is right.
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
    """Return the interval of each triage's expected learning: bootstrap over the probes.

    The routes stay as the probes decided them; what they teach is asked of curves that resampled
    probes give. So a band says how well the curves are known, not how routes would have fallen.

    Args:
        results: Triages of the same Q questions.
        probes: The labelled probes.
        ranks: (Q,) places in the ranking.
        evidence: Of the Q questions.
        window: Probes in a sliding window.
        level: Confidence of each interval.
        seed: Of the resamples.

    Returns:
        (low, high), each (len(results),), in the units of `Expectation.learning`.
    """
    chosen = _evenly(ranks, MAX_BAND_QUESTIONS)
    part = _part(evidence.filled(ranks.size), chosen)
    parts = [_part(result, chosen) for result in results]
    scale = ranks.size / max(chosen.size, 1)
    rng = np.random.default_rng(seed)
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
    """The chosen rows of every array."""
    arrays: dict[str, Any] = {
        name: values[chosen]
        for name, values in vars(rows).items()
        if isinstance(values, np.ndarray)
    }
    return replace(rows, **arrays)

"""The expected return of a label budget: errors of pseudo-labels, learning, tokens and hours.

All of it is ours. The gains come from `routing.expectations`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pivottrace.routing.expectations import Expectations
from pivottrace.routing.routes import ROUTE_CODE, Route, TriageResult

FloatArray = npt.NDArray[np.float64]

# A training step runs a token forward once, and backward once at the cost of two forward passes.
FORWARDS_PER_TRAINED_TOKEN = 3.0


@dataclass(frozen=True)
class Expectation:
    """The expected result of one budget.

    Attributes:
        wrong_votes: Share of weak rows whose pseudo-label is wrong, in [0, 1]; NaN without weak
            rows.
        learning: Sum of the gains of all trained rows (`routing.expectations`), in units of
            p(1-p): 0.25 is the most that one question can teach.
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


def expectation(result: TriageResult, expected: Expectations) -> Expectation:
    """Return the expected result of a triage of Q questions.

    Args:
        result: The routes.
        expected: The expectations of the questions.
    """
    weak = result.route == ROUTE_CODE[Route.WEAK]
    wrong = float(1.0 - expected.vote[weak].mean()) if weak.any() else np.nan
    return Expectation(wrong, _learning(result, expected))


def learning_bands(
    results: Sequence[TriageResult], draws: Iterable[Expectations], level: float = 0.9
) -> tuple[FloatArray, FloatArray]:
    """Return the interval of each triage's expected learning.

    The routes stay as they were decided. A band therefore says how well the votes are known, not
    how the routes would have changed.

    Args:
        results: Triages of the same Q questions.
        draws: The expectations of the questions by values drawn from the vote model's posterior.
        level: Confidence of each interval.

    Returns:
        (low, high), each (len(results),), in the units of `Expectation.learning`.
    """
    found = np.array([[_learning(result, drawn) for result in results] for drawn in draws])
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(found, (tail, 1.0 - tail), axis=0)
    return low, high


def _learning(result: TriageResult, expected: Expectations) -> float:
    verified = result.route == ROUTE_CODE[Route.ANNOTATE]
    weak = result.route == ROUTE_CODE[Route.WEAK]
    gains = np.nansum(expected.label_gain[verified]) + np.nansum(expected.vote_gain[weak])
    return float(gains)

"""Value of a ranking in use: the risk among kept questions, and the routes that it gives.

Axes and weights are as in `stats.ranking_metrics`. For every score, higher is more uncertain.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pivottrace.errors import DataError
from pivottrace.stats.ranking_metrics import BoolArray, FloatArray, tie_groups

NUM_ROUTES = 3  # by growing uncertainty: discard, weak, annotate


def area_under_risk_coverage(
    scores: npt.ArrayLike, wrong: npt.ArrayLike, weights: FloatArray | None = None
) -> FloatArray:
    """Return the area under the risk-coverage curve (AURC).

    Questions are kept from the most certain on. The risk at a coverage is the share of wrong
    questions among the kept ones, and the area is its mean over the coverages 1/Q, 2/Q … 1. Tied
    questions may come in any order, and the value is the mean over these orders.

    Args:
        scores: (Q,) finite.
        wrong: (Q,) bool.
        weights: (B, Q) whole numbers.

    Returns:
        (B,) in [0, 1]; lower is better. A constant score gives the share of wrong questions.

    Source: Geifman and El-Yaniv (2017); the mean over orders of ties is ours.
    """
    values = np.asarray(scores, dtype=np.float64)
    target = np.asarray(wrong, dtype=np.bool_)
    counts = np.ones((1, values.size)) if weights is None else weights
    order, starts = tie_groups(values)
    sizes = np.add.reduceat(counts[:, order], starts, axis=1)  # (B, K)
    errors = np.add.reduceat((counts * target)[:, order], starts, axis=1)
    before, errors_before = np.cumsum(sizes, axis=1) - sizes, np.cumsum(errors, axis=1) - errors
    # Take a tie of m questions with e errors, after n questions with f. The sum over j = 1 … m of
    # (f + e j / m) / (n + j) is e + (f - e n / m)(H(n + m) - H(n)), with H the harmonic numbers.
    total = counts.sum(axis=1)
    longest = int(total.max(initial=0))
    harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, longest + 1))])
    steps = harmonic[(before + sizes).astype(np.int64)] - harmonic[before.astype(np.int64)]
    rate = np.divide(errors, sizes, out=np.zeros_like(errors), where=sizes > 0)
    area = (errors + (errors_before - rate * before) * steps).sum(axis=1)
    result: FloatArray = area / np.maximum(total, 1.0)
    return result


def risk_coverage(scores: npt.ArrayLike, wrong: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return coverage (K,) and risk (K,) at the end of each group of tied scores, for a curve."""
    values, target = np.asarray(scores, dtype=np.float64), np.asarray(wrong, dtype=np.float64)
    order, starts = tie_groups(values)
    ends = np.append(starts[1:], values.size) - 1
    kept = ends + 1.0
    return kept / values.size, np.cumsum(target[order])[ends] / kept


@dataclass(frozen=True)
class RouteOverlap:
    """Agreement of two divisions of the questions into three routes; each value is (B,).

    Attributes:
        agreement: Share of questions on the same route, in [0, 1], higher is better.
        chance: The agreement that random routes of the same sizes would have.
        jaccard: (B, 3) for each route, the questions on it in both divisions over the questions on
            it in either, in [0, 1]; NaN if a route is empty in both.
    """

    agreement: FloatArray
    chance: FloatArray
    jaccard: FloatArray


def oracle_routes(
    correctness: npt.ArrayLike, vote_right: npt.ArrayLike, mastered_floor: float
) -> npt.NDArray[np.int64]:
    """Route questions by the truth, which only an oracle knows.

    Args:
        correctness: (Q,) true mean correctness.
        vote_right: (Q,) bool, whether the majority of the sampled answers is the true answer.
        mastered_floor: Correctness from which a question is mastered.

    Returns:
        (Q,) 0 discard (mastered), 1 weak (the vote would teach the truth), 2 annotate (the rest).
    """
    mastered = np.asarray(correctness, dtype=np.float64) >= mastered_floor
    return np.where(mastered, 0, np.where(np.asarray(vote_right, dtype=np.bool_), 1, 2))


def overlap_at_oracle_counts(
    scores: npt.ArrayLike, routes: npt.ArrayLike, weights: FloatArray | None = None
) -> RouteOverlap:
    """Cut a ranking into routes as large as the oracle's routes, and compare the two.

    Args:
        scores: (Q,) finite.
        routes: (Q,) in 0, 1, 2 from `oracle_routes`.
        weights: (B, Q).
    """
    chosen = np.asarray(routes, dtype=np.int64)
    counts = np.ones((1, chosen.size)) if weights is None else weights
    oracle = chosen == np.arange(NUM_ROUTES)[:, None]  # (3, Q)
    total = np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
    shares = counts @ oracle.T.astype(np.float64) / total  # (B, 3)
    cut = _cut(np.asarray(scores, dtype=np.float64), counts, shares)
    return _compare(cut, np.broadcast_to(oracle, (counts.shape[0], *oracle.shape)), counts)


def overlap_at_fractions(
    scores: npt.ArrayLike,
    correctness: npt.ArrayLike,
    fractions: tuple[float, float],
    weights: FloatArray | None = None,
) -> RouteOverlap:
    """Cut a score's ranking and the true one at the same fractions, and compare the two.

    Args:
        scores: (Q,) finite.
        correctness: (Q,) true mean correctness, which gives the oracle's ranking.
        fractions: Shares (annotate, discard), as `PAPER_FRACTIONS`.
        weights: (B, Q).
    """
    truth = np.asarray(correctness, dtype=np.float64)
    counts = np.ones((1, truth.size)) if weights is None else weights
    annotate, discard = fractions
    shares = np.tile([discard, 1.0 - annotate - discard, annotate], (counts.shape[0], 1))
    ours = _cut(np.asarray(scores, dtype=np.float64), counts, shares)
    return _compare(ours, _cut(-truth, counts, shares), counts)


def _cut(values: FloatArray, counts: FloatArray, shares: FloatArray) -> FloatArray:
    """Return the chance (B, 3, Q) that each question is on each route; a cut splits a tie."""
    if values.size != counts.shape[1]:
        raise DataError(f"{values.size} scores for {counts.shape[1]} questions; give one each")
    order, starts = tie_groups(values)
    sizes = np.add.reduceat(counts[:, order], starts, axis=1)  # (B, K)
    end = np.cumsum(sizes, axis=1)
    cuts = np.cumsum(shares, axis=1) * end[:, -1:]
    lows = np.concatenate([np.zeros((len(cuts), 1)), cuts[:, :-1]], axis=1)
    # Share of each tie group that lies between the two cuts of each route, (B, 3, K).
    part = np.minimum(end[:, None], cuts[..., None]) - np.maximum(
        (end - sizes)[:, None], lows[..., None]
    )
    part = np.maximum(part, 0.0) / np.maximum(sizes, 1.0)[:, None]
    group = np.empty(values.size, dtype=np.int64)
    group[order] = np.repeat(np.arange(starts.size), np.diff(np.append(starts, values.size)))
    return part[..., group]


def _compare(ours: FloatArray, theirs: FloatArray | BoolArray, counts: FloatArray) -> RouteOverlap:
    weights = counts[:, None]
    total = np.maximum(counts.sum(axis=1), 1.0)
    both = (ours * theirs * weights).sum(axis=2)  # (B, 3)
    mine, other = (ours * weights).sum(axis=2), (theirs * weights).sum(axis=2)
    either = mine + other - both
    jaccard = np.divide(both, either, out=np.full(both.shape, np.nan), where=either > 0)
    return RouteOverlap(both.sum(axis=1) / total, (mine * other).sum(axis=1) / total**2, jaccard)

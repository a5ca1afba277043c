"""Figures that the report computes: the mix of routes along the ranking, and rank correlations.

They are our additions to the paper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

FloatArray = npt.NDArray[np.float64]

NUM_RESAMPLES = 1_000
LEVEL = 0.95
# Fewer probes than this make a resampled correlation meaningless.
MIN_PROBES = 5


@dataclass(frozen=True)
class RankCorrelation:
    """One estimator against correctness on the probes.

    Attributes:
        name: The estimator.
        rho: Spearman's correlation in [-1, 1]; -1 is best, because scores rank by uncertainty.
        low: Lower end of the bootstrap interval.
        high: Upper end.
        best_share: Share of resamples in which its correlation is the lowest of all competing
            estimators, in [0, 1]; NaN if the estimator does not compete.
        num_probes: Probes with a score.
    """

    name: str
    rho: float
    low: float
    high: float
    best_share: float
    num_probes: int


def route_mix(
    ranks: npt.ArrayLike, routes: Sequence[str], names: Sequence[str], num_bins: int
) -> FloatArray:
    """Return the share of each route in equal stretches of the ranking.

    Questions of equal rank have no order among them. So a tie is spread evenly over the places that
    it takes, and each stretch of the tie has the same mix.

    Args:
        ranks: (Q,) place in the ranking; NaN (not scored) is left out.
        routes: (Q,) route of each question.
        names: Routes in the order of the columns.
        num_bins: Stretches, each 1/num_bins of the ranked questions.

    Returns:
        (num_bins, len(names)), rows add up to 1; all zero when nothing is ranked.
    """
    places = np.asarray(ranks, dtype=np.float64)
    known = ~np.isnan(places)
    codes = np.array([names.index(route) for route in routes], dtype=np.int64)[known]
    if not codes.size:
        return np.zeros((num_bins, len(names)))
    _, tie = np.unique(places[known], return_inverse=True)
    counts = np.zeros((int(tie.max()) + 1, len(names)))
    np.add.at(counts, (tie, codes), 1.0)
    # Cumulative counts are linear within a tie, so interpolating them spreads it evenly.
    edges = np.concatenate([[0.0], np.cumsum(counts.sum(axis=1))])
    cumulative = np.vstack([np.zeros(len(names)), np.cumsum(counts, axis=0)])
    cuts = np.linspace(0.0, codes.size, num_bins + 1)
    at_cuts = np.stack([np.interp(cuts, edges, column) for column in cumulative.T], axis=1)
    return np.diff(at_cuts, axis=0) * num_bins / codes.size


def rank_correlations(
    scores: Mapping[str, npt.ArrayLike],
    correctness: npt.ArrayLike,
    competing: Sequence[str],
    seed: int = 0,
) -> list[RankCorrelation]:
    """Return Spearman's correlation of each estimator with the probes' correctness.

    The interval is a percentile bootstrap over probes, at 95 %. All estimators see the same
    resamples, so that "best" compares them question by question.

    Args:
        scores: (n,) scores of each estimator, by name; NaN for a missing score.
        correctness: (n,) share of right rollouts, in [0, 1].
        competing: Estimators that may be called best. An estimator may not be called so if it
            shares its rollouts with the correctness that judges it.
        seed: Seed of the resamples.

    Returns:
        One entry per estimator with a correlation, the best (lowest) first.
    """
    truth = np.asarray(correctness, dtype=np.float64)
    if truth.size < MIN_PROBES:
        return []
    draws = np.random.default_rng(seed).integers(0, truth.size, (NUM_RESAMPLES, truth.size))
    columns = {name: np.asarray(values, dtype=np.float64) for name, values in scores.items()}
    rho = {name: float(_spearman(c[None], truth[None])[0]) for name, c in columns.items()}
    columns = {name: c for name, c in columns.items() if not np.isnan(rho[name])}
    resampled = {name: _spearman(c[draws], truth[draws]) for name, c in columns.items()}
    wins = _win_shares({name: resampled[name] for name in competing if name in resampled})
    tails = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
    found = []
    for name, values in resampled.items():
        low, high = np.nanquantile(values, tails)
        num_probes = int(np.sum(~np.isnan(columns[name])))
        found.append(
            RankCorrelation(
                name, rho[name], float(low), float(high), wins.get(name, np.nan), num_probes
            )
        )
    return sorted(found, key=lambda c: (c.rho, c.name))


def _win_shares(resampled: Mapping[str, FloatArray]) -> dict[str, float]:
    """Share of resamples in which each estimator is lowest. Tied estimators divide a resample."""
    if not resampled:
        return {}
    table = np.where(np.isnan(stack := np.stack(list(resampled.values()))), np.inf, stack)
    lowest = (table == table.min(axis=0)) & np.isfinite(table)
    shares = lowest / np.maximum(lowest.sum(axis=0), 1)
    return {name: float(share.mean()) for name, share in zip(resampled, shares, strict=True)}


def _spearman(scores: FloatArray, truth: FloatArray) -> FloatArray:
    """Spearman correlation per row (R,) of (R, n), over pairs with a score; NaN if constant."""
    known = ~np.isnan(scores)
    # Ranks of both sides (R, n), centred over the known pairs of each row.
    a = rankdata(np.where(known, scores, np.nan), axis=1, nan_policy="omit")
    b = rankdata(np.where(known, truth, np.nan), axis=1, nan_policy="omit")
    count = np.maximum(known.sum(axis=1, keepdims=True), 1)
    a = np.where(known, a - np.nansum(a, axis=1, keepdims=True) / count, 0.0)
    b = np.where(known, b - np.nansum(b, axis=1, keepdims=True) / count, 0.0)
    spread = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    defined = spread > 0
    rho: FloatArray = np.where(
        defined, (a * b).sum(axis=1) / np.where(defined, spread, 1.0), np.nan
    )
    return rho

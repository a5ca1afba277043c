"""Every estimator's figures on some pools, with paired bootstrap intervals.

A ranking is used within a pool. So every metric is computed within each pool and then averaged,
weighted by the number of questions. Resamples are drawn within pools too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pivottrace.routing.routes import PAPER_FRACTIONS
from pivottrace.stats.probability import brier, cross_fitted, expected_calibration_error
from pivottrace.stats.ranking_metrics import (
    BoolArray,
    FloatArray,
    auroc,
    average_precision,
    partial_spearman,
    spearman,
    why_undefined,
)
from pivottrace.stats.resampling import percentile_interval, reflected_interval, resample_counts
from pivottrace.stats.selective import (
    area_under_risk_coverage,
    oracle_routes,
    overlap_at_fractions,
    overlap_at_oracle_counts,
)
from pivottrace.study.pools import PoolEvidence

# Metric: +1 if more is better, -1 if less is better.
DIRECTIONS = {
    "auroc": 1,
    "auroc_within_kinds": 1,
    "auprc": 1,
    "spearman": -1,
    "spearman_given_length": -1,
    "spearman_given_controls": -1,
    "spearman_given_kinds": -1,
    "ece": -1,
    "brier": -1,
    "aurc": -1,
    "overlap": 1,
    "overlap_fractions": 1,
}
CONTROLS = ("length", "recheck_words")
# Share of right samples from which the study calls a question mastered.
MASTERED_FLOOR = 0.95
ORACLE = "oracle"  # the true correctness as a score: the best possible ranking
Values = dict[str, FloatArray]  # metric: (B + 1,), the data itself, then B resamples


def compare(pools: Sequence[PoolEvidence], default: str) -> dict[str, Any]:
    """Return the figures of every estimator, and their advantages over the default one.

    Args:
        pools: At least one pool. The first one's configuration gives the resamples and the seed.
        default: The estimator that the others are compared with.

    Returns:
        `estimators`: name to metric to {value, low, high, pools}, with `reason` if not defined.
        `advantages`: name to metric to {value, low, high}; above 0 is better than the default.
        `ratio_to_consistency`: the default's Spearman as a share of consistency's.
        `chance_overlap`: agreement of random routes with the oracle's routes.
    """
    names = [name for name in pools[0].scores if all(name in pool.scores for pool in pools)]
    names = [*names, ORACLE]
    by_pool = [_resampled(pool, names, number, pools[0]) for number, pool in enumerate(pools)]
    sizes = np.array([pool.wrong.size for pool in pools], dtype=np.float64)
    averaged = {
        name: {
            metric: _mean_over_pools([values[name][metric] for values in by_pool], sizes)
            for metric in DIRECTIONS
        }
        for name in names
    }
    return {
        "estimators": {
            name: {
                metric: _figure(metric, averaged[name][metric])
                | {"pools": [_finite(values[name][metric][0]) for values in by_pool]}
                for metric in DIRECTIONS
            }
            | _reason(name, pools)
            for name in names
        },
        "advantages": _advantages(averaged, default),
        "ratio_to_consistency": _ratio(averaged, default),
        "chance_overlap": _chance(pools, sizes),
    }


def _resampled(
    pool: PoolEvidence, names: Sequence[str], number: int, first: PoolEvidence
) -> dict[str, Values]:
    config = first.run.config
    scores = pool.scores | {ORACLE: -pool.correctness}
    judges = {name: _Judge(pool, name, scores, seed=config.seed) for name in names}
    collected: dict[str, dict[str, list[FloatArray]]] = {
        name: {metric: [] for metric in DIRECTIONS} for name in names
    }
    for counts in resample_counts(
        pool.wrong.size, config.study.resamples, config.seed, stratum=number
    ):
        for name, judge in judges.items():
            for metric, values in judge(counts).items():
                collected[name][metric].append(values)
    return {
        name: {metric: np.concatenate(parts) for metric, parts in metrics.items()}
        for name, metrics in collected.items()
    }


class _Judge:
    """One estimator on one pool: resamples give metrics. Questions without a score are left out."""

    def __init__(
        self,
        pool: PoolEvidence,
        name: str,
        scores: Mapping[str, FloatArray],
        seed: int,
    ):
        controls = {c: scores[c] for c in CONTROLS if c in scores}
        rows = np.isfinite(scores[name])
        for values in controls.values():
            rows &= np.isfinite(values)
        self._rows, self._scores = rows, scores[name][rows]
        self._wrong: BoolArray = pool.wrong[rows]
        self._correctness = pool.correctness[rows]
        self._routes = oracle_routes(self._correctness, pool.vote_right[rows], MASTERED_FLOOR)
        self._controls = {c: values[rows] for c, values in controls.items()}
        self._is_control = {name} & controls.keys()
        self._kinds = pool.kinds[rows]
        # A column of 0 and 1 per kind, but for one.
        self._indicators = [(self._kinds == kind) * 1.0 for kind in np.unique(self._kinds)[1:]]
        enough = self._scores.size >= 2
        self._chance = cross_fitted(self._scores, self._wrong, seed) if enough else None

    def __call__(self, counts: FloatArray) -> Values:
        """Return every metric of `DIRECTIONS`, (b,) each, of resample counts (b, Q)."""
        if self._chance is None:
            return {metric: np.full(len(counts), np.nan) for metric in DIRECTIONS}
        weights = counts[:, self._rows]
        scores, wrong, truth = self._scores, self._wrong, self._correctness
        at_counts = overlap_at_oracle_counts(scores, self._routes, weights)
        at_fractions = overlap_at_fractions(scores, truth, PAPER_FRACTIONS, weights)
        return {
            "auroc": auroc(scores, wrong, weights),
            "auroc_within_kinds": auroc(scores, wrong, weights, self._kinds),
            "auprc": average_precision(scores, wrong, weights),
            "spearman": spearman(scores, truth, weights),
            "spearman_given_length": self._partial(("length",), weights),
            "spearman_given_controls": self._partial(CONTROLS, weights),
            "spearman_given_kinds": self._partial(CONTROLS, weights, self._indicators),
            "ece": expected_calibration_error(self._chance, wrong, weights),
            "brier": brier(self._chance, wrong, weights),
            "aurc": area_under_risk_coverage(scores, wrong, weights),
            "overlap": at_counts.agreement,
            "overlap_fractions": at_fractions.agreement,
        }

    def _partial(
        self, controls: Sequence[str], weights: FloatArray, further: Sequence[FloatArray] = ()
    ) -> FloatArray:
        known = [self._controls[name] for name in controls if name in self._controls]
        if self._is_control & set(controls):
            return np.full(len(weights), np.nan)
        return partial_spearman(self._scores, self._correctness, [*known, *further], weights)


def _mean_over_pools(values: Sequence[FloatArray], sizes: FloatArray) -> FloatArray:
    """Return the mean (B + 1,) over the pools in which it is defined, weighted by questions."""
    stacked = np.stack(values)  # (pools, B + 1)
    known = ~np.isnan(stacked)
    weight = (known * sizes[:, None]).sum(axis=0)
    total = (np.where(known, stacked, 0.0) * sizes[:, None]).sum(axis=0)
    return np.divide(total, weight, out=np.full(weight.size, np.nan), where=weight > 0)


def _figure(metric: str, values: FloatArray) -> dict[str, float | None]:
    if metric == "ece":
        low, high = reflected_interval(float(values[0]), values[1:])
    else:
        low, high = percentile_interval(values[1:])
    if np.isnan(values[0]):
        low = high = float("nan")
    return {"value": _finite(values[0]), "low": _finite(low), "high": _finite(high)}


def _advantages(averaged: Mapping[str, Values], default: str) -> dict[str, Any]:
    if default not in averaged:
        return {}
    return {
        name: {
            metric: _figure(metric + "_advantage", sign * (values - averaged[default][metric]))
            for metric, sign in DIRECTIONS.items()
            for values in [metrics[metric]]
        }
        for name, metrics in averaged.items()
        if name != default
    }


def _ratio(averaged: Mapping[str, Values], default: str) -> dict[str, float | None] | None:
    """Return the default's Spearman as a share of the Spearman of consistency."""
    if not {default, "consistency"} <= averaged.keys():
        return None
    ours, theirs = averaged[default]["spearman"], averaged["consistency"]["spearman"]
    ratio = np.divide(ours, theirs, out=np.full(ours.size, np.nan), where=theirs != 0)
    return _figure("ratio", ratio)


def _chance(pools: Sequence[PoolEvidence], sizes: FloatArray) -> float:
    values = []
    for pool in pools:
        # Two random routings with the oracle's shares agree with the sum of the squared shares.
        routes = oracle_routes(pool.correctness, pool.vote_right, MASTERED_FLOOR)
        shares = np.bincount(routes, minlength=3)
        values.append(float(((shares / pool.wrong.size) ** 2).sum()))
    return float(np.average(values, weights=sizes))


def _reason(name: str, pools: Sequence[PoolEvidence]) -> dict[str, str]:
    if name == ORACLE:
        return {}
    found = {why_undefined(pool.scores[name], pool.wrong) for pool in pools}
    reasons = sorted(reason for reason in found if reason)
    return {"reason": "; ".join(reasons)} if reasons else {}


def _finite(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 6)

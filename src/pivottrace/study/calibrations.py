"""Ways to read correctness off a few probes, compared on the other questions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np

from pivottrace.routing.probes import draw_probes, rank_fractions
from pivottrace.stats.probability import brier, log_loss
from pivottrace.stats.ranking_metrics import FloatArray
from pivottrace.stats.resampling import percentile_interval
from pivottrace.stats.smoothers import Smoother, smooth
from pivottrace.study.pools import NUM_PROBES, PoolEvidence

NUM_DRAWS = 200


def compare_calibrations(pools: Sequence[PoolEvidence], name: str) -> dict[str, Any]:
    """Fit every smoother on draws of 64 probes along a ranking, and judge it on all others.

    The probes' correctness comes from the estimators' samples, the truth from the unseen samples.
    Both losses are for one further sample per question. `run` uses the paper's sliding window.

    Args:
        pools: Pools of the study; only pools with more than twice as many questions as probes take
            part.
        name: The estimator that ranks.

    Returns:
        `ways`: way to {brier, log_loss}, each {value, low, high}: the mean over draws and pools,
        and the central 95 % of draws; empty if every pool is too small. `num_probes` and
        `num_draws`: their numbers. `pools`: names of the pools that took part.
    """
    ways: tuple[Smoother, ...] = get_args(Smoother)
    # Brier score and log loss of each way, a pair per pool and draw.
    large = [pool for pool in pools if np.isfinite(pool.scores[name]).sum() > 2 * NUM_PROBES]
    losses: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for pool in large:
        ranks = rank_fractions(pool.scores[name])
        for draw in range(NUM_DRAWS):
            chosen = draw_probes(pool.scores[name], NUM_PROBES, seed=draw)
            others = np.setdiff1d(np.flatnonzero(np.isfinite(ranks)), chosen)
            for way in ways:
                chance = smooth(ranks[chosen], pool.sampled[chosen], method=way, at=ranks[others])
                truth = pool.correctness[others]
                floor = 0.5 / NUM_PROBES
                losses[way].append((brier(chance, truth)[0], log_loss(chance, truth, floor)))
    return {
        "num_probes": NUM_PROBES,
        "num_draws": NUM_DRAWS,
        "pools": [pool.name for pool in large],
        "ways": {way: _summary(np.array(pairs)) for way, pairs in losses.items() if pairs},
    }


def _summary(pairs: FloatArray) -> dict[str, Any]:
    summary: dict[str, Any] = {}
    for column, loss in enumerate(("brier", "log_loss")):
        low, high = percentile_interval(pairs[:, column])
        summary[loss] = {"value": float(pairs[:, column].mean()), "low": low, "high": high}
    return summary

"""Sensitivity of the ranking to zeta, psi and Delta, as in the paper's appendix table.

The paper calls its measure "similarity" and does not define it. Ours is Spearman's correlation of
the ranking with the default ranking. Delta is the window of far mass as well as of the pivots, so
the stored greedy responses are traced again for it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pivottrace.config import PRESETS
from pivottrace.stats.ranking_metrics import FloatArray, spearman
from pivottrace.stats.resampling import percentile_interval, resample_counts
from pivottrace.study.far_mass import Tracer
from pivottrace.study.pivot_scores import READINGS, STATISTICS, PivotSettings, pivot_scores
from pivottrace.study.pools import PoolEvidence

# Setting, value, similarity: the paper's appendix, relative to zeta 95, psi 5 %, Delta 10.
PAPER_TABLE: tuple[tuple[str, float, float], ...] = (
    ("zeta", 90.0, 0.947),
    ("zeta", 85.0, 0.940),
    ("zeta", 80.0, 0.936),
    ("psi", 0.10, 0.966),
    ("psi", 0.15, 0.934),
    ("psi", 0.20, 0.812),
    ("window", 5, 0.951),
    ("window", 15, 0.951),
    ("window", 20, 0.941),
)
ALL_HEADS = "all"
NAMES = tuple(f"{reading}_{statistic}" for reading in READINGS for statistic in STATISTICS)


def sensitivity(pools: Sequence[PoolEvidence]) -> list[dict[str, Any]]:
    """Return a table for the run's settings and, if they differ, one for the paper's settings.

    The paper's table is over all heads, the run's table over its own heads. A run whose
    `trace.window` differs from its pivots' window has no table of its own, because one Delta sets
    both here.

    Returns:
        [{heads, zeta, psi, window, rows: [{setting, value, paper, <estimator>: {value, low,
        high}}]}]. There is no figure if a ranking is constant. Zeta is a threshold of the first
        reading only, so the second reading has no figure for it.
    """
    config = pools[0].run.config
    paper = PRESETS["paper"]["pivots"]
    papers = PivotSettings(paper["percentile"], paper["amplitude"], paper["window"])
    bases = {(ALL_HEADS, papers): None}
    if config.trace.window in (None, config.pivots.window):
        bases = {(config.trace.heads, PivotSettings.of(config)): None} | bases
    settings = {base for _, base in bases}
    wanted = {_changed(base, s, v) for base in settings for s, v, _ in PAPER_TABLE} | settings
    by_heads = {
        heads: [_scores_of(pool, heads, wanted) for pool in pools]
        for heads in dict.fromkeys(heads for heads, _ in bases)
    }
    return [
        {
            "heads": heads,
            "zeta": base.zeta,
            "psi": base.psi,
            "window": base.window,
            "rows": [
                {"setting": setting, "value": value, "paper": similarity}
                | _similarities(pools, by_heads[heads], base, _changed(base, setting, value))
                for setting, value, similarity in PAPER_TABLE
            ],
        }
        for heads, base in bases
    ]


def _changed(base: PivotSettings, setting: str, value: float) -> PivotSettings:
    if setting == "window":
        return replace(base, window=int(value))
    return replace(base, zeta=value) if setting == "zeta" else replace(base, psi=value)


def _scores_of(
    pool: PoolEvidence, heads: str, wanted: Collection[PivotSettings]
) -> dict[PivotSettings, dict[str, FloatArray]]:
    tracer = Tracer(pool.run, pool.question_ids)
    chosen = None if heads == ALL_HEADS else tracer.run_heads
    windows = sorted({settings.window for settings in wanted})
    signals = tracer.means(windows, {(window, heads): chosen for window in windows})
    return {
        settings: pivot_scores(
            signals[settings.window, heads], pool.question_ids, tracer.reference_ids, settings
        )
        for settings in wanted
    }


def _similarities(
    pools: Sequence[PoolEvidence],
    scored: Sequence[dict[PivotSettings, dict[str, FloatArray]]],
    base: PivotSettings,
    changed: PivotSettings,
) -> dict[str, Any]:
    config = pools[0].run.config
    figures: dict[str, Any] = {}
    for name in NAMES:
        if name.startswith("peak") and changed.zeta != base.zeta:
            continue
        by_pool = [
            np.concatenate(
                [
                    spearman(scores[base][name], scores[changed][name], counts)
                    for counts in resample_counts(
                        pool.wrong.size, config.study.resamples, config.seed, stratum=number
                    )
                ]
            )
            for number, (pool, scores) in enumerate(zip(pools, scored, strict=True))
        ]
        sizes = [pool.wrong.size for pool in pools]
        values = np.average(by_pool, axis=0, weights=sizes)
        if np.isfinite(values[0]):
            low, high = percentile_interval(values[1:])
            figures[name] = {"value": float(values[0]), "low": low, "high": high}
    return figures

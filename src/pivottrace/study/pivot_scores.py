"""Pivot scores of a pool under settings that differ from the run's settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pivottrace.config import Config
from pivottrace.signals.pivot_detection import (
    count,
    density,
    find_onsets,
    find_peaks,
    reference_threshold,
)
from pivottrace.stats.ranking_metrics import FloatArray

READINGS = ("onset", "peak")
STATISTICS = ("density", "count")


@dataclass(frozen=True)
class PivotSettings:
    """The paper's three settings: zeta (percentile), psi (attention mass), Delta (tokens)."""

    zeta: float
    psi: float
    window: int

    @classmethod
    def of(cls, config: Config) -> PivotSettings:
        """Return the pivot settings of a configuration."""
        return cls(config.pivots.percentile, config.pivots.amplitude, config.pivots.window)


def pivot_scores(
    signals: Mapping[str, FloatArray],
    question_ids: Sequence[str],
    reference_ids: Sequence[str],
    settings: PivotSettings,
    readings: Sequence[str] = READINGS,
) -> dict[str, FloatArray]:
    """Score every question by density and count of the pivots of some readings.

    Args:
        signals: (T,) far mass or question mass per question, by id.
        question_ids: Q ids, in the order of the result.
        reference_ids: Questions that give the threshold with their signals, as in the run itself.
        settings: Settings of the pivots.
        readings: `onset`, `peak` or both.

    Returns:
        `<reading>_density` and `<reading>_count`, each (Q,).
    """
    psi, window = settings.psi, settings.window
    traces = [signals[i] for i in question_ids]
    lengths = [trace.size for trace in traces]
    scores = {}
    for reading in readings:
        if reading == "onset":
            threshold = reference_threshold([signals[i] for i in reference_ids], settings.zeta)
            numbers = [count(find_onsets(trace, threshold, psi, window)) for trace in traces]
        else:
            numbers = [count(find_peaks(trace, psi, window)) for trace in traces]
        scores[f"{reading}_density"] = np.array(list(map(density, numbers, lengths)))
        scores[f"{reading}_count"] = np.array(numbers, dtype=np.float64)
    return scores

"""Pivot scores of a pool under other settings than the run's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pivottrace.config import Config
from pivottrace.core.metrics import FloatArray
from pivottrace.core.pivots import count, density, find_onsets, find_peaks, reference_threshold

READINGS = ("onset", "peak")
STATISTICS = ("density", "count")


@dataclass(frozen=True)
class PivotSettings:
    """The paper's three: zeta (percentile), psi (attention mass) and Delta (tokens)."""

    zeta: float
    psi: float
    window: int

    @classmethod
    def of(cls, config: Config) -> PivotSettings:
        """Those of a configuration."""
        return cls(config.pivots.percentile, config.pivots.amplitude, config.pivots.window)


def pivot_scores(
    signals: Mapping[str, FloatArray],
    question_ids: Sequence[str],
    reference_ids: Sequence[str],
    settings: PivotSettings,
) -> dict[str, FloatArray]:
    """Score every question by both readings and both statistics.

    Args:
        signals: (T,) a question.
        question_ids: Q ids, the order of the result.
        reference_ids: whose signals the threshold is read off, as in the run itself.
        settings: of the pivots.

    Returns:
        `onset_density`, `onset_count`, `peak_density`, `peak_count`, each (Q,).
    """
    threshold = reference_threshold([signals[i] for i in reference_ids], settings.zeta)
    psi, window = settings.psi, settings.window
    lengths = [signals[i].size for i in question_ids]
    counts = {
        "onset": [count(find_onsets(signals[i], threshold, psi, window)) for i in question_ids],
        "peak": [count(find_peaks(signals[i], psi, window)) for i in question_ids],
    }
    scores = {}
    for reading, numbers in counts.items():
        scores[f"{reading}_density"] = np.array(list(map(density, numbers, lengths)))
        scores[f"{reading}_count"] = np.array(numbers, dtype=np.float64)
    return scores

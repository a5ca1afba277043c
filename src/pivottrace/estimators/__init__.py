"""Uncertainty estimators, one file each. For every one, higher is more uncertain.

An estimator takes `TraceEvidence` and returns one number for the question, NaN where it cannot.
`ESTIMATORS` is the dictionary that the score stage goes through.
"""

from __future__ import annotations

from collections.abc import Callable

from pivottrace.estimators import consistency, entropy, length, pivots, random
from pivottrace.estimators.evidence import TraceEvidence

ESTIMATORS: dict[str, Callable[[TraceEvidence], float]] = {
    "onset_density": pivots.onset_density,
    "onset_count": pivots.onset_count,
    "peak_density": pivots.peak_density,
    "peak_count": pivots.peak_count,
    "entropy_mean": entropy.entropy_mean,
    "entropy_sum": entropy.entropy_sum,
    "consistency": consistency.consistency,
    "length": length.length,
    "random": random.random_score,
}

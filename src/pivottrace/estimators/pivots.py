"""Metacognitive pivots: moments of the greedy trace where attention reaches far back.

Source: the paper's abstract for the density, DE-Venus for the number. The rule that finds a pivot
is our reconstruction, in two readings (`signals.pivot_detection`). The variant on the question's
mass is ours. It takes onsets of the share of attention that goes to the question (without sinks),
not of the share that goes to all tokens far back.
"""

from __future__ import annotations

import numpy as np

from pivottrace.estimators.record import Estimator
from pivottrace.estimators.trace_evidence import TraceEvidence
from pivottrace.signals.pivot_detection import count, density


def onset_density(evidence: TraceEvidence) -> float:
    """Onsets per response token, in [0, 1]; NaN for an empty response."""
    return _density(evidence.onsets, evidence.num_tokens)


def onset_count(evidence: TraceEvidence) -> float:
    """Number of onsets, 0 or more."""
    return float(count(evidence.onsets))


def peak_density(evidence: TraceEvidence) -> float:
    """Peaks per response token, in [0, 1]; NaN for an empty response."""
    return _density(evidence.peaks, evidence.num_tokens)


def peak_count(evidence: TraceEvidence) -> float:
    """Number of peaks, 0 or more."""
    return float(count(evidence.peaks))


def question_onset_density(evidence: TraceEvidence) -> float:
    """Onsets of the question's mass per response token, in [0, 1]; NaN for an empty response."""
    return _density(evidence.question_onsets, evidence.num_tokens)


def question_onset_count(evidence: TraceEvidence) -> float:
    """Number of onsets of the question's mass, 0 or more."""
    return float(count(evidence.question_onsets))


def _density(positions: np.ndarray, num_tokens: int) -> float:
    return density(count(positions), num_tokens)


ONSET_DENSITY = Estimator(
    "onset_density", "pivot density (onset)", needs="trace", function=onset_density, order=0
)
ONSET_COUNT = Estimator(
    "onset_count", "pivot count (onset)", needs="trace", function=onset_count, order=1
)
PEAK_DENSITY = Estimator(
    "peak_density", "pivot density (peak)", needs="trace", function=peak_density, order=2
)
PEAK_COUNT = Estimator(
    "peak_count", "pivot count (peak)", needs="trace", function=peak_count, order=3
)
QUESTION_ONSET_DENSITY = Estimator(
    "question_onset_density",
    "pivot density (question)",
    needs="trace",
    function=question_onset_density,
    order=4,
)
QUESTION_ONSET_COUNT = Estimator(
    "question_onset_count",
    "pivot count (question)",
    needs="trace",
    function=question_onset_count,
    order=5,
)

"""Disagreement of sampled answers. It needs G inferences, but a pivot needs only one.

Source: the "Consistency" of the paper's tables (DE-Venus §4.3.1: lower agreement among G sampled
answers is higher uncertainty, after Zuo et al. 2025, TTRL). Two answers agree if the verifier finds
them equal. A sample without an answer does not agree with any other sample.
"""

from __future__ import annotations

from collections import Counter

from pivottrace.estimators.record import Estimator
from pivottrace.estimators.trace_evidence import TraceEvidence


def consistency(evidence: TraceEvidence) -> float:
    """One minus the largest class' share of all samples, in [0, 1]; NaN without samples."""
    if not evidence.answer_classes:
        return float("nan")
    answered = Counter(c for c in evidence.answer_classes if c >= 0)
    largest = max(answered.values(), default=0)
    return 1.0 - largest / len(evidence.answer_classes)


CONSISTENCY = Estimator(
    "consistency", "consistency of samples", needs="samples", function=consistency, order=10
)

"""Length of the greedy response: a control that any estimator must beat."""

from __future__ import annotations

from pivottrace.estimators.record import Estimator
from pivottrace.estimators.trace_evidence import TraceEvidence


def length(evidence: TraceEvidence) -> float:
    """Response tokens, 0 or more."""
    return float(evidence.num_tokens)


LENGTH = Estimator("length", "length", needs="greedy", function=length, order=16)

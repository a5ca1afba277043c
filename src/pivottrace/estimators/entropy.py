"""Token entropy of the greedy trace, the most common single-trace rival."""

from __future__ import annotations

from pivottrace.estimators.evidence import TraceEvidence


def entropy_mean(evidence: TraceEvidence) -> float:
    """Mean entropy of the next-token distributions, nats, 0 or more; NaN for an empty response."""
    return float(evidence.entropy.mean()) if evidence.entropy.size else float("nan")


def entropy_sum(evidence: TraceEvidence) -> float:
    """Entropy summed over the trace, nats, 0 or more."""
    return float(evidence.entropy.sum())

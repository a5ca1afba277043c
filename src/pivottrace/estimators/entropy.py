"""Token entropy of the greedy trace, the most common rival that needs a single trace.

`H_t = -Σ_v p_t(v) ln p_t(v)` over the vocabulary. p_t is the distribution that produced token t.

Sources: the mean is the "Entropy" of the paper's tables (DE-Venus §4.3.1: "the average output-token
entropy", after Huang et al. 2023). The top share comes from Wang et al. 2025 (*Beyond the 80/20
Rule*, arXiv 2506.01939). They train on the 20 % of tokens with the highest entropy, which are the
forks of a reasoning. We take the mean over these tokens. The sum is ours too.
"""

from __future__ import annotations

import math

import numpy as np

from pivottrace.estimators.record import Estimator
from pivottrace.estimators.trace_evidence import TraceEvidence

TOP_SHARE = 0.2


def entropy_mean(evidence: TraceEvidence) -> float:
    """Mean entropy, nats, in [0, ln V]; higher is less certain. NaN for an empty response."""
    return float(evidence.entropy.mean()) if evidence.entropy.size else float("nan")


def entropy_sum(evidence: TraceEvidence) -> float:
    """Entropy summed over the trace, nats, 0 or more; NaN for an empty response."""
    return float(evidence.entropy.sum()) if evidence.entropy.size else float("nan")


def entropy_top(evidence: TraceEvidence) -> float:
    """Mean of the highest ⌈T/5⌉ entropies, nats, in [0, ln V]; NaN for an empty response."""
    if not evidence.entropy.size:
        return float("nan")
    count = math.ceil(TOP_SHARE * evidence.entropy.size)
    return float(np.sort(evidence.entropy)[-count:].mean())


ENTROPY_MEAN = Estimator(
    "entropy_mean", "mean entropy", needs="trace", function=entropy_mean, order=6
)
ENTROPY_SUM = Estimator(
    "entropy_sum", "summed entropy", needs="trace", function=entropy_sum, order=7
)
ENTROPY_TOP = Estimator(
    "entropy_top", "entropy, highest 20 %", needs="trace", function=entropy_top, order=8
)

"""A random score: the control of the paper's tables."""

from __future__ import annotations

import hashlib

from pivottrace.estimators.record import Estimator
from pivottrace.estimators.trace_evidence import TraceEvidence


def random_score(evidence: TraceEvidence) -> float:
    """Uniform in [0, 1). The run's seed and the question's id decide it, so that it repeats."""
    digest = hashlib.sha256(f"{evidence.seed}/{evidence.question_id}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


RANDOM = Estimator("random", "random", needs="nothing", function=random_score, order=18)

"""Self-certainty: how far the next-token distributions are from uniform.

Source: Kang et al. 2025 (*Scalable Best-of-N Selection for Large Language Models via
Self-Certainty*, arXiv 2502.18581). Intuitor uses the same signal. It is the mean of
`KL(U || p_t) = -1/V Σ_v ln(V p_t(v))` over the response.

Deviations: our score is negated. U is uniform over the tokens whose probability is not exactly 0,
because a model that masks part of its vocabulary would be infinitely certain otherwise. Each p_t is
the distribution that *produced* token t. The authors' script (`confidence_list.py`) starts at the
first response token, so it takes each distribution one token late.
"""

from __future__ import annotations

from pivottrace.estimators.record import Estimator
from pivottrace.estimators.trace_evidence import TraceEvidence


def self_certainty(evidence: TraceEvidence) -> float:
    """Minus the mean self-certainty, nats, 0 or less; higher is less certain.

    NaN for an empty response.
    """
    values = evidence.self_certainty
    return -float(values.mean()) if values.size else float("nan")


SELF_CERTAINTY = Estimator(
    "self_certainty", "self-certainty", needs="trace", function=self_certainty, order=9
)

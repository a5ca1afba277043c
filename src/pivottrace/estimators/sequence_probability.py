"""Negative log-probability of the greedy trace under the model that wrote it: a control.

One score is `-Σ_t ln p(y_t | …)`. The other is its mean over tokens, which is the logarithm of the
perplexity. The end-of-sequence token is left out, as everywhere. There is no source in particular,
because sequence probability and perplexity are the usual baselines.
"""

from __future__ import annotations

from pivottrace.estimators.record import Estimator
from pivottrace.estimators.trace_evidence import TraceEvidence


def neg_log_prob_mean(evidence: TraceEvidence) -> float:
    """Mean negative log-probability, nats, 0 or more; NaN for an empty response."""
    return -float(evidence.log_prob.mean()) if evidence.log_prob.size else float("nan")


def neg_log_prob_sum(evidence: TraceEvidence) -> float:
    """Negative log-probability summed over the response, nats, 0 or more; NaN for an empty one."""
    return -float(evidence.log_prob.sum()) if evidence.log_prob.size else float("nan")


NEG_LOG_PROB_MEAN = Estimator(
    "neg_log_prob_mean",
    "mean negative log-prob.",
    needs="trace",
    function=neg_log_prob_mean,
    order=14,
)
NEG_LOG_PROB_SUM = Estimator(
    "neg_log_prob_sum",
    "summed negative log-prob.",
    needs="trace",
    function=neg_log_prob_sum,
    order=15,
)

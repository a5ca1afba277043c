"""Uncertainty estimators, one file each. For every one, higher is more uncertain.

An estimator takes `TraceEvidence` and returns one number for the question, NaN where it cannot.
`ESTIMATORS` is the dictionary that the score stage goes through.
"""

from __future__ import annotations

from collections.abc import Callable

from pivottrace.estimators import (
    chance,
    coe,
    consistency,
    cot_kinetics,
    entropy,
    length,
    pivots,
    recheck_words,
    self_certainty,
    sequence_probability,
)
from pivottrace.estimators.trace_evidence import TraceEvidence

ESTIMATORS: dict[str, Callable[[TraceEvidence], float]] = {
    "onset_density": pivots.onset_density,
    "onset_count": pivots.onset_count,
    "peak_density": pivots.peak_density,
    "peak_count": pivots.peak_count,
    "question_onset_density": pivots.question_onset_density,
    "question_onset_count": pivots.question_onset_count,
    "entropy_mean": entropy.entropy_mean,
    "entropy_sum": entropy.entropy_sum,
    "entropy_top": entropy.entropy_top,
    "self_certainty": self_certainty.self_certainty,
    "consistency": consistency.consistency,
    "coe_r": coe.coe_r,
    "coe_c": coe.coe_c,
    "cot_kinetics": cot_kinetics.cot_kinetics,
    "neg_log_prob_mean": sequence_probability.neg_log_prob_mean,
    "neg_log_prob_sum": sequence_probability.neg_log_prob_sum,
    "length": length.length,
    "recheck_words": recheck_words.recheck_words,
    "random": chance.random_score,
}

"""Number of words that announce a re-check: a control, because pivots may be just these words.

Source: ours. Large reasoning models turn back in English with some of these words ("Wait,", "Hmm",
"let me double-check"). Further words come from the demonstrations of the embedded world
(`world.problems.GO_BACK`, and `LOCAL_CHECKS`, which say nothing on purpose).
"""

from __future__ import annotations

import re

from pivottrace.estimators.record import Estimator
from pivottrace.estimators.trace_evidence import TraceEvidence

_WORDS = (
    "wait",
    "hmm",
    "hold on",
    "actually",
    "alternatively",
    "on second thought",
    "mistake",
    "again",
    "once more",
    "go back",
    "going back",
    "check",
    "checking",
    "verify",
    "verifying",
)
# These verbs count with "re" before them, with or without a hyphen: re-read, recheck.
RECHECK_VERBS = (
    "calculat",
    "check",
    "comput",
    "consider",
    "evaluat",
    "examin",
    "read",
    "think",
    "verif",
)

_PATTERN = re.compile(
    rf"\b(?:(?:{'|'.join(_WORDS)})\b|re-?(?:{'|'.join(RECHECK_VERBS)}))", re.IGNORECASE
)


def recheck_words(evidence: TraceEvidence) -> float:
    """Number of re-check words in the response, 0 or more; higher is less certain.

    Each word counts alone, so "check again" counts twice. NaN for an empty response.
    """
    if not evidence.num_tokens:
        return float("nan")
    return float(len(_PATTERN.findall(evidence.text)))


RECHECK_WORDS = Estimator(
    "recheck_words", "re-check words", needs="greedy", function=recheck_words, order=17
)

"""The reward of this export, for TRL: `reward_funcs: [pivottrace_reward.weighted_correctness]`.

It needs the files beside it and math-verify; PivotTrace need not be installed.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent))

from pivottrace.exports.kit.scoring import Scorer

SCORER = Scorer(Path(__file__).with_name("reward.json"))


def weighted_correctness(
    completions: Sequence[Any],
    ground_truth: Sequence[str],
    weight: Sequence[float] | None = None,
    log_metric: Callable[[str, float], None] | None = None,
    **columns: Any,
) -> list[float]:
    """Score a batch of completions.

    Args:
        completions: (N,) texts, or lists of messages whose last one is the response.
        ground_truth: (N,) the labels or votes.
        weight: (N,) weights of the rows.
        log_metric: TRL's own; it gets the share of right completions, whatever their weight.
        columns: The other columns of the rows.

    Returns:
        (N,) rewards in [0, 1]; higher is better.
    """
    texts = [_text(completion) for completion in completions]
    scores = SCORER.score_many(texts, ground_truth, weight or [1.0] * len(texts))
    if log_metric is not None and scores:
        log_metric("acc", sum(score["acc"] for score in scores) / len(scores))
        log_metric("failed", sum(score["failed"] for score in scores) / len(scores))
    return [score["score"] for score in scores]


def _text(completion: Any) -> Any:
    """The text of a completion; anything else is judged as failed."""
    if isinstance(completion, str):
        return completion
    return completion[-1].get("content") if completion else ""

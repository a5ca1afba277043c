"""The reward of this export, for verl: `reward.custom_reward_function.path=reward.py`.

It needs the files beside it and math-verify; PivotTrace need not be installed.
"""

import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent))  # verl loads this file by its path

from pivottrace.exports.kit.scoring import Scorer

SCORER = Scorer(Path(__file__).with_name("reward.json"))


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: dict[str, Any] | None = None,
    **kwargs: Any,
) -> dict[str, float]:
    """Score one response.

    Args:
        data_source: Not used; a weak row's vote judges it like a label.
        solution_str: The response.
        ground_truth: The label or the vote.
        extra_info: Its `weight` is the weight of the row.
        kwargs: Whatever else a version of verl gives.

    Returns:
        The reward as `score`, and `acc`, `answered` and `failed`. verl takes `acc` for its metrics.
    """
    return SCORER.score(solution_str, ground_truth, (extra_info or {}).get("weight"))

"""Sequence confidence: the probability of the whole completion."""

import math
from collections.abc import Sequence

from pivottrace.rewards.token_rewards import token_reward
from pivottrace.rewards.token_statistics import TokenStatistics, values_of


def sequence_confidence_rewards(group: Sequence[TokenStatistics]) -> list[float]:
    """A completion's probability over the group's greatest: `r_i = p(y_i) / max_j p(y_j)`.

    Returns:
        (G,) in [0, 1], the most probable completion 1.0; higher is surer. All 0.0 where no
        completion is possible.

    Raises:
        ModelError: The model's logits are not finite.

    Source: Li et al. 2025 (*Confidence Is All You Need*, RLSC, arXiv 2506.06395), which raises
    `E[p(y)]` by the loss `-p_old(y) ln p(y)`: a reward of p_old(y). Deviations: the reward is
    relative to the group, because p(y) of a long completion is 0 in floating point. Group
    normalisation divides a group's scale out again. It also subtracts the mean, which RLSC does not
    do, and with it RLSC's constant added to p_old. An empty completion gets its group's lowest
    reward.
    """
    log_probs = values_of(group, lambda statistics: float(statistics.log_prob.sum()))
    greatest = max(log_probs, default=-math.inf)
    if greatest == -math.inf:
        return [0.0] * len(log_probs)
    return [math.exp(log_prob - greatest) for log_prob in log_probs]


SEQUENCE_CONFIDENCE = token_reward(
    "sequence_confidence", "the probability of the completion", sequence_confidence_rewards
)

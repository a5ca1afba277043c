"""Sequence confidence: the probability of the whole completion."""

import math
from collections.abc import Sequence

from pivottrace.rewards.token_rewards import token_reward
from pivottrace.rewards.token_statistics import TokenStatistics, values_of


def sequence_confidence_rewards(group: Sequence[TokenStatistics]) -> list[float]:
    """A completion's probability over the greatest in its group: `r_i = p(y_i) / max_j p(y_j)`.

    Returns:
        (G,) in [0, 1], higher is surer. The most probable completion gets 1.0. If no completion is
        possible, all get 0.0.

    Raises:
        ModelError: The model's logits are not finite.

    Source: Li et al. 2025 (*Confidence Is All You Need*, RLSC, arXiv 2506.06395). RLSC raises
    `E[p(y)]` by the loss `-p_old(y) ln p(y)`, and so by a reward of p_old(y).

    Deviations: the reward is relative to the group, because p(y) of a long completion is 0 in
    floating point. Group normalisation divides by the scale of a group in any case. It also
    subtracts the mean, which RLSC does not. So the constant that RLSC adds to p_old drops out. An
    empty completion gets the lowest reward of its group.
    """
    # (G,) log-probabilities; their greatest is subtracted before `exp`, so that it cannot overflow.
    log_probs = values_of(group, lambda statistics: float(statistics.log_prob.sum()))
    greatest = max(log_probs, default=-math.inf)
    if greatest == -math.inf:
        return [0.0] * len(log_probs)
    return [math.exp(log_prob - greatest) for log_prob in log_probs]


SEQUENCE_CONFIDENCE = token_reward(
    "sequence_confidence", "the probability of the completion", sequence_confidence_rewards
)

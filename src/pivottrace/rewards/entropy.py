"""Entropy minimisation: a completion gets a higher reward if the model was surer of its tokens.

Source: Agarwal et al. 2025 (*The Unreasonable Effectiveness of Entropy Minimization in LLM
Reasoning*, arXiv 2505.15134), EM-RL with its two rewards. As in the paper, both rewards are sums
over tokens, so a short completion has an advantage. Deviation: an empty completion gets the lowest
reward of its group.
"""

from collections.abc import Sequence

from pivottrace.rewards.token_rewards import token_reward
from pivottrace.rewards.token_statistics import TokenStatistics, values_of


def token_entropy_rewards(group: Sequence[TokenStatistics]) -> list[float]:
    """Minus the entropy of a completion's tokens: `r_i = -sum_t H(p_t)` (EM-RL-token).

    Returns:
        (G,) nats, <= 0; higher is surer.

    Raises:
        ModelError: The model's logits are not finite.
    """
    return values_of(group, lambda statistics: -float(statistics.entropy.sum()))


def sequence_entropy_rewards(group: Sequence[TokenStatistics]) -> list[float]:
    """A completion's log-probability: `r_i = sum_t ln p_t(y_t)` (EM-RL-sequence).

    The mean over samples estimates minus the entropy of the distribution over whole completions.

    Returns:
        (G,) nats, <= 0; higher is surer.

    Raises:
        ModelError: The model's logits are not finite.
    """
    return values_of(group, lambda statistics: float(statistics.log_prob.sum()))


TOKEN_ENTROPY = token_reward(
    "token_entropy", "minus the entropy of the tokens", token_entropy_rewards
)
SEQUENCE_ENTROPY = token_reward(
    "sequence_entropy", "the log-probability of the completion", sequence_entropy_rewards
)

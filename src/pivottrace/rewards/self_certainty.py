"""Self-certainty: how far the next-token distributions are from uniform."""

from collections.abc import Sequence

from pivottrace.rewards.token_rewards import token_reward
from pivottrace.rewards.token_statistics import TokenStatistics, values_of


def self_certainty_rewards(group: Sequence[TokenStatistics]) -> list[float]:
    """Mean of `KL(U || p_t) = -1/V sum_v ln(V p_t(v))` over a completion's tokens.

    Returns:
        (G,) nats, >= 0; higher is more certain.

    Raises:
        ModelError: The model's logits are not finite.

    Source: Zhao et al. 2025 (*Learning to Reason without External Rewards*, Intuitor, arXiv
    2505.19590). Their code leaves out the constant `ln V`. Deviations: U is uniform over the tokens
    whose probability is not exactly 0. p_t is at temperature 1, even if the sampling has another
    temperature. An empty completion gets the lowest reward of its group.
    """
    return values_of(group, lambda statistics: float(statistics.self_certainty.mean()))


SELF_CERTAINTY = token_reward(
    "self_certainty", "the distance of the distributions from uniform", self_certainty_rewards
)

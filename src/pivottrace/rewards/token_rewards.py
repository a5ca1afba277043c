"""Rewards by the model's own distributions, without an answer: from statistics to a record."""

from collections.abc import Callable, Sequence

from pivottrace.rewards.token_statistics import TokenStatistics
from pivottrace.rewards.weak import ReadTokens, Reward, WeakGroup, WeakResult, WeakReward


def confidence(
    rewards_of: Callable[[Sequence[TokenStatistics]], list[float]], read_tokens: ReadTokens
) -> WeakReward:
    """Reward by the model's distributions: entropy, self-certainty, probability.

    Args:
        rewards_of: One group's statistics to its rewards, such as `self_certainty_rewards`.
        read_tokens: Reads them for a whole batch at once.
    """

    def reward(step: int, groups: Sequence[WeakGroup]) -> list[WeakResult]:
        pairs = [(group.prompt, ids) for group in groups for ids in group.completion_ids]
        read = iter(read_tokens(pairs))
        return [WeakResult(rewards_of([next(read) for _ in g.completion_ids])) for g in groups]

    return reward


def token_reward(
    name: str, title: str, rewards_of: Callable[[Sequence[TokenStatistics]], list[float]]
) -> Reward:
    """The record of such a reward; arguments as `Reward` and `confidence` have them."""
    return Reward(
        name,
        title,
        needs="tokens",
        votes="none",
        make=lambda tools: confidence(rewards_of, tools.read_tokens),
    )

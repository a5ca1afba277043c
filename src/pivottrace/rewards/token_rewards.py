"""Rewards by the model's own distributions, which need no answer, and their records."""

from collections.abc import Callable, Sequence

from pivottrace.rewards.token_statistics import TokenStatistics
from pivottrace.rewards.weak import ReadTokens, Reward, WeakGroup, WeakResult, WeakReward


def confidence(
    rewards_of: Callable[[Sequence[TokenStatistics]], list[float]], read_tokens: ReadTokens
) -> WeakReward:
    """Make a reward by the model's distributions: by entropy, self-certainty or probability.

    Args:
        rewards_of: Turns one group's statistics into its rewards, as `self_certainty_rewards` does.
        read_tokens: Reads the statistics of a whole batch at once.
    """

    def reward(step: int, groups: Sequence[WeakGroup]) -> list[WeakResult]:
        pairs = [(group.prompt, ids) for group in groups for ids in group.completion_ids]
        read = iter(read_tokens(pairs))
        return [WeakResult(rewards_of([next(read) for _ in g.completion_ids])) for g in groups]

    return reward


def token_reward(
    name: str, title: str, rewards_of: Callable[[Sequence[TokenStatistics]], list[float]]
) -> Reward:
    """The record of such a reward. `Reward` and `confidence` describe the arguments."""
    return Reward(
        name,
        title,
        needs="tokens",
        votes="none",
        make=lambda tools: confidence(rewards_of, tools.read_tokens),
    )

"""The curves that are logged for a batch of groups, some of them per route."""

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean

from pivottrace.rewards.groups import Group
from pivottrace.rewards.weak import WeakResult


def batch_metrics(groups: Sequence[Group], weak: Sequence[WeakResult]) -> dict[str, float]:
    """Means over the batch of one process. A route that is not in the batch has no curve.

    Args:
        groups: All groups of the batch.
        weak: The results of its weak groups.

    Returns:
        Values by name. They are shares in [0, 1] unless the list says otherwise.

        * `reward/annotate`, `reward/weak`: mean reward of a completion, in nats if the reward is in
          nats.
        * `answered`, `answered/annotate`, `answered/weak`: completions with an answer.
        * `equal_rewards/annotate`, `equal_rewards/weak`: groups whose rewards are all the same, so
          that they teach nothing.
        * `tokens/annotate`, `tokens/weak`: mean number of tokens per completion.
        * `vote_share`: the winning class's share of the votes, if votes were taken.
        * `vote_margin`: the lead of the winning class, if votes were taken.
        * `vote_abstained`: groups without a winner, if votes were taken.
        * `extra_rollouts`, `extra_tokens`: number of completions that were sampled only to vote,
          and of their tokens. The batch has both curves only if such completions were sampled.
    """
    values: dict[str, list[float]] = defaultdict(list)
    for group in groups:
        answered = [float(answer is not None) for answer in group.answers]
        values["answered"] += answered
        values[f"answered/{group.route}"] += answered
        values[f"reward/{group.route}"] += group.rewards
        values[f"equal_rewards/{group.route}"].append(float(len(set(group.rewards)) == 1))
        values[f"tokens/{group.route}"] += group.num_tokens
    for vote in (result.vote for result in weak):
        if vote is not None:
            values["vote_share"].append(vote.share)
            values["vote_margin"].append(vote.margin)
            values["vote_abstained"].append(float(vote.winner is None))
    metrics = {name: fmean(column) for name, column in values.items() if column}
    if any(result.extra_rollouts for result in weak):
        metrics["extra_rollouts"] = float(sum(result.extra_rollouts for result in weak))
        metrics["extra_tokens"] = float(sum(result.extra_tokens for result in weak))
    return metrics

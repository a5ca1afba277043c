"""The metrics of a batch of groups, one curve each, per route if routes differ."""

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean

from pivottrace.rewards.groups import Group
from pivottrace.rewards.weak import WeakResult


def batch_metrics(groups: Sequence[Group], weak: Sequence[WeakResult]) -> dict[str, float]:
    """Means over a batch, of one process; a route that is not in the batch has no curve.

    Args:
        groups: All groups of the batch.
        weak: The results of its weak groups.

    Returns:
        By name, shares in [0, 1] unless said otherwise: `reward/annotate` and `reward/weak`, the
        mean reward of a completion (nats for rewards in nats); `answered`, `answered/annotate` and
        `answered/weak`, completions with an answer; `equal_rewards/annotate` and
        `equal_rewards/weak`, groups whose rewards are all the same, which teach nothing;
        `tokens/annotate` and `tokens/weak`, mean tokens per completion. If votes were taken:
        `vote_share`, the winning class's share of them; `vote_margin`, its lead; `vote_abstained`,
        groups without a winner. If completions were sampled only to vote: `extra_rollouts` and
        `extra_tokens`, their number and their tokens in the batch.
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

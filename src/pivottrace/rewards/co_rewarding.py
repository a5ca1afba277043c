"""Co-rewarding: a vote among answers that come from somewhere else than the group it judges.

Source: Zhang et al. 2025 (*Co-rewarding: Stable Self-supervised RL*, arXiv 2508.00410). Variant I:
answers to the same question in other words vote for the original, and the other way round. Variant
II: the answers of a slow teacher, a moving average of the policy, vote. Both are one rule here; who
the voters are is the caller's business. Deviations: answers are compared by equivalence, not as
text; a tie abstains, where the authors' code takes the first; a margin can be asked for.
"""

from collections.abc import Callable, Sequence

from pivottrace.rewards.frozen_majority import frozen_majority_rewards
from pivottrace.verifier.answers import Vote, group_equivalent, majority_vote


def co_rewarding_rewards(
    answers: Sequence[str | None],
    voters: Sequence[str | None],
    equal: Callable[[str, str], bool],
    *,
    least_margin: float = 0.0,
) -> tuple[list[float], Vote]:
    """Reward each answer by whether it agrees with the majority of the voters.

    `r_i = 1[a_i = majority(voters)]`; all 0.0 where the voters abstain.

    Args:
        answers: (G,) extracted answers of the group that is trained on; None where there is none.
        voters: (N,) extracted answers to the rewritten question, or of the teacher.
        equal: Whether two answers are the same.
        least_margin: Lead over the runner-up that a winner needs, as a share of N, in [0, 1].

    Returns:
        (G,) 1.0 or 0.0; higher is better. And the voters' vote.
    """
    classes = group_equivalent(voters, equal)
    vote = majority_vote(classes, least_margin)
    if vote.winner is None:
        return [0.0] * len(answers), vote
    winner = voters[classes.index(vote.winner)] or ""
    return frozen_majority_rewards(answers, winner, equal), vote

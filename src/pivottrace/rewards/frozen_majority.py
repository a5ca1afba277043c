"""The frozen majority reward: a vote before training takes the place of a label."""

from collections.abc import Sequence

from pivottrace.errors import DataError
from pivottrace.rewards.weak import Equal, Reward, WeakGroup, WeakResult, WeakReward


def frozen_majority_rewards(
    answers: Sequence[str | None], pseudo_label: str, equal: Equal
) -> list[float]:
    """Reward each answer of one question by whether it equals the stored vote.

    If no answer or every answer equals the pseudo-label, all rewards are the same. Group
    normalisation then gives no gradient.

    Args:
        answers: (G,) extracted answers; None for a completion without an answer.
        pseudo_label: The majority's answer in the stored rollouts.
        equal: Whether an answer is right by a truth, in this order.

    Returns:
        (G,) 1.0 for an answer that is equivalent to the pseudo-label, else 0.0; higher is better.

    Source: ours. TTRL (arXiv 2504.16084) takes a new vote in each step. Frozen pseudo-labels cannot
    collapse with the policy, and they cannot get better with it either.
    """
    return [float(bool(a and a.strip()) and equal(a or "", pseudo_label)) for a in answers]


def frozen_majority(equal: Equal) -> WeakReward:
    """Compare answers with the stored vote. Raises DataError for a row without a stored vote."""

    def reward(step: int, groups: Sequence[WeakGroup]) -> list[WeakResult]:
        results = []
        for group in groups:
            if group.pseudo_label is None:
                raise DataError(
                    f"training row {group.question_id!r}: weak.reward is frozen_majority but the "
                    f"row has no pseudo_label. Put the stored vote there, or choose majority"
                )
            rewards = frozen_majority_rewards(group.answers, group.pseudo_label, equal)
            results.append(WeakResult(rewards))
        return results

    return reward


FROZEN_MAJORITY = Reward(
    "frozen_majority",
    "the vote of the stored rollouts",
    needs="pseudo_label",
    votes="none",
    make=lambda tools: frozen_majority(tools.equal),
)

"""The frozen majority reward: a vote taken once, before training, stands in for a label."""

from collections.abc import Callable, Sequence


def frozen_majority_rewards(
    answers: Sequence[str | None], pseudo_label: str, equal: Callable[[str, str], bool]
) -> list[float]:
    """Reward each answer of one question by whether it equals the stored vote.

    A pseudo-label that nobody gives, or that all give, makes every reward the same: no gradient
    under group normalisation.

    Args:
        answers: (G,) extracted answers; None where a completion gave none.
        pseudo_label: The majority's answer in the stored rollouts.
        equal: Whether two answers are the same.

    Returns:
        (G,) 1.0 for an answer that is equivalent to the pseudo-label, else 0.0; higher is better.

    Source: pseudo-labels by majority, frozen, are ours here; TTRL (arXiv 2504.16084) votes anew in
    each step. They cannot collapse with the policy, and cannot get better with it either.
    """
    return [float(bool(a and a.strip()) and equal(pseudo_label, a or "")) for a in answers]

"""The majority reward: the group's own vote stands in for a label."""

from collections.abc import Callable, Sequence

from pivottrace.core.answers import Vote, group_equivalent, majority_vote


def majority_rewards(
    answers: Sequence[str | None], equal: Callable[[str, str], bool]
) -> tuple[list[float], Vote]:
    """Reward each answer of one question by whether it agrees with the group's majority.

    A tie, or a group without an answer, is an abstention: 0.0 for every row, hence no advantage and
    no gradient under group normalisation. An empty answer never wins.

    Args:
        answers: (G,) extracted answers; None where a completion gave none.
        equal: Whether two answers are the same.

    Returns:
        (G,) 1.0 for an answer in the winning class, else 0.0, and the vote.

    Source: TTRL (arXiv 2504.16084), which the paper uses on weak rows. TTRL breaks ties by order;
    we abstain.
    """
    classes = group_equivalent(answers, equal)
    vote = majority_vote(classes)
    if vote.winner is None:
        return [0.0] * len(answers), vote
    return [float(class_id == vote.winner) for class_id in classes], vote

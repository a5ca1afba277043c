"""The majority reward: the vote of the group takes the place of a label."""

from collections.abc import Sequence

from pivottrace.rewards.weak import (
    Ask,
    Grouping,
    Reward,
    Sampled,
    Tools,
    WeakGroup,
    WeakResult,
    WeakReward,
)
from pivottrace.verifier.answers import Vote, majority_vote


def majority_rewards(
    answers: Sequence[str | None],
    group: Grouping,
    *,
    extra: Sequence[str | None] = (),
    least_margin: float = 0.0,
) -> tuple[list[float], Vote]:
    """Reward each answer of one question by whether it agrees with the majority.

    `r_i = 1[class(a_i) = argmax_c |{j in answers and extra: class(a_j) = c}|]`. The vote abstains
    if there is a tie, if the lead is too small, or if no completion has an answer. Then every
    reward is 0.0, and group normalisation gives no advantage and no gradient. An empty answer never
    wins, but it counts in shares.

    Args:
        answers: (G,) extracted answers; None for a completion without an answer.
        group: Puts the answers into classes.
        extra: Further answers to the same question, which vote but are not trained on.
        least_margin: Lead over the runner-up that a winner needs, as a share of all votes, [0, 1].

    Returns:
        (G,) rewards, 1.0 for an answer in the winning class, else 0.0, higher is better; and the
        vote of all G + len(extra) answers.

    Source: TTRL (arXiv 2504.16084), which the paper uses on weak rows. TTRL votes with 64 answers
    and trains on the first 32 of them. It breaks ties by order and has no margin, but we abstain.
    """
    classes = group([*answers, *extra])
    vote = majority_vote(classes, least_margin)
    if vote.winner is None:
        return [0.0] * len(answers), vote
    return [float(class_id == vote.winner) for class_id in classes[: len(answers)]], vote


def majority(
    group: Grouping, *, least_margin: float = 0.0, ask_more: Ask | None = None
) -> WeakReward:
    """Take a new vote in each step. With `ask_more`, further answers vote too."""

    def reward(step: int, groups: Sequence[WeakGroup]) -> list[WeakResult]:
        more = [Sampled([])] * len(groups)
        if ask_more is not None:
            more = ask_more(step, [(each.question_id, each.prompt) for each in groups])
        results = []
        for each, extra in zip(groups, more, strict=True):
            rewards, vote = majority_rewards(
                each.answers, group, extra=extra.answers, least_margin=least_margin
            )
            results.append(WeakResult(rewards, vote, len(extra.answers), extra.num_tokens))
        return results

    return reward


def _make(tools: Tools) -> WeakReward:
    more = tools.num_votes - tools.num_generations
    return majority(
        tools.group,
        least_margin=tools.least_margin,
        ask_more=(lambda step, questions: tools.ask(step, questions, more)) if more > 0 else None,
    )


MAJORITY = Reward("majority", "the group's own vote", needs="answers", votes="group", make=_make)

"""Co-rewarding: the answers that vote do not belong to the group that the vote judges.

Source: Zhang et al. 2025 (*Co-rewarding: Stable Self-supervised RL*, arXiv 2508.00410). In variant
I, answers to the rewritten question vote for the original, and answers to the original vote for the
rewritten question. In variant II, the answers of a slow teacher vote. The teacher is a moving
average of the policy. Both variants are one rule here, because the caller chooses the voters.

Deviations: answers are compared by equivalence, not as text. A tie abstains, but the authors' code
takes the first class. A setting can require a margin.
"""

from collections.abc import Sequence

from pivottrace.errors import DataError
from pivottrace.rewards.frozen_majority import frozen_majority_rewards
from pivottrace.rewards.weak import (
    Ask,
    AskMany,
    Equal,
    Grouping,
    Prompt,
    Reward,
    Tools,
    WeakGroup,
    WeakResult,
    WeakReward,
)
from pivottrace.verifier.answers import Vote, majority_vote


def co_rewarding_rewards(
    answers: Sequence[str | None],
    voters: Sequence[str | None],
    group: Grouping,
    equal: Equal,
    *,
    least_margin: float = 0.0,
) -> tuple[list[float], Vote]:
    """Reward each answer by whether it agrees with the majority of the voters.

    `r_i = 1[a_i = majority(voters)]`. If the voters abstain, all rewards are 0.0.

    Args:
        answers: (G,) extracted answers of the group that is trained on; None for a completion
            without an answer.
        voters: (N,) extracted answers to the rewritten question, or of the teacher.
        group: Puts the voters' answers into classes.
        equal: Whether an answer is right by a truth; here by the winner.
        least_margin: Lead over the runner-up that a winner needs, as a share of N, in [0, 1].

    Returns:
        (G,) rewards 1.0 or 0.0, higher is better; and the vote of the voters.
    """
    classes = group(voters)
    vote = majority_vote(classes, least_margin)
    if vote.winner is None:
        return [0.0] * len(answers), vote
    winner = voters[classes.index(vote.winner)] or ""
    return frozen_majority_rewards(answers, winner, equal), vote


def co_rewarding(
    group: Grouping,
    equal: Equal,
    ask: Ask,
    *,
    least_margin: float = 0.0,
    rewritten: bool = False,
) -> WeakReward:
    """Make the Co-rewarding reward. The policy or the teacher gives the answers that vote.

    Args:
        group: Puts the voters' answers into classes.
        equal: Whether an answer is right by a truth; here by the winner.
        ask: Asks the policy if `rewritten` is set, else the teacher.
        least_margin: See `co_rewarding_rewards`.
        rewritten: Ask the `rewrite` of each row in place of its prompt. The reward raises DataError
            for a row without a rewrite.
    """

    def question(each: WeakGroup) -> tuple[str, Prompt]:
        if not rewritten:
            return each.question_id, each.prompt
        if each.rewrite is None:
            raise DataError(
                f"training row {each.question_id!r}: weak.reward is co_rewarding_rewrite but the "
                f"row has no rewrite. Put the rewritten question there"
            )
        return each.question_id, each.rewrite

    def reward(step: int, groups: Sequence[WeakGroup]) -> list[WeakResult]:
        sampled = ask(step, [question(each) for each in groups])
        results = []
        for each, voters in zip(groups, sampled, strict=True):
            rewards, vote = co_rewarding_rewards(
                each.answers, voters.answers, group, equal, least_margin=least_margin
            )
            results.append(WeakResult(rewards, vote, len(voters.answers), voters.num_tokens))
        return results

    return reward


def _rewrite(tools: Tools) -> WeakReward:
    return co_rewarding(
        tools.group,
        tools.equal,
        _counted(tools.ask, tools.num_votes),
        least_margin=tools.least_margin,
        rewritten=True,
    )


def _teacher(tools: Tools) -> WeakReward:
    ask = _counted(tools.ask_teacher, tools.num_votes)
    return co_rewarding(tools.group, tools.equal, ask, least_margin=tools.least_margin)


def _counted(ask: AskMany, count: int) -> Ask:
    return lambda step, questions: ask(step, questions, count)


CO_REWARDING_REWRITE = Reward(
    "co_rewarding_rewrite",
    "a vote on the question in other words",
    needs="rewrite",
    votes="others",
    make=_rewrite,
)
CO_REWARDING_TEACHER = Reward(
    "co_rewarding_teacher",
    "a vote of the slow teacher",
    needs="teacher",
    votes="others",
    make=_teacher,
)

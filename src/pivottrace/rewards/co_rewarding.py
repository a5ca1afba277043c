"""Co-rewarding: a vote among answers that come from somewhere else than the group it judges.

Source: Zhang et al. 2025 (*Co-rewarding: Stable Self-supervised RL*, arXiv 2508.00410). Variant I:
answers to the same question in other words vote for the original, and the other way round. Variant
II: the answers of a slow teacher, a moving average of the policy, vote. Both are one rule here; who
the voters are is the caller's business. Deviations: answers are compared by equivalence, not as
text; a tie abstains, where the authors' code takes the first; a margin can be asked for.
"""

from collections.abc import Callable, Sequence

from pivottrace.errors import DataError
from pivottrace.rewards.frozen_majority import frozen_majority_rewards
from pivottrace.rewards.weak import (
    Ask,
    AskMany,
    Equal,
    Prompt,
    Reward,
    Tools,
    WeakGroup,
    WeakResult,
    WeakReward,
)
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
        answers: (G,) extracted answers of the group that is trained on; None without an answer.
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


def co_rewarding(
    equal: Equal,
    ask: Ask,
    *,
    least_margin: float = 0.0,
    rewritten: bool = False,
) -> WeakReward:
    """Co-rewarding: answers to the rewritten question vote, or a teacher's to the question itself.

    Args:
        equal: Whether two answers are the same.
        ask: Asks the policy (where `rewritten`) or the teacher.
        least_margin: See `co_rewarding_rewards`.
        rewritten: Ask the rows' `rewrite`; DataError where a row has none.
    """

    def question(group: WeakGroup) -> tuple[str, Prompt]:
        if not rewritten:
            return group.question_id, group.prompt
        if group.rewrite is None:
            raise DataError(
                f"training row {group.question_id!r}: weak.reward is co_rewarding_rewrite but the "
                f"row has no rewrite; put the question in other words there"
            )
        return group.question_id, group.rewrite

    def reward(step: int, groups: Sequence[WeakGroup]) -> list[WeakResult]:
        sampled = ask(step, [question(group) for group in groups])
        results = []
        for group, voters in zip(groups, sampled, strict=True):
            rewards, vote = co_rewarding_rewards(
                group.answers, voters.answers, equal, least_margin=least_margin
            )
            results.append(WeakResult(rewards, vote, len(voters.answers), voters.num_tokens))
        return results

    return reward


def _rewrite(tools: Tools) -> WeakReward:
    return co_rewarding(
        tools.equal,
        _counted(tools.ask, tools.num_votes),
        least_margin=tools.least_margin,
        rewritten=True,
    )


def _teacher(tools: Tools) -> WeakReward:
    ask = _counted(tools.ask_teacher, tools.num_votes)
    return co_rewarding(tools.equal, ask, least_margin=tools.least_margin)


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

"""Rewards of a batch's weak groups: what each needs beyond its own answers is asked for at once.

A reward itself is a pure function of one group, in the file of its name. Here it meets the live
model, as callables that take a whole batch: further answers, or statistics of the tokens.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pivottrace.errors import DataError
from pivottrace.rewards.co_rewarding import co_rewarding_rewards
from pivottrace.rewards.frozen_majority import frozen_majority_rewards
from pivottrace.rewards.majority import majority_rewards
from pivottrace.rewards.token_statistics import TokenStatistics
from pivottrace.verifier.answers import Vote

Prompt = str | list[dict[str, str]]


@dataclass(frozen=True)
class WeakGroup:
    """One question's completions, to be rewarded without a label.

    Attributes:
        question_id: the question's.
        answers: (G,) extracted; None where a completion gave none.
        prompt: as TRL has it: chat messages, or plain text for a model without a chat template.
        completion_ids: (G,) token ids of each completion.
        pseudo_label: the stored vote, where the rows carry one.
        rewrite: the same question in other words, as it is put to the model.
    """

    question_id: str
    answers: Sequence[str | None]
    prompt: Prompt = ""
    completion_ids: Sequence[Sequence[int]] = ()
    pseudo_label: str | None = None
    rewrite: Prompt | None = None


@dataclass(frozen=True)
class WeakResult:
    """A group's rewards (G,), the vote behind them if one was taken, and what was sampled for it.

    Attributes:
        rewards: (G,).
        vote: None where there was none.
        extra_rollouts: completions sampled in addition, which are not trained on.
        extra_tokens: their tokens.
    """

    rewards: list[float]
    vote: Vote | None = None
    extra_rollouts: int = 0
    extra_tokens: int = 0


@dataclass(frozen=True)
class Sampled:
    """Further answers to one question (None where a completion gave none), and their tokens."""

    answers: list[str | None]
    num_tokens: int = 0


WeakReward = Callable[[int, Sequence[WeakGroup]], list[WeakResult]]
"""(step, groups of a batch) to a result a group."""
Equal = Callable[[str, str], bool]
Ask = Callable[[int, Sequence[tuple[str, Prompt]]], list[Sampled]]
"""(step, (question_id, prompt) of Q questions) to Q samples; the same again for the same step."""
ReadTokens = Callable[[Sequence[tuple[Prompt, Sequence[int]]]], list[TokenStatistics]]
"""N (prompt, completion) pairs to N statistics, by the model as it is."""


def live_majority(
    equal: Equal, *, least_margin: float = 0.0, ask_more: Ask | None = None
) -> WeakReward:
    """Vote anew in each step; with `ask_more`, further answers vote too. See `majority_rewards`."""

    def reward(step: int, groups: Sequence[WeakGroup]) -> list[WeakResult]:
        more = [Sampled([])] * len(groups)
        if ask_more is not None:
            more = ask_more(step, [(group.question_id, group.prompt) for group in groups])
        results = []
        for group, extra in zip(groups, more, strict=True):
            rewards, vote = majority_rewards(
                group.answers, equal, extra=extra.answers, least_margin=least_margin
            )
            results.append(WeakResult(rewards, vote, len(extra.answers), extra.num_tokens))
        return results

    return reward


def frozen_majority(equal: Equal) -> WeakReward:
    """Compare with the stored vote. Raises DataError where a row carries none."""

    def reward(step: int, groups: Sequence[WeakGroup]) -> list[WeakResult]:
        results = []
        for group in groups:
            if group.pseudo_label is None:
                raise DataError(
                    f"training row {group.question_id!r}: weak.reward is frozen_majority but the "
                    f"row has no pseudo_label; put the stored vote there, or choose majority"
                )
            rewards = frozen_majority_rewards(group.answers, group.pseudo_label, equal)
            results.append(WeakResult(rewards))
        return results

    return reward


def confidence(
    rewards_of: Callable[[Sequence[TokenStatistics]], list[float]], read_tokens: ReadTokens
) -> WeakReward:
    """Reward by what the model's distributions say: entropy, self-certainty, probability.

    Args:
        rewards_of: One group's statistics to its rewards, such as `self_certainty_rewards`.
        read_tokens: Reads them for a whole batch at once.
    """

    def reward(step: int, groups: Sequence[WeakGroup]) -> list[WeakResult]:
        pairs = [(group.prompt, ids) for group in groups for ids in group.completion_ids]
        read = iter(read_tokens(pairs))
        return [WeakResult(rewards_of([next(read) for _ in g.completion_ids])) for g in groups]

    return reward


def others_vote(
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

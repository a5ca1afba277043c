"""Every reward on groups worked out by hand: ties, empties, all-equal and one-sample groups."""

from fractions import Fraction
from math import exp, log

import numpy as np
import pytest

from pivottrace.errors import DataError, ModelError
from pivottrace.rewards.co_rewarding import co_rewarding, co_rewarding_rewards
from pivottrace.rewards.entropy import sequence_entropy_rewards, token_entropy_rewards
from pivottrace.rewards.frozen_majority import frozen_majority, frozen_majority_rewards
from pivottrace.rewards.majority import majority, majority_rewards
from pivottrace.rewards.self_certainty import self_certainty_rewards
from pivottrace.rewards.sequence_confidence import sequence_confidence_rewards
from pivottrace.rewards.token_statistics import TokenStatistics
from pivottrace.rewards.verified import verified_rewards
from pivottrace.rewards.weak import Sampled, WeakGroup
from pivottrace.verifier.answers import group_equivalent


def equal(a, b):
    return Fraction(a) == Fraction(b)


def group(answers):
    return group_equivalent(answers, equal)


def check(answers, truths):
    return [a is not None and equal(a, t) for a, t in zip(answers, truths, strict=True)]


def advantages(rewards):
    """As GRPO normalises a group: less its mean, over its standard deviation."""
    values = np.asarray(rewards)
    spread = values.std(ddof=1) if len(values) > 1 else 0.0
    return (values - values.mean()) / (spread + 1e-4)


# Votes ----------------------------------------------------------------------------------------

VERIFIED = [
    (["0.5", "1/2", "2", None], "1/2", [1, 1, 0, 0]),
    (["7", "7", "7"], "7", [1, 1, 1]),
    ([None, None], "7", [0, 0]),
    (["7"], "7", [1]),
]


@pytest.mark.parametrize(("answers", "truth", "rewards"), VERIFIED)
def test_verified(answers, truth, rewards):
    assert verified_rewards(answers, truth, check) == rewards


# Trained answers, further ones, least margin; rewards, share, margin, reason.
MAJORITY = [
    (["4", "4", "5"], [], 0, [1, 1, 0], 2 / 3, 1 / 3, "ok"),
    # Further votes overturn the group's own majority, and nobody but the trained is rewarded.
    (["4", "4", "5"], ["5", "10/2", None], 0, [0, 0, 1], 3 / 6, 1 / 6, "ok"),
    (["4", "4", "5"], ["5"], 0, [0, 0, 0], 2 / 4, 0, "tie"),
    (["4", "4", "5"], ["6", "6", "6"], 0, [0, 0, 0], 3 / 6, 1 / 6, "ok"),  # a winner none gives
    ([None, ""], ["3"], 0, [0, 0], 1 / 3, 1 / 3, "ok"),
    ([None, " "], [None], 0, [0, 0], 0, 0, "empty"),
    # The lead is 1 of 4: enough for 1/4, not for more.
    (["4", "4", "5", "6"], [], 0.25, [1, 1, 0, 0], 2 / 4, 1 / 4, "ok"),
    (["4", "4", "5", "6"], [], 0.26, [0, 0, 0, 0], 2 / 4, 1 / 4, "margin"),
    (["4", "4"], [], 1.0, [1, 1], 1, 1, "ok"),
    (["3"], [], 0, [1], 1, 1, "ok"),
    (["3"], ["2", "2"], 0, [0], 2 / 3, 1 / 3, "ok"),
    ([None], [], 0, [0], 0, 0, "empty"),
]


@pytest.mark.parametrize(
    ("answers", "extra", "margin", "rewards", "share", "lead", "reason"), MAJORITY
)
def test_majority(answers, extra, margin, rewards, share, lead, reason):
    found, vote = majority_rewards(answers, group, extra=extra, least_margin=margin)
    assert found == rewards
    assert (vote.share, vote.margin, vote.reason) == (share, lead, reason)
    assert (vote.winner is None) == (reason != "ok")


FROZEN = [
    (["1/2", "0.5", "2", None, ""], "0.50", [1, 1, 0, 0, 0]),
    (["4", "4", "5"], "9", [0, 0, 0]),  # a label that nobody gives
    (["4", "4"], "4", [1, 1]),
    ([None, " "], "4", [0, 0]),
    (["5"], "5", [1]),
]


@pytest.mark.parametrize(("answers", "label", "rewards"), FROZEN)
def test_frozen_majority(answers, label, rewards):
    assert frozen_majority_rewards(answers, label, equal) == rewards


# Answers, voters, least margin; rewards, reason.
OTHERS = [
    (["4", "4", "5"], ["5", "5", "4"], 0, [0, 0, 1], "ok"),  # against the group's own majority
    (["8/2", None, "5"], ["4.0", None, None], 0, [1, 0, 0], "ok"),
    (["4", "4"], ["4", "5"], 0, [0, 0], "tie"),
    (["4", "4"], ["4", "4", "5"], 0.4, [0, 0], "margin"),
    (["4", "4"], [None, ""], 0, [0, 0], "empty"),
    (["4", "4"], [], 0, [0, 0], "empty"),
    (["4", "4"], ["4"], 0, [1, 1], "ok"),
    (["4"], ["7"], 0, [0], "ok"),
]


@pytest.mark.parametrize(("answers", "voters", "margin", "rewards", "reason"), OTHERS)
def test_co_rewarding(answers, voters, margin, rewards, reason):
    found, vote = co_rewarding_rewards(answers, voters, group, equal, least_margin=margin)
    assert (found, vote.reason) == (rewards, reason)


def test_a_question_and_its_rewriting_judge_each_other():
    """The original says 4 and the rewriting 5: each is rewarded where it says what the other does.

    A group that is sure of a wrong answer does not reward itself for it.
    """
    original, rewritten = ["4", "4", "5"], ["5", "5", "4"]
    assert co_rewarding_rewards(original, rewritten, group, equal)[0] == [0, 0, 1]
    assert co_rewarding_rewards(rewritten, original, group, equal)[0] == [0, 0, 1]


# Confidence -----------------------------------------------------------------------------------


def completion(entropy=(), probabilities=(), self_certainty=None):
    tokens = len(entropy) or len(probabilities) or len(self_certainty or ())
    return TokenStatistics(
        np.array(entropy if len(entropy) else [0.0] * tokens),
        np.log(probabilities if len(probabilities) else [1.0] * tokens),
        np.array(self_certainty or [0.0] * tokens),
    )


def test_token_entropy_is_minus_the_sum_and_an_empty_completion_is_the_worst():
    group = [completion([0.5, 0.25]), completion([1.0]), completion(), completion([0.0, 0.0, 0.0])]
    assert token_entropy_rewards(group) == [-0.75, -1.0, -1.0, 0.0]


def test_sequence_entropy_is_the_log_probability():
    group = [completion(probabilities=p) for p in ([1 / 2, 1 / 4], [1 / 5], [])]
    assert sequence_entropy_rewards(group) == pytest.approx([log(1 / 8), log(1 / 5), log(1 / 8)])


def test_self_certainty_is_the_mean_divergence_from_uniform():
    # Two tokens of probability 3/4 and 1/4: -ln 2 - (ln 3/4 + ln 1/4) / 2 = ln(2 / sqrt 3).
    certain = log(2 / 3**0.5)
    group = [completion(self_certainty=c) for c in ([certain, 0.0], [certain], [0.0, 0.0, 0.0])]
    assert certain == pytest.approx(-log(2) - (log(3 / 4) + log(1 / 4)) / 2)
    assert self_certainty_rewards(group) == pytest.approx([certain / 2, certain, 0.0])


def test_sequence_confidence_is_relative_to_the_group():
    group = [completion(probabilities=p) for p in ([1 / 2, 1 / 4], [1 / 4], [1 / 2], [])]
    assert sequence_confidence_rewards(group) == pytest.approx([1 / 4, 1 / 2, 1.0, 1 / 4])
    # Probabilities of exp(-5000) and exp(-5001) are 0 in floating point; their ratio is not.
    long = [
        TokenStatistics(np.ones(2), np.array([-2500.0, last]), np.ones(2))
        for last in (-2500.0, -2501.0)
    ]
    assert sequence_confidence_rewards(long) == pytest.approx([1.0, exp(-1)])
    impossible = TokenStatistics(np.ones(1), np.array([-np.inf]), np.ones(1))
    assert sequence_confidence_rewards([impossible, impossible]) == [0.0, 0.0]


CONFIDENCE = [
    token_entropy_rewards,
    sequence_entropy_rewards,
    self_certainty_rewards,
    sequence_confidence_rewards,
]


@pytest.mark.parametrize("rewards_of", CONFIDENCE)
def test_confidence_in_groups_of_equals_of_one_of_empties_and_of_none(rewards_of):
    one = completion([0.5, 0.2], [0.5, 0.9], [1.0, 2.0])
    assert advantages(rewards_of([one] * 4)).tolist() == [0.0] * 4
    assert advantages(rewards_of([one])).tolist() == [0.0]
    assert advantages(rewards_of([completion()] * 3)).tolist() == [0.0] * 3
    assert rewards_of([]) == []


@pytest.mark.parametrize("rewards_of", CONFIDENCE)
def test_logits_that_are_not_finite_are_no_reward(rewards_of):
    broken = TokenStatistics(*[np.array([np.nan])] * 3)
    with pytest.raises(ModelError, match="not finite"):
        rewards_of([completion([0.5], [0.5], [1.0]), broken])


# No gradient ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rewards",
    [
        verified_rewards(["7", "7", "7"], "7", check),
        verified_rewards(["1", None, "2"], "7", check),
        majority_rewards(["7", "7", "7"], group)[0],
        majority_rewards(["7", "8", None], group)[0],
        majority_rewards([None, None], group)[0],
        majority_rewards(["7"], group)[0],
        frozen_majority_rewards(["7", "8"], "9", equal),
        co_rewarding_rewards(["7", "8"], ["9"], group, equal)[0],
    ],
)
def test_groups_that_say_nothing_have_no_advantage(rewards):
    assert advantages(rewards).tolist() == [0.0] * len(rewards)


# A batch of weak groups -------------------------------------------------------------------------


def test_the_model_is_asked_once_for_all_groups_of_a_batch():
    asked = []

    def ask(step, questions):
        asked.append((step, questions))
        return [Sampled(["5", "5"], 11), Sampled(["6", None], 7)]

    groups = [
        WeakGroup("a", ["4", "5"], prompt="A?", rewrite="a?"),
        WeakGroup("b", ["6", "7"], prompt="B?", rewrite="b?"),
    ]
    first, second = majority(group, ask_more=ask)(3, groups)
    assert (first.rewards, second.rewards) == ([0, 1], [1, 0])
    assert (first.extra_rollouts, first.extra_tokens, first.vote.share) == (2, 11, 3 / 4)
    teacher = co_rewarding(group, equal, ask)(4, groups)
    assert [result.rewards for result in teacher] == [[0, 1], [1, 0]]
    co_rewarding(group, equal, ask, rewritten=True)(5, groups)
    own, rewritten = [("a", "A?"), ("b", "B?")], [("a", "a?"), ("b", "b?")]
    assert asked == [(3, own), (4, own), (5, rewritten)]


def test_rows_without_what_their_reward_needs_are_named():
    with pytest.raises(DataError, match=r"'q'.*no pseudo_label"):
        frozen_majority(equal)(0, [WeakGroup("q", ["4"])])
    with pytest.raises(DataError, match=r"'q'.*no rewrite"):
        co_rewarding(group, equal, lambda step, questions: [], rewritten=True)(
            0, [WeakGroup("q", ["4"])]
        )

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pivottrace.errors import ConfigError, DataError
from pivottrace.rewards.majority import majority_rewards
from pivottrace.rewards.mix import check_group_layout, completion_text, mixed_reward
from pivottrace.rewards.verified import verified_rewards
from pivottrace.verifier.answers import group_equivalent


def equal(a, b):
    return Fraction(a) == Fraction(b)


def group(answers):
    return group_equivalent(answers, equal)


def check(answers, truths):
    return [a is not None and equal(a, t) for a, t in zip(answers, truths, strict=True)]


# Hand-worked groups: answers, rewards, share of the leading class, reason.
VOTES = [
    (["4", "4", "5", "4"], [1, 1, 0, 1], 3 / 4, "ok"),
    (["1/2", "0.5", "2", None], [1, 1, 0, 0], 2 / 4, "ok"),  # equivalent, not equal as text
    (["7", "7", "7", "7"], [1, 1, 1, 1], 1.0, "ok"),
    (["4", "4", "5", "5"], [0, 0, 0, 0], 2 / 4, "tie"),
    (["1", "2", "3", "4"], [0, 0, 0, 0], 1 / 4, "tie"),
    ([None, None, None, "9"], [0, 0, 0, 1], 1 / 4, "ok"),  # the empty answer never wins
    ([None, "", " ", None], [0, 0, 0, 0], 0.0, "empty"),
    (["3"], [1], 1.0, "ok"),
]


@pytest.mark.parametrize(("answers", "rewards", "share", "reason"), VOTES)
def test_majority_matches_hand_worked_groups(answers, rewards, share, reason):
    given_rewards, vote = majority_rewards(answers, group)
    assert given_rewards == rewards
    assert (vote.share, vote.reason) == (share, reason)


@given(st.lists(st.sampled_from(["1", "2", "3", None]), min_size=1, max_size=12))
def test_majority_does_not_depend_on_order(answers):
    """Against counting: the winner is the strictly most frequent answer."""
    counts = sorted((answers.count(a) for a in {"1", "2", "3"}), reverse=True)
    winner = None
    if counts[0] > counts[1]:
        winner = next(a for a in ("1", "2", "3") if answers.count(a) == counts[0])
    expected = [float(winner is not None and a == winner) for a in answers]
    assert majority_rewards(answers, group)[0] == expected
    backwards = majority_rewards(answers[::-1], group)[0]
    assert backwards == expected[::-1]


def test_verified_rewards_are_the_checks_verdicts():
    assert verified_rewards(["0.5", "1/2", "2", None], "1/2", check) == [1.0, 1.0, 0.0, 0.0]


def batch(groups, num_generations=4):
    """Columns as TRL gives them, from (id, route, label, answers) a group."""
    columns = {"question_id": [], "route": [], "label": [], "completions": []}
    for question_id, route, label, answers in groups:
        columns["question_id"] += [question_id] * num_generations
        columns["route"] += [route] * num_generations
        columns["label"] += [label] * num_generations
        columns["completions"] += [[{"role": "assistant", "content": a}] for a in answers]
    return columns


def make(num_generations=4):
    return mixed_reward(
        extract=lambda text: text or None,
        check=check,
        group=group,
        num_generations=num_generations,
    )


def test_the_mix_rewards_each_route_its_own_way_and_logs_it():
    metrics = {}
    rewards = make()(
        **batch(
            [
                # A wrong majority on an annotated row: the label decides.
                ("a", "annotate", "2", ["1", "1", "1", "2"]),
                ("b", "weak", None, ["1", "1", "1", "2"]),
                ("c", "weak", None, ["1", "1", "2", "2"]),
                ("d", "weak", None, ["", "", "5", "6/2"]),
            ]
        ),
        prompts=["?"] * 16,
        completion_ids=[[1]] * 16,
        weight=[1.0] * 16,
        trainer_state=None,
        log_metric=metrics.__setitem__,
    )
    assert rewards == [0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    assert all(isinstance(reward, float) for reward in rewards)
    assert metrics == {
        "reward/annotate": 1 / 4,
        "reward/weak": 3 / 12,
        "vote_share": pytest.approx((3 / 4 + 2 / 4 + 1 / 4) / 3),
        "vote_margin": pytest.approx((2 / 4 + 0 + 0) / 3),
        "vote_abstained": 2 / 3,
        "answered": 14 / 16,
        "answered/annotate": 1.0,
        "answered/weak": 10 / 12,
        "equal_rewards/annotate": 0.0,
        "equal_rewards/weak": 2 / 3,
        "tokens/annotate": 1.0,
        "tokens/weak": 1.0,
    }


def test_a_route_that_is_not_in_the_batch_logs_nothing():
    metrics = {}
    make()(**batch([("b", "weak", None, "1112")]), log_metric=metrics.__setitem__)
    assert "reward/annotate" not in metrics and "reward/weak" in metrics


def test_interleaved_groups_are_refused():
    columns = batch([("a", "weak", None, "1111"), ("b", "weak", None, "2222")])
    columns["question_id"] = ["a", "b"] * 4
    with pytest.raises(DataError, match=r"several questions \(a, b\).*next to each other"):
        make()(**columns)
    half = {name: values[:6] for name, values in columns.items()}
    with pytest.raises(DataError, match="6 completions are not whole groups of 4"):
        make()(**half)


@pytest.mark.parametrize(
    ("route", "label", "message"),
    [
        ("annotate", None, "'q'.*no label"),
        ("weak", "4", "'q'.*weak row carries a label"),
        ("defer", None, "'q'.*only annotate and weak"),
    ],
)
def test_rows_that_must_not_be_trained_on_are_refused(route, label, message):
    with pytest.raises(DataError, match=message):
        make()(**batch([("q", route, label, "1111")]))


def test_layouts_that_cut_a_group_on_one_process_are_refused():
    check_group_layout(4, 2, 8)
    check_group_layout(16, 1, 8)
    with pytest.raises(ConfigError, match=r"12 completions at once.*num_generations = 8"):
        check_group_layout(12, 1, 8)


def test_text_of_plain_and_conversational_completions():
    assert completion_text("x") == "x"
    assert completion_text([{"role": "assistant", "content": "x"}]) == "x"

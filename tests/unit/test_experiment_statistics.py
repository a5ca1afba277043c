"""Means over seeds, paired differences and speed-ups, by hand-worked numbers."""

import numpy as np
import pytest

from pivottrace.errors import ConfigError, DataError
from pivottrace.stats.accuracy import QuestionCounts, paired_difference
from pivottrace.stats.arms import (
    Curve,
    SeedValues,
    first_reach,
    mean_over_seeds,
    paired_means,
    smooth,
    speed_up,
    target_of,
    without_one_seed,
)

T1, T2, T3 = 12.7062, 4.30265, 3.18245  # Student's t, 97.5 %, with 1, 2 and 3 degrees of freedom


def values(names, numbers):
    return SeedValues(tuple(names), np.array(numbers, dtype=float))


def test_seeds_with_questions_of_their_own_vary_as_their_means_do():
    # Means 0.2 and 0.4: variance of their mean 0.02 / 2 = 0.1 squared.
    found = mean_over_seeds([values("ab", [0.1, 0.3]), values("cd", [0.4, 0.4])])
    assert found.mean == pytest.approx(0.3)
    assert found.high - found.mean == pytest.approx(T1 * 0.1, rel=1e-4)
    assert found.mean - found.low == pytest.approx(T1 * 0.1, rel=1e-4)


def test_seeds_that_agree_by_chance_are_no_surer_than_their_questions():
    # Both means are 0.3. Weighted residuals are -0.05, 0.05, -0.1, 0.1 and
    # 4/3 (2 x 0.05^2 + 2 x 0.1^2) = 1/30; four questions leave three degrees of freedom.
    found = mean_over_seeds([values("ab", [0.1, 0.5]), values("cd", [-0.1, 0.7])])
    assert found.high - found.mean == pytest.approx(T3 * (1 / 30) ** 0.5, rel=1e-4)


def test_seeds_that_share_their_questions_are_clustered_by_question_too():
    # Weighted residuals a: -0.075, -0.025; b: 0.025, 0.075. By seed 2 x 2 x 0.05^2 = 0.01, by
    # question 2 x 2 x 0.1^2 = 0.04, by both 4/3 x 0.0125; two ways 0.01 + 0.04 - 1/60 = 1/30. The
    # questions alone give more: 0.2 with one degree of freedom.
    found = mean_over_seeds([values("ab", [0.0, 0.4]), values("ba", [0.6, 0.2])])
    assert found.mean == pytest.approx(0.3)
    assert found.high - found.mean == pytest.approx(T1 * 0.2, rel=1e-4)
    # Questions whose means over seeds are equal: what is left is the seeds'.
    found = mean_over_seeds([values("ab", [0.1, 0.3]), values("ab", [0.5, 0.3])])
    assert found.high - found.mean == pytest.approx(T1 * 0.1, rel=1e-4)


def test_alike_questions_of_seeds_that_share_none_leave_the_spread_of_the_means():
    # Two questions a cluster in each seed; means 0.2 and 0.4 as in the first test.
    found = mean_over_seeds([values("aa", [0.1, 0.3]), values("cc", [0.4, 0.4])])
    assert found.high - found.mean == pytest.approx(T1 * 0.1, rel=1e-4)


def test_one_seed_has_its_questions_interval():
    found = mean_over_seeds([values("abc", [0.0, 0.5, 1.0])])
    assert found.high - found.mean == pytest.approx(T2 * 0.5 / 3**0.5, rel=1e-4)


def test_arms_that_do_not_differ_are_not_certain():
    counts = QuestionCounts(("a", "b"), np.array([1.0, 4.0]), np.full(2, 4.0))
    gap = mean_over_seeds([values("ab", paired_means(counts, counts))])
    expected = paired_difference(counts, counts)
    assert (gap.mean, gap.low, gap.high) == pytest.approx(
        (expected.mean, expected.low, expected.high)
    )
    assert gap.low < -0.5


def test_differences_pair_questions_whatever_their_order():
    arm = QuestionCounts(("a", "b"), np.array([4.0, 2.0]), np.full(2, 4.0))
    reference = QuestionCounts(("b", "a"), np.array([1.0, 4.0]), np.full(2, 4.0))
    assert paired_means(arm, reference).tolist() == [0.0, 0.25]
    other = QuestionCounts(("a", "c"), np.array([4.0, 2.0]), np.full(2, 4.0))
    with pytest.raises(DataError, match="different held-out questions"):
        paired_means(arm, other)
    with pytest.raises(DataError, match="no seed"):
        mean_over_seeds([])
    with pytest.raises(ConfigError, match="confidence 1"):
        mean_over_seeds([values("ab", [0.0, 0.25])], level=1)


def test_smoothing_does_not_lag():
    assert smooth([1, 2, 6, 4, 5]).tolist() == [1, 3, 4, 5, 5]
    assert smooth([1, 2, 6, 4, 5], window=5).tolist() == pytest.approx([1, 3, 3.6, 5, 5])
    assert smooth([3, 1], window=1).tolist() == [3, 1]
    with pytest.raises(ConfigError, match="no middle"):
        smooth([1, 2], window=2)


def test_where_a_curve_first_reaches_a_target():
    assert first_reach([0, 6, 12], [0.6, 0.7, 0.8], 0.75) == pytest.approx(9)
    assert first_reach([0, 6, 12], [0.6, 0.8, 0.7], 0.7) == pytest.approx(3)
    assert first_reach([0, 6], [0.9, 0.8], 0.7) == 0
    assert np.isnan(first_reach([0, 6], [0.5, 0.6], 0.7))


def curve(accuracy, first_tokens=0):
    steps = np.array([0.0, 10.0, 20.0])
    return Curve(steps, np.array(accuracy), first_tokens + 10 * steps)


REFERENCE = {0: curve([0.6, 0.7, 0.78]), 1: curve([0.6, 0.7, 0.82])}


def test_the_speed_up_in_steps_and_in_tokens():
    # Finals 0.78 and 0.82: mean 0.80, standard error 0.02. The mean curve is 0.6, 0.7, 0.8.
    assert target_of(list(REFERENCE.values())) == pytest.approx(0.78)
    # The arm's, 0.6, 0.84, 0.84, is 0.6, 0.76, 0.84 smoothed: 0.78 a quarter of the way from
    # step 10 to 20; 50 tokens came first.
    arm = {seed: curve([0.6, 0.84, 0.84], 50) for seed in (0, 1, 7)}
    found = speed_up(arm, REFERENCE)
    assert (found.target, found.reference_steps, found.steps) == pytest.approx((0.78, 18, 12.5))
    assert found.by_steps == pytest.approx(18 / 12.5)
    assert found.by_tokens == pytest.approx(180 / 175)
    assert without_one_seed(arm, REFERENCE) == []  # two common seeds say nothing
    # A standard error lower, and the final mean itself, which the reference has at its end.
    assert speed_up(arm, REFERENCE, 2.0).reference_steps == pytest.approx(16)
    assert speed_up(arm, REFERENCE, 0.0).reference_steps == pytest.approx(20)


def test_the_reference_reaches_its_own_final_mean_despite_rounding():
    finals = (0.1, 0.7, 0.4, 0.3, 0.6, 0.2)
    reference = {seed: curve([0.0, 0.0, final]) for seed, final in enumerate(finals)}
    assert speed_up(reference, reference, 0.0).steps == pytest.approx(20)


def test_an_arm_that_does_not_get_there_has_no_speed_up():
    slow = {0: curve([0.6, 0.6, 0.6])}
    found = speed_up(slow, REFERENCE)  # on the common seed: target 0.78, its own final
    assert found.target == pytest.approx(0.78) and found.reference_steps == pytest.approx(20)
    assert np.isnan(found.steps) and np.isnan(found.by_steps)
    with pytest.raises(DataError, match="no finished seed in common"):
        speed_up({5: curve([0.6, 0.7, 0.8])}, REFERENCE)


def test_each_seed_is_left_out_of_arm_and_reference_alike():
    reference = REFERENCE | {2: curve([0.6, 0.7, 0.80])}
    arm = {seed: curve([0.6, 0.9, 0.9]) for seed in reference}
    found = without_one_seed(arm, reference)
    # Without seed 1 finals are 0.78 and 0.80: mean 0.79 less 0.01.
    assert [round(f.target, 6) for f in found] == [0.80, 0.78, 0.78]

import itertools

import numpy as np
import pytest
from scipy.stats import beta

from pivottrace.errors import ConfigError, DataError
from pivottrace.stats.accuracy import (
    Interval,
    QuestionCounts,
    average_accuracy,
    count_by_question,
    mean_over_sets,
    paired_difference,
    pass_at_k,
)


def counts(right, samples=4, ids=None):
    right = np.asarray(right, dtype=float)
    ids = tuple(f"q{i}" for i in range(right.size)) if ids is None else tuple(ids)
    return QuestionCounts(ids, right, np.full(right.size, float(samples)))


def test_samples_are_gathered_by_question_in_any_order():
    found = count_by_question(["b", "a", "b", "b", "a"], [True, False, True, False, True])
    assert found.question_ids == ("b", "a")
    assert found.num_correct.tolist() == [2, 1] and found.num_samples.tolist() == [3, 2]
    assert found.means.tolist() == pytest.approx([2 / 3, 1 / 2])


def test_pass_at_k_counts_every_subset():
    right, n = [0, 1, 3, 4, 6], 6
    for k in range(1, n + 1):
        shares = []
        for c in right:
            samples = [True] * c + [False] * (n - c)
            draws = list(itertools.combinations(samples, k))
            shares.append(sum(any(draw) for draw in draws) / len(draws))
        assert pass_at_k(counts(right, n), k) == pytest.approx(np.mean(shares))
    assert pass_at_k(counts(right, n), 1) == pytest.approx(np.mean(right) / n)
    with pytest.raises(DataError, match="pass@7 needs 1 <= k <= 6"):
        pass_at_k(counts(right, n), 7)


def test_interval_agrees_with_a_bootstrap_over_questions():
    rng = np.random.default_rng(0)
    right = rng.binomial(4, rng.beta(1.2, 0.8, size=400))  # questions differ: samples cluster
    found = average_accuracy(counts(right))
    means = right / 4
    draws = rng.choice(means, (4000, means.size)).mean(axis=1)
    low, high = np.quantile(draws, [0.025, 0.975])
    assert found.mean == pytest.approx(means.mean())
    assert found.low == pytest.approx(low, abs=0.004)
    assert found.high == pytest.approx(high, abs=0.004)
    # Counting samples as independent would be far too narrow here.
    naive = 2 * 1.96 * np.sqrt(found.mean * (1 - found.mean) / (4 * means.size))
    assert found.high - found.low > 1.4 * naive


@pytest.mark.parametrize(("right", "mean"), [(0, 0.0), (4, 1.0)])
def test_all_right_and_all_wrong_are_never_certain(right, mean):
    found = average_accuracy(counts([right] * 50))
    bound = 1 - 0.025 ** (1 / 50)  # exact, questions as trials: 0.071
    assert found.mean == mean
    assert (found.low, found.high) == pytest.approx((0, bound) if mean == 0 else (1 - bound, 1))


def test_questions_that_are_all_alike_count_as_their_samples():
    found = average_accuracy(counts([2] * 30))
    expected = beta.ppf(0.025, 60, 61), beta.ppf(0.975, 61, 60)  # 60 of 120
    assert (found.low, found.high) == pytest.approx(expected)


def test_coverage_of_both_intervals_is_near_95_percent():
    rng = np.random.default_rng(1)
    truth_before, truth_after, hits = [], [], []
    for _ in range(400):
        skill = rng.beta(2, 1, size=60)  # mean 2/3
        better = np.clip(skill + 0.1 * (skill < 0.9), 0, 1)
        before = counts(rng.binomial(4, skill))
        after = counts(rng.binomial(4, better))
        mean_change = 0.1 * 0.81  # P(skill < 0.9) = 0.9^2
        interval, change = average_accuracy(before), paired_difference(before, after)
        truth_before.append(interval.low <= 2 / 3 <= interval.high)
        truth_after.append(change.low <= mean_change <= change.high)
        hits.append(change.low > 0)
    assert np.mean(truth_before) > 0.92 and np.mean(truth_after) > 0.92
    assert np.mean(hits) > 0.5  # the paired interval is narrow enough to see it


def test_difference_is_paired_by_id_and_matches_the_textbook():
    before = counts([0, 1, 2, 3, 4, 2], ids="abcdef")
    after = counts([1, 2, 2, 4, 4, 1], ids="abcdef")
    changes = np.array([1, 1, 0, 1, 0, -1]) / 4
    half = 2.5705818366 * changes.std(ddof=1) / np.sqrt(6)  # Student's t, 5 degrees of freedom
    found = paired_difference(before, after)
    assert found.mean == pytest.approx(changes.mean())
    assert (found.low, found.high) == pytest.approx((changes.mean() - half, changes.mean() + half))
    order = [3, 0, 5, 1, 4, 2]
    shuffled = counts(after.num_correct[order], ids=[after.question_ids[i] for i in order])
    assert paired_difference(before, shuffled) == found
    assert paired_difference(after, before).mean == pytest.approx(-found.mean)


@pytest.mark.parametrize(
    ("before", "after", "interval"),
    [
        (2, 2, (-0.0711, 0.0711)),
        (0, 4, (1 - 2 * 0.0711, 1.0)),
        (4, 0, (-1.0, -1 + 2 * 0.0711)),
        (4, 4, (-0.0711, 0.0711)),
    ],
)
def test_differences_that_are_all_equal_are_never_certain(before, after, interval):
    found = paired_difference(counts([before] * 50), counts([after] * 50))
    assert found.mean == pytest.approx((after - before) / 4)
    assert (found.low, found.high) == pytest.approx(interval, abs=1e-4)


def test_one_question_is_enough_to_answer_and_says_little():
    found = average_accuracy(counts([2]))
    assert found.mean == 0.5 and found.low < 0.05 and found.high > 0.95
    change = paired_difference(counts([0]), counts([4]))
    assert change.mean == 1.0 and change.low < 0


def test_bad_input_is_refused_in_words():
    with pytest.raises(DataError, match="no sample"):
        count_by_question([], [])
    with pytest.raises(DataError, match="2 question ids for 1 verdicts"):
        count_by_question(["a", "b"], [True])
    with pytest.raises(DataError, match="different questions: 2 are in one only, such as 'a'"):
        paired_difference(counts([1], ids=["a"]), counts([1], ids=["b"]))
    with pytest.raises(ConfigError, match=r"confidence 95"):
        paired_difference(counts([1]), counts([1]), level=95)


def test_the_mean_over_sets_is_worked_by_hand():
    one = Interval(0.5, 0.4, 0.7)
    assert mean_over_sets([one]) is one
    found = mean_over_sets([one, Interval(0.9, 0.5, 1.0)])
    assert found.mean == pytest.approx(0.7)
    assert found.low == pytest.approx(0.7 - np.sqrt(0.1**2 + 0.4**2) / 2)
    assert found.high == pytest.approx(0.7 + np.sqrt(0.2**2 + 0.1**2) / 2)
    with pytest.raises(DataError, match="no set to average over"):
        mean_over_sets([])


def test_sets_weigh_the_same_whatever_their_size():
    small, large = counts([4] * 3), counts([0] * 300)
    found = mean_over_sets([average_accuracy(small), average_accuracy(large)])
    assert found.mean == 0.5 and found.low < 0.2  # three questions say little


def test_coverage_of_the_mean_over_sets_is_near_95_percent():
    rng = np.random.default_rng(2)
    sizes, k, hits, changes = (30, 40, 200), (8, 4, 2), [], []
    for _ in range(400):
        sets, differences = [], []
        for size, samples in zip(sizes, k, strict=True):
            skill = rng.beta(2, 1, size=size)  # mean 2/3
            before, after = (
                counts(rng.binomial(samples, skill), samples),
                counts(rng.binomial(samples, np.clip(skill + 0.05, 0, 1)), samples),
            )
            sets.append(average_accuracy(before))
            differences.append(paired_difference(before, after))
        whole = mean_over_sets(sets)
        hits.append(whole.low <= 2 / 3 <= whole.high)
        change = mean_over_sets(differences)
        # E[min(x + 0.05, 1) - x] for x of beta(2, 1): 0.05 - integral of (x - 0.95) 2x above 0.95.
        truth = 0.05 - (2 / 3 * (1 - 0.95**3) - 0.95 * (1 - 0.95**2))
        changes.append(change.low <= truth <= change.high)
    assert np.mean(hits) > 0.92 and np.mean(changes) > 0.92

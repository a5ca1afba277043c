"""Ranking metrics against scipy, by brute force and by hand; the bootstrap that they share."""

import itertools

import numpy as np
import pytest
from scipy import stats

from pivottrace.errors import ConfigError, DataError
from pivottrace.stats.ranking_metrics import (
    auroc,
    average_precision,
    partial_spearman,
    spearman,
    why_undefined,
)
from pivottrace.stats.resampling import percentile_interval, reflected_interval, resample_counts

NAN = float("nan")


@pytest.fixture(params=range(6))
def case(request):
    """Scores with many ties, wrong answers that they predict a little, correctness, resamples."""
    rng = np.random.default_rng(request.param)
    scores = rng.integers(0, 6, 40).astype(float)
    correctness = np.clip(np.round(8 - scores + rng.normal(0, 3, 40)) / 8, 0, 1)
    wrong = rng.random(40) > correctness
    counts = np.concatenate(list(resample_counts(40, 5, request.param)))
    return scores, wrong, correctness, counts


def drawn(values, counts):
    return np.repeat(np.asarray(values), counts.astype(int))


def test_auroc_is_the_share_of_pairs_in_order(case):
    scores, wrong, _, counts = case
    for value, row in zip(auroc(scores, wrong, counts), counts, strict=True):
        s, w = drawn(scores, row), drawn(wrong, row)
        pairs = [(a > b) + (a == b) / 2 for a, b in itertools.product(s[w], s[~w])]
        assert value == pytest.approx(np.mean(pairs), abs=1e-12)
        u = stats.mannwhitneyu(s[w], s[~w]).statistic
        assert value == pytest.approx(u / len(pairs), abs=1e-12)


def test_auroc_within_kinds_compares_no_two_kinds(case):
    scores, wrong, _, counts = case
    kinds = np.arange(40) % 3
    for value, row in zip(auroc(scores, wrong, counts, kinds), counts, strict=True):
        s, w, k = drawn(scores, row), drawn(wrong, row), drawn(kinds, row)
        both = [itertools.product(s[w & (k == kind)], s[~w & (k == kind)]) for kind in range(3)]
        pairs = [(a > b) + (a == b) / 2 for a, b in itertools.chain(*both)]
        assert value == pytest.approx(np.mean(pairs), abs=1e-12)
    only_kinds = np.where(kinds == 0, 1.0, 0.0)
    assert auroc(only_kinds, wrong, kinds=kinds)[0] == 0.5
    assert np.isnan(auroc(scores, kinds > 0, kinds=kinds)[0])  # each kind all right or all wrong


def test_average_precision_by_brute_force(case):
    scores, wrong, _, counts = case
    for value, row in zip(average_precision(scores, wrong, counts), counts, strict=True):
        s, w = drawn(scores, row), drawn(wrong, row)
        total, recall = 0.0, 0.0
        for threshold in sorted(set(s), reverse=True):
            kept = s >= threshold
            now = w[kept].sum() / w.sum()
            total, recall = total + (now - recall) * w[kept].mean(), now
        assert value == pytest.approx(total, abs=1e-12)


def test_spearman_is_scipys(case):
    scores, _, correctness, counts = case
    for value, row in zip(spearman(scores, correctness, counts), counts, strict=True):
        known = stats.spearmanr(drawn(scores, row), drawn(correctness, row)).statistic
        assert value == pytest.approx(known, abs=1e-12)


def test_partial_spearman_correlates_residuals_of_ranks(case):
    scores, wrong, correctness, counts = case
    controls = [scores + np.arange(40) % 7, wrong.astype(float)]
    for value, row in zip(
        partial_spearman(scores, correctness, controls, counts), counts, strict=True
    ):
        ranks = [stats.rankdata(drawn(c, row)) for c in (scores, correctness, *controls)]
        design = np.column_stack([np.ones(len(ranks[0])), *ranks[2:]])
        left = [y - design @ np.linalg.lstsq(design, y, rcond=None)[0] for y in ranks[:2]]
        assert value == pytest.approx(np.corrcoef(*left)[0, 1], abs=1e-9)


def test_partial_spearman_by_the_textbook_formula():
    x, y, z = [1.0, 2, 3, 4, 5], [2.0, 1, 4, 3, 5], [1.0, 3, 2, 5, 4]
    a, b, c = (stats.spearmanr(*pair).statistic for pair in ((x, y), (x, z), (y, z)))
    expected = (a - b * c) / np.sqrt((1 - b * b) * (1 - c * c))
    assert partial_spearman(x, y, [z])[0] == pytest.approx(expected, abs=1e-12)


def test_by_hand():
    scores, wrong = [3.0, 2.0, 2.0, 1.0], [True, True, False, False]
    # Pairs: 3>2, 3>1, 2=2 (half), 2>1.
    assert auroc(scores, wrong)[0] == 3.5 / 4
    # Recall 1/2 at precision 1, then 1/2 at precision 2/3.
    assert average_precision(scores, wrong)[0] == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_what_cannot_be_judged_is_not_a_number_and_has_a_reason():
    scores = [1.0, 2.0, 3.0]
    assert np.isnan(auroc(scores, [True] * 3)[0])
    assert np.isnan(auroc(scores, [False] * 3)[0])
    assert np.isnan(average_precision(scores, [False] * 3)[0])
    assert average_precision(scores, [True] * 3)[0] == 1
    assert why_undefined(scores, [True] * 3) == "every greedy answer is wrong"
    assert why_undefined(scores, [False] * 3) == "every greedy answer is right"
    assert why_undefined([NAN] * 3, [True, False, True]) == "no question has a score"
    assert why_undefined(scores, [True, False, True]) is None


def test_a_constant_score_is_chance_for_auroc_and_nothing_for_correlations():
    wrong, correctness = [True, False, True, False], [0.1, 0.9, 0.2, 0.8]
    constant = [0.3] * 4
    assert auroc(constant, wrong)[0] == 0.5
    assert average_precision(constant, wrong)[0] == 0.5
    assert np.isnan(spearman(constant, correctness)[0])
    assert np.isnan(spearman(correctness, constant)[0])
    assert why_undefined(constant, wrong) == "the score is constant"


def test_a_control_leaves_nothing_of_itself_and_a_constant_one_explains_nothing():
    scores, truth = [1.0, 2.0, 3.0, 5.0], [0.9, 0.5, 0.6, 0.1]
    assert np.isnan(partial_spearman(scores, truth, [scores])[0])
    assert np.isnan(partial_spearman(scores, truth, [[1.0, 4.0, 9.0, 25.0]])[0])  # same ranks
    assert partial_spearman(scores, truth, [[7.0] * 4])[0] == pytest.approx(
        spearman(scores, truth)[0]
    )


def test_odd_input_is_refused():
    with pytest.raises(DataError, match="2 scores and 1 truths"):
        auroc([1.0, 2.0], [True])
    with pytest.raises(DataError, match="not finite"):
        auroc([1.0, NAN], [True, False])
    with pytest.raises(DataError, match="differ"):
        spearman([1.0, 2.0], [1.0])
    with pytest.raises(DataError, match="there are 2 questions"):
        spearman([1.0, 2.0], [1.0, 2.0], np.ones((1, 3)))


def test_resamples_repeat_and_begin_with_the_data_itself():
    counts = np.concatenate(list(resample_counts(7, 600, seed=1)))
    assert counts.shape == (601, 7)
    assert (counts[0] == 1).all()
    assert (counts.sum(axis=1) == 7).all()
    assert (counts == np.concatenate(list(resample_counts(7, 600, seed=1)))).all()
    other = np.concatenate(list(resample_counts(7, 600, seed=1, stratum=1)))
    assert (counts[1:] != other[1:]).any()
    assert counts[1:].mean(axis=0) == pytest.approx(1, abs=0.15)
    # A question is missing from a resample with chance (6/7)^7.
    assert (counts[1:] == 0).mean() == pytest.approx((6 / 7) ** 7, abs=0.03)


def test_intervals():
    assert percentile_interval(np.arange(101.0), 0.9) == pytest.approx((5, 95))
    assert percentile_interval([NAN, 1.0, 1.0]) == (1, 1)
    assert np.isnan(percentile_interval([NAN])).all()
    assert reflected_interval(10, np.arange(9.0, 20.0), 0.8) == pytest.approx((2, 10))
    assert reflected_interval(0.01, [0.02, 0.03]) == (0, 0)
    with pytest.raises(ConfigError):
        percentile_interval([1.0], 1.0)


def test_the_interval_of_auroc_covers_at_its_level():
    covered = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        wrong = rng.random(120) < 0.4
        scores = rng.normal(wrong.astype(float), 1.0)  # true AUROC: Phi(1 / sqrt 2)
        values = np.concatenate([auroc(scores, wrong, c) for c in resample_counts(120, 300, seed)])
        low, high = percentile_interval(values[1:])
        covered += low <= stats.norm.cdf(2**-0.5) <= high
    assert covered >= 0.90 * 200

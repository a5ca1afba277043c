"""Risk-coverage, overlap with the oracle's routes, and probabilities read off a score."""

import itertools

import numpy as np
import pytest

from pivottrace.errors import DataError
from pivottrace.stats.probability import (
    brier,
    cross_fitted,
    expected_calibration_error,
    fit_isotonic,
    log_loss,
)
from pivottrace.stats.resampling import resample_counts
from pivottrace.stats.selective import (
    area_under_risk_coverage,
    oracle_routes,
    overlap_at_fractions,
    overlap_at_oracle_counts,
    risk_coverage,
)


def risk_area(wrong):
    return np.mean(np.cumsum(wrong) / np.arange(1, len(wrong) + 1))


def test_risk_coverage_by_hand():
    scores, wrong = [1.0, 2.0, 3.0, 4.0], [False, True, False, True]
    # Risks 0, 1/2, 1/3, 1/2.
    assert area_under_risk_coverage(scores, wrong)[0] == pytest.approx((1 / 2 + 1 / 3 + 1 / 2) / 4)
    coverage, risk = risk_coverage(scores, wrong)
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1]
    assert risk.tolist() == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2])


def test_ties_are_the_mean_over_their_orders():
    scores, wrong = [1, 2, 2, 2, 3], [False, True, False, False, True]
    orders = [
        risk_area([wrong[0], *(wrong[i] for i in middle), wrong[4]])
        for middle in itertools.permutations([1, 2, 3])
    ]
    assert area_under_risk_coverage(scores, wrong)[0] == pytest.approx(np.mean(orders), abs=1e-12)


def test_resampled_risk_is_that_of_the_drawn_questions():
    rng = np.random.default_rng(0)
    scores, wrong = rng.integers(0, 9, 30).astype(float), rng.random(30) < 0.4
    counts = np.concatenate(list(resample_counts(30, 4, 0)))
    for value, row in zip(area_under_risk_coverage(scores, wrong, counts), counts, strict=True):
        rows = np.repeat(np.arange(30), row.astype(int))
        assert value == pytest.approx(area_under_risk_coverage(scores[rows], wrong[rows])[0])


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_constant_score_has_the_risk_of_all(share):
    wrong = np.arange(8) < share * 8
    assert area_under_risk_coverage(np.ones(8), wrong)[0] == pytest.approx(share)


def test_the_oracle_agrees_with_itself_and_the_reverse_does_not():
    correctness = np.array([1.0, 0.97, 0.6, 0.5, 0.2, 0.0])
    routes = oracle_routes(correctness, [True, True, True, False, False, False], 0.95)
    assert routes.tolist() == [0, 0, 1, 2, 2, 2]
    same = overlap_at_oracle_counts(-correctness, routes)
    assert same.agreement[0] == 1
    assert same.jaccard[0].tolist() == [1, 1, 1]
    assert same.chance[0] == pytest.approx((4 + 1 + 9) / 36)
    reverse = overlap_at_oracle_counts(correctness, routes)
    assert reverse.agreement[0] == 0


def test_a_tie_across_a_cut_is_shared_out():
    routes = np.array([0, 1, 2, 2])
    constant = overlap_at_oracle_counts(np.zeros(4), routes)
    assert constant.agreement[0] == pytest.approx(constant.chance[0]) == (1 + 1 + 4) / 16


def test_overlap_of_resamples_is_that_of_the_drawn_questions():
    rng = np.random.default_rng(1)
    scores, correctness = rng.random(20), rng.integers(0, 5, 20) / 4
    routes = oracle_routes(correctness, rng.random(20) < 0.5, 0.95)
    counts = np.concatenate(list(resample_counts(20, 3, 0)))
    resampled = overlap_at_oracle_counts(scores, routes, counts)
    fractions = overlap_at_fractions(scores, correctness, (0.3, 0.4), counts)
    for number, row in enumerate(counts):
        rows = np.repeat(np.arange(20), row.astype(int))
        drawn = overlap_at_oracle_counts(scores[rows], routes[rows])
        assert resampled.agreement[number] == pytest.approx(drawn.agreement[0])
        drawn = overlap_at_fractions(scores[rows], correctness[rows], (0.3, 0.4))
        assert fractions.agreement[number] == pytest.approx(drawn.agreement[0])
        assert fractions.jaccard[number] == pytest.approx(drawn.jaccard[0])


def test_fractions_of_a_perfect_ranking_agree():
    truth = np.linspace(0, 1, 10)
    assert overlap_at_fractions(-truth, truth, (0.3, 0.4)).agreement[0] == pytest.approx(1)


def test_an_empty_route_has_no_jaccard():
    overlap = overlap_at_oracle_counts([1.0, 2.0], [2, 2])
    assert overlap.agreement[0] == 1
    assert np.isnan(overlap.jaccard[0, :2]).all()
    with pytest.raises(DataError):
        overlap_at_oracle_counts([1.0], [2, 2])


def test_isotonic_pools_violators_and_ties():
    scores, targets = np.array([1.0, 2, 3, 4]), np.array([0.0, 1, 0, 1])
    fitted = fit_isotonic(scores, targets, np.array([0.0, 1, 2, 2.5, 3, 9]))
    assert fitted.tolist() == [0, 0, 0.5, 0.5, 0.5, 1]
    assert fit_isotonic(np.ones(4), targets, np.array([1.0])).tolist() == [0.5]


def test_a_question_is_not_fitted_on_itself():
    # Alone at its score, each takes its neighbours' outcome and never its own.
    wrong = np.array([False, True])
    assert cross_fitted([1.0, 2.0], wrong, seed=0).tolist() == [1, 0]
    scores = np.random.default_rng(0).random(50)
    assert (cross_fitted(scores, scores > 0.5, 1) == cross_fitted(scores, scores > 0.5, 1)).all()
    with pytest.raises(DataError, match="folds"):
        cross_fitted([1.0], [True], 0)


def test_calibration_error_by_hand():
    chance, outcome = [0.2] * 5 + [0.8] * 5, [True] + [False] * 4 + [True] * 3 + [False] * 2
    assert expected_calibration_error(chance, outcome)[0] == pytest.approx(0.1)  # (0 + 0.2) / 2
    counts = np.array([[1.0] * 5 + [0.0] * 5, [0.0] * 5 + [1.0] * 5])
    assert expected_calibration_error(chance, outcome, counts) == pytest.approx([0, 0.2])


@pytest.mark.parametrize("right", [True, False])
def test_all_right_or_all_wrong_is_perfectly_calibrated(right):
    wrong = np.full(20, not right)
    chance = cross_fitted(np.arange(20.0), wrong, 0)
    assert (chance == (not right)).all()
    assert expected_calibration_error(chance, wrong)[0] == 0
    assert brier(chance, wrong)[0] == 0


def test_losses_by_hand():
    assert brier([0.5, 1.0], [1.0, 0.0])[0] == pytest.approx((0.25 + 1) / 2)
    assert brier([0.3], [0.25])[0] == pytest.approx(0.25 * 0.49 + 0.75 * 0.09)
    assert log_loss([0.5], [1.0], 0.01) == pytest.approx(np.log(2))
    assert log_loss([0.0], [1.0], 0.01) == pytest.approx(-np.log(0.01))
    assert log_loss([0.25], [0.25], 0.01) == pytest.approx(
        -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
    )

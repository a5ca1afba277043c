"""Smoothers: the window is the calibration's, isotonic and logistic against plain references."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from pivottrace.errors import ConfigError, DataError
from pivottrace.routing.curves import ProbeEvidence, calibrate
from pivottrace.stats.logistic import fit_logistic
from pivottrace.stats.smoothers import smooth

RANKS = (np.arange(64) + 0.5) / 64


def test_the_window_is_the_calibrations():
    correct = np.random.default_rng(0).integers(0, 17, 64)
    rows = ProbeEvidence(
        RANKS, correct, np.full(64, 16), correct > 8, np.zeros(64, bool), np.full(64, 0.5)
    )
    at = np.linspace(0, 1, 99)
    np.testing.assert_allclose(smooth(RANKS, correct / 16, at=at), calibrate(rows).at(at).mu)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4)), min_size=1, max_size=30),
    st.sampled_from(["window", "isotonic", "logistic"]),
)
def test_curves_are_shares_and_ignore_order(rows, method):
    ranks = np.array([(r + 0.5) / 10 for r, _ in rows])
    values = np.array([v / 4 for _, v in rows])
    at = np.linspace(0, 1, 50)
    curve = smooth(ranks, values, method=method, at=at)
    assert ((curve >= 0) & (curve <= 1)).all()
    shuffled = np.random.default_rng(0).permutation(ranks.size)
    np.testing.assert_allclose(
        curve, smooth(ranks[shuffled], values[shuffled], method=method, at=at), atol=1e-9
    )
    if method == "isotonic":
        assert (np.diff(curve) <= 1e-12).all()
        # The mean of a least-squares monotone fit is the mean of what it fits.
        assert smooth(ranks, values, method=method).mean() == pytest.approx(values.mean())


def test_isotonic_in_numbers():
    found = smooth([0.1, 0.3, 0.5, 0.7], [1.0, 0.2, 0.6, 0.0], [1, 3, 1, 1], "isotonic")
    np.testing.assert_allclose(found, [1.0, 0.3, 0.3, 0.0])  # (3 * .2 + .6) / 4


def test_logistic_finds_the_curve_that_made_the_values():
    truth = expit(3 - 6 * RANKS)
    np.testing.assert_allclose(smooth(RANKS, truth, method="logistic"), truth, atol=0.01)


@pytest.mark.parametrize("share", [0.0, 1.0])
@pytest.mark.parametrize("method", ["window", "isotonic", "logistic"])
def test_all_right_or_all_wrong_stays_finite(share, method):
    curve = smooth(RANKS, np.full(64, share), method=method)
    np.testing.assert_allclose(curve, share, atol=0.02)


def test_ridge_solves_its_own_equation():
    rng = np.random.default_rng(1)
    x, y, w = rng.normal(size=(40, 3)), rng.random(40), rng.random(40) + 0.5
    penalty = np.array([0.0, 1.0, 5.0])
    b = fit_logistic(x, y, w, penalty)
    np.testing.assert_allclose(x.T @ (w * (expit(x @ b) - y)) + penalty * b, 0, atol=1e-5)


def test_bad_input_says_what_is_wrong():
    with pytest.raises(ConfigError, match="'spline' is not one of window"):
        smooth([0.5], [1.0], method="spline")
    with pytest.raises(DataError, match="one probe at least"):
        smooth([], [])
    with pytest.raises(DataError, match=r"must lie in \[0, 1\]"):
        smooth([0.5], [2.0])
    with pytest.raises(DataError, match="without a rank"):
        smooth([np.nan], [1.0])

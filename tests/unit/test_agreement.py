"""The regression of agreement on the trace, against scipy's distribution and known answers."""

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import minimize
from scipy.special import expit

from pivottrace.routing import agreement as ag


def drawn(seed: int, size: int, weights: tuple[float, ...], strength: float, intercept=0.8):
    """(features, agreeing, samples) of a known regression; some questions are not sampled."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(size, len(weights)))
    share = expit(intercept + features @ np.array(weights))
    samples = rng.choice([0, 4, 8, 16], size)
    chance = rng.beta(strength * share, strength * (1 - share))
    return features, rng.binomial(samples, chance), samples


def test_a_known_regression_is_found_again() -> None:
    fitted = ag.fit_agreement(*drawn(0, 20_000, (-1.0, 0.4, 0.0), 3.0))
    assert fitted.intercept == pytest.approx(0.8, abs=0.06)
    np.testing.assert_allclose(fitted.weights, [-1.0, 0.4, 0.0], atol=0.06)
    assert fitted.strength == pytest.approx(3.0, abs=0.2)


def test_the_fit_is_the_optimum_of_the_plain_formula() -> None:
    features, agreeing, samples = drawn(1, 120, (-0.7, 0.3), 2.0)
    fitted = ag.fit_agreement(features, agreeing, samples)

    def loss(values) -> float:
        strength = np.exp(values[-1])
        share = expit(values[0] + features @ values[1:-1])
        found = stats.betabinom.logpmf(agreeing, samples, strength * share, strength * (1 - share))
        prior = ag.PENALTY * (values[1:-1] ** 2).sum() + (values[-1] - np.log(2.0)) ** 2
        return prior / 2 - found[samples > 0].sum()

    start = np.array([1.0, 0.0, 0.0, np.log(2.0)])
    best = minimize(loss, start, method="BFGS").x
    own = np.array([fitted.intercept, *fitted.weights, np.log(fitted.strength)])
    np.testing.assert_allclose(own, best, atol=5e-3)
    # At an optimum all finite differences vanish, which only the right gradient finds.
    steps = np.eye(4) * 1e-4
    slopes = [(loss(own + s) - loss(own - s)) / 2e-4 for s in steps]
    np.testing.assert_allclose(slopes, 0, atol=0.02)


@pytest.mark.parametrize("size", [0, 1, 50])
@pytest.mark.parametrize("agreeing", [0, 8])
@pytest.mark.parametrize("num_features", [0, 2])
def test_degenerate_pools_have_a_prior(size, agreeing, num_features) -> None:
    features = np.zeros((size, num_features))
    fitted = ag.fit_agreement(features, np.full(size, agreeing), np.full(size, 8))
    a, b = fitted.prior(np.array([[9.0] * num_features, [-9.0] * num_features]))
    assert (a > 0).all() and (b > 0).all() and np.isfinite(a + b).all()
    np.testing.assert_allclose(a + b, fitted.strength)
    assert (fitted.weights == 0).all()
    if size == 50:
        assert (a > b).all() == (agreeing == 8)


def test_questions_without_a_sample_say_nothing() -> None:
    features, agreeing, samples = drawn(2, 300, (-1.0,), 2.0)
    fitted = ag.fit_agreement(features, agreeing, samples)
    asked = samples > 0
    same = ag.fit_agreement(features[asked], agreeing[asked], samples[asked])
    assert (fitted.intercept, fitted.strength) == (same.intercept, same.strength)
    nothing = ag.fit_agreement(features, np.zeros(300), np.zeros(300))
    assert nothing.strength == pytest.approx(2.0)


def test_a_large_pool_is_read_evenly(monkeypatch) -> None:
    features, agreeing, samples = drawn(3, 400, (-1.0,), 2.0)
    samples = np.maximum(samples, 1)
    monkeypatch.setattr(ag, "MOST_QUESTIONS", 100)
    fitted = ag.fit_agreement(features, np.minimum(agreeing, samples), samples)
    rows = np.linspace(0, 399, 100).astype(int)
    same = ag.fit_agreement(features[rows], np.minimum(agreeing, samples)[rows], samples[rows])
    assert fitted.intercept == same.intercept
    assert fitted.weights.tolist() == same.weights.tolist()

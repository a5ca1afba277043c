"""A mixture of two normal distributions on a line, fitted by expectation-maximisation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MAX_ITERATIONS = 100
TOLERANCE = 1e-8  # Of the log-likelihood per point, between two iterations.
VARIANCE_FLOOR = 1e-6  # Of the points' own variance: components on single points stay proper.
SHARE_FLOOR = 1e-6  # Keeps a component that loses all its points finite.

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TwoNormals:
    """Two normal components with one variance.

    Attributes:
        low: Mean of the lower component.
        high: Mean of the upper component, not below `low`.
        high_share: The upper component's share of the points, in (0, 1).
        variance: Variance of both components, > 0.
    """

    low: float
    high: float
    high_share: float
    variance: float

    def upper_posterior(self, values: FloatArray) -> FloatArray:
        """Return (N,) chances in [0, 1] that each of (N,) values is of the upper component."""
        slope = (self.high - self.low) / self.variance
        log_odds = slope * (values - (self.high + self.low) / 2)
        log_odds += np.log(self.high_share) - np.log1p(-self.high_share)
        # Beyond ±700 exp would overflow, and the posterior is 0 or 1 to the last digit anyway.
        return 1 / (1 + np.exp(-np.clip(log_odds, -700, 700)))


def fit_two_normals(values: npt.ArrayLike) -> TwoNormals | None:
    """Fit two normal components that share one variance.

    One variance makes the upper component's posterior rise with the value. With two variances, a
    far low value can belong to a wide upper component. The start is fixed (the points above their
    mean, and the others), and the order of every sum is fixed too, so that the same values give the
    same fit.

    Args:
        values: (N,) finite numbers.

    Returns:
        The fit after at most `MAX_ITERATIONS`; None if two components cannot be told apart, because
        there are fewer than two points or all are equal.
    """
    points = np.asarray(values, dtype=np.float64)
    if points.size < 2 or np.ptp(points) <= 1e-12 * max(1.0, float(np.abs(points).max())):
        return None
    floor = VARIANCE_FLOOR * float(points.var())
    upper = (points > points.mean()).astype(np.float64)  # (N,) responsibilities
    fit, before = _maximise(points, upper, floor), -np.inf
    for _ in range(MAX_ITERATIONS):
        likelihood = _log_likelihood(points, fit)
        if likelihood - before < TOLERANCE:
            break
        before = likelihood
        fit = _maximise(points, fit.upper_posterior(points), floor)
    return fit


def _maximise(points: FloatArray, upper: FloatArray, floor: float) -> TwoNormals:
    # Means weighted by the responsibilities `upper` (N,), then their common variance.
    share = float(np.clip(upper.mean(), SHARE_FLOOR, 1 - SHARE_FLOOR))
    high = float((upper * points).sum() / max(upper.sum(), SHARE_FLOOR))
    low = float(((1 - upper) * points).sum() / max((1 - upper).sum(), SHARE_FLOOR))
    spread = upper * (points - high) ** 2 + (1 - upper) * (points - low) ** 2
    return TwoNormals(low, high, share, max(float(spread.mean()), floor))


def _log_likelihood(points: FloatArray, fit: TwoNormals) -> float:
    """Return the mean log-likelihood per point, in nats, without the constant."""
    low = np.log1p(-fit.high_share) - (points - fit.low) ** 2 / (2 * fit.variance)
    high = np.log(fit.high_share) - (points - fit.high) ** 2 / (2 * fit.variance)
    return float(np.logaddexp(low, high).mean() - 0.5 * np.log(fit.variance))

"""Smoothers of a curve along the ranking, to compare with the sliding window in a study.

The sliding window is from the paper (DE-Venus), and `run` uses it. Isotonic and logistic are ours,
for comparison. They give no intervals; only the window does (`routing.curves`).
"""

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression
from scipy.special import expit

from pivottrace.errors import ConfigError, DataError
from pivottrace.stats.logistic import fit_logistic
from pivottrace.stats.windows import default_window, window_sums, windows

FloatArray = npt.NDArray[np.float64]
Smoother = Literal["window", "isotonic", "logistic"]

# Prior variance of the logistic coefficients. The prior is so wide that 64 probes move it freely,
# and it keeps the coefficients finite for all-right or all-wrong probes.
PRIOR_VARIANCE = 100.0


def smooth(
    ranks: npt.ArrayLike,
    values: npt.ArrayLike,
    sizes: npt.ArrayLike | None = None,
    method: Smoother = "window",
    at: npt.ArrayLike | None = None,
) -> FloatArray:
    """Return a smooth curve of shares along the ranking.

    - window: mean of the `default_window` probes around each, linear between probes.
    - isotonic: the closest curve that never rises with the rank (pool adjacent violators), linear
      between probes. It is flat where the probes contradict a fall.
    - logistic: sigmoid(a + b u), the most likely curve under a wide Gaussian prior.

    Args:
        ranks: (n,) the probes' places in the ranking, in [0, 1], in any order; low is certain.
        values: (n,) shares in [0, 1], such as right rollouts of each probe.
        sizes: (n,) weight of each share, above 0; None for equal weights. A question's rollouts are
            not independent evidence on the ranking, so equal weights are the rule.
        method: Name of the smoother.
        at: (Q,) places to evaluate at; None for the probes' own places.

    Returns:
        (Q,) or (n,), in [0, 1]; higher is more often right.

    Raises:
        ConfigError: The method is unknown.
        DataError: There is no probe, lengths differ, or a value is outside its range.

    Source: DE-Venus (window); Barlow et al. 1972 (isotonic).
    """
    if method not in _SMOOTHERS:
        raise ConfigError(f"smoother {method!r} is not one of {', '.join(get_args(Smoother))}")
    places, shares = np.asarray(ranks, np.float64), np.asarray(values, np.float64)
    weights = np.ones(places.shape) if sizes is None else np.asarray(sizes, np.float64)
    if not places.shape == shares.shape == weights.shape or places.ndim != 1 or not places.size:
        raise DataError(
            f"ranks {places.shape}, values {shares.shape} and sizes {weights.shape} must be (n,), "
            "with one probe at least"
        )
    if not (((shares >= 0) & (shares <= 1)).all() and (weights > 0).all()):
        raise DataError("values must lie in [0, 1] and sizes above 0; check how they were counted")
    if np.isnan(places).any():
        raise DataError("a probe without a rank cannot be on a curve; leave it out")
    order = np.argsort(places, kind="stable")
    targets = places if at is None else np.asarray(at, np.float64)
    return _SMOOTHERS[method](places[order], shares[order], weights[order], targets)


def _window(ranks: FloatArray, values: FloatArray, sizes: FloatArray, at: FloatArray) -> FloatArray:
    knots, low, high = windows(ranks, default_window(ranks.size))
    return np.interp(
        at, knots, window_sums(values * sizes, low, high) / window_sums(sizes, low, high)
    )


def _isotonic(
    ranks: FloatArray, values: FloatArray, sizes: FloatArray, at: FloatArray
) -> FloatArray:
    # Ties are one point: the score cannot tell them apart, so the curve may not either.
    knots, tie = np.unique(ranks, return_inverse=True)
    total = np.bincount(tie, sizes)
    means = np.bincount(tie, sizes * values) / total
    return np.interp(at, knots, isotonic_regression(means, weights=total, increasing=False).x)


def _logistic(
    ranks: FloatArray, values: FloatArray, sizes: FloatArray, at: FloatArray
) -> FloatArray:
    design = np.stack([np.ones(ranks.size), ranks - 0.5], axis=1)  # (n, 2)
    weights = sizes * (ranks.size / sizes.sum())
    fitted = fit_logistic(design, values, weights, np.full(2, 1.0 / PRIOR_VARIANCE))
    curve: FloatArray = expit(fitted[0] + fitted[1] * (at - 0.5))
    return curve


_SMOOTHERS: dict[str, Callable[[FloatArray, FloatArray, FloatArray, FloatArray], FloatArray]] = {
    "window": _window,
    "isotonic": _isotonic,
    "logistic": _logistic,
}

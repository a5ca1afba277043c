"""Turn a score into a probability, and measure the quality of that probability.

Isotonic regression assumes only the order of the scores, so the scale of a score cannot mislead it.
It does not reverse a ranking. A score of the wrong sign becomes the base rate, which is well
calibrated and useless. So read a calibration error together with the Brier score.
"""

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression

from pivottrace.errors import DataError
from pivottrace.stats.ranking_metrics import FloatArray

NUM_FOLDS = 10
NUM_BINS = 10


def fit_isotonic(scores: FloatArray, targets: FloatArray, queries: FloatArray) -> FloatArray:
    """Fit a probability that never falls as the score rises, and evaluate it.

    Args:
        scores: (n,) scores of the questions to fit on; tied scores are one point.
        targets: (n,) in [0, 1].
        queries: (m,) scores to evaluate at. The fit is linear between points and constant beyond
            them.

    Returns:
        (m,) in [0, 1].
    """
    knots, group, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    means = np.bincount(group, weights=targets) / sizes
    fitted = isotonic_regression(means, weights=sizes.astype(np.float64)).x
    result: FloatArray = np.interp(queries, knots, np.clip(fitted, 0.0, 1.0))
    return result


def cross_fitted(
    scores: npt.ArrayLike, wrong: npt.ArrayLike, seed: int, num_folds: int = NUM_FOLDS
) -> FloatArray:
    """Return each question's probability of being wrong, from a mapping fitted without it.

    Args:
        scores: (Q,) finite.
        wrong: (Q,) bool.
        seed: Seed of the division into folds.
        num_folds: Number of folds, at most Q.

    Returns:
        (Q,) in [0, 1].

    Raises:
        DataError: There are fewer than two questions.
    """
    values, target = np.asarray(scores, dtype=np.float64), np.asarray(wrong, dtype=np.float64)
    if values.size < 2:
        raise DataError(f"{values.size} questions cannot be divided into folds; give two at least")
    fold = np.arange(values.size) % min(num_folds, values.size)
    fold = np.random.default_rng(seed).permutation(fold)
    result = np.empty(values.size)
    for number in range(int(fold.max()) + 1):
        out = fold == number
        result[out] = fit_isotonic(values[~out], target[~out], values[out])
    return result


def expected_calibration_error(
    probabilities: npt.ArrayLike,
    outcomes: npt.ArrayLike,
    weights: FloatArray | None = None,
    num_bins: int = NUM_BINS,
) -> FloatArray:
    """Return the mean absolute difference of probability and frequency over bins of equal size.

    Bins are cut once, on the given questions, at quantiles of the probability. Equal probabilities
    stay in one bin. Chance alone makes the error larger than 0, and with fewer questions it is
    larger.

    Args:
        probabilities: (Q,) in [0, 1].
        outcomes: (Q,) in [0, 1].
        weights: (B, Q) number of times that each question counts.
        num_bins: Greatest number of bins.

    Returns:
        (B,) in [0, 1], lower is better.
    """
    chance = np.asarray(probabilities, dtype=np.float64)
    happened = np.asarray(outcomes, dtype=np.float64)
    counts = np.ones((1, chance.size)) if weights is None else weights
    # Membership (bins, Q), then the summed gap of each bin in each resample, (B, bins).
    edges = np.unique(np.quantile(chance, np.linspace(0, 1, num_bins + 1)[1:-1]))
    bins = np.searchsorted(edges, chance, side="left")
    member = (bins == np.arange(edges.size + 1)[:, None]).astype(np.float64)  # (bins, Q)
    gaps = np.abs((counts * (chance - happened)) @ member.T).sum(axis=1)
    result: FloatArray = gaps / np.maximum(counts.sum(axis=1), 1.0)
    return result


def brier(
    probabilities: npt.ArrayLike, outcomes: npt.ArrayLike, weights: FloatArray | None = None
) -> FloatArray:
    """Return the mean squared error of a probability (B,), in [0, 1]; lower is better.

    An outcome may be a share of right samples. It then counts as one sample drawn from them: (p -
    1)^2 with its chance, p^2 with the rest.
    """
    chance = np.asarray(probabilities, dtype=np.float64)
    share = np.asarray(outcomes, dtype=np.float64)
    counts = np.ones((1, chance.size)) if weights is None else weights
    losses = share * (1.0 - chance) ** 2 + (1.0 - share) * chance**2
    result: FloatArray = counts @ losses / np.maximum(counts.sum(axis=1), 1.0)
    return result


def log_loss(probabilities: npt.ArrayLike, outcomes: npt.ArrayLike, floor: float) -> float:
    """Return the mean log loss in nats, 0 or more; lower is better.

    Args:
        probabilities: (Q,) They are clipped to [`floor`, 1 - `floor`], so that the loss of a
            certain error stays finite.
        outcomes: (Q,) in [0, 1], as in `brier`.
        floor: Lowest probability, above 0.
    """
    chance = np.clip(np.asarray(probabilities, dtype=np.float64), floor, 1.0 - floor)
    share = np.asarray(outcomes, dtype=np.float64)
    return float(-np.mean(share * np.log(chance) + (1.0 - share) * np.log1p(-chance)))

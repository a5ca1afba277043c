"""A score turned into a probability, and how good that probability is.

Isotonic regression is the mapping that assumes least beyond the order: it cannot be fooled by the
scale of a score. It does not turn a ranking round: a score of the wrong sign becomes the base rate,
which is well calibrated and useless, so a calibration error is read beside the Brier score.
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
        scores: (n,) of the questions to fit on; tied ones are one point.
        targets: (n,) in [0, 1].
        queries: (m,) scores to evaluate at: linear between points, constant beyond them.

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
    """Return each question's probability of being wrong, from a mapping that never saw it.

    Args:
        scores: (Q,) finite.
        wrong: (Q,) bool.
        seed: Of the division into folds.
        num_folds: At most Q.

    Returns:
        (Q,) in [0, 1].

    Raises:
        DataError: Fewer than two questions.
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

    Bins are cut once, on the questions given, at quantiles of the probability; equal ones are never
    parted. Chance alone makes the error larger than 0, the more so the fewer the questions.

    Args:
        probabilities: (Q,) in [0, 1].
        outcomes: (Q,) in [0, 1].
        weights: (B, Q) how often each counts.
        num_bins: At most so many.

    Returns:
        (B,) in [0, 1], lower is better.
    """
    chance = np.asarray(probabilities, dtype=np.float64)
    happened = np.asarray(outcomes, dtype=np.float64)
    counts = np.ones((1, chance.size)) if weights is None else weights
    edges = np.unique(np.quantile(chance, np.linspace(0, 1, num_bins + 1)[1:-1]))
    bins = np.searchsorted(edges, chance, side="left")
    member = (bins == np.arange(edges.size + 1)[:, None]).astype(np.float64)  # (bins, Q)
    gaps = np.abs((counts * (chance - happened)) @ member.T).sum(axis=1)
    result: FloatArray = gaps / np.maximum(counts.sum(axis=1), 1.0)
    return result


def brier(
    probabilities: npt.ArrayLike, outcomes: npt.ArrayLike, weights: FloatArray | None = None
) -> FloatArray:
    """Return the mean squared error of a probability (B,): in [0, 1], lower is better.

    An outcome that is itself a share, of samples that are right, stands for one sample drawn from
    them: (p - 1)^2 with its chance, p^2 with the rest.
    """
    chance = np.asarray(probabilities, dtype=np.float64)
    share = np.asarray(outcomes, dtype=np.float64)
    counts = np.ones((1, chance.size)) if weights is None else weights
    losses = share * (1.0 - chance) ** 2 + (1.0 - share) * chance**2
    result: FloatArray = counts @ losses / np.maximum(counts.sum(axis=1), 1.0)
    return result


def log_loss(probabilities: npt.ArrayLike, outcomes: npt.ArrayLike, floor: float) -> float:
    """Return the mean log loss in nats, 0 or more, lower is better.

    Args:
        probabilities: (Q,); held between `floor` and 1 - `floor`, so that no certainty costs
            infinitely much.
        outcomes: (Q,) in [0, 1], as in `brier`.
        floor: Above 0.
    """
    chance = np.clip(np.asarray(probabilities, dtype=np.float64), floor, 1.0 - floor)
    share = np.asarray(outcomes, dtype=np.float64)
    return float(-np.mean(share * np.log(chance) + (1.0 - share) * np.log1p(-chance)))

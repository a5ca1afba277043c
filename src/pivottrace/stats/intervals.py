"""Intervals for shares that stay honest when everything is right or everything is wrong.

Nothing here is from the paper, because its fragments give no interval at all.
"""

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv

from pivottrace.errors import ConfigError, DataError

FloatArray = npt.NDArray[np.float64]


def share_interval(
    successes: npt.ArrayLike, trials: npt.ArrayLike, level: float = 0.9
) -> tuple[FloatArray, FloatArray]:
    """Return the two-sided Clopper-Pearson interval of a share, element by element.

    The interval is exact for whole successes. Fractional successes are allowed: a sum of n
    independent values in [0, 1] (each a question's own correctness) is at most as spread as n coin
    flips with its mean. So a question counts as one coin flip, with any number of rollouts. The
    interval for the mean then errs on the wide side and never calls 9 of 9 certain.

    Args:
        successes: Number of right trials, 0 to `trials`; any shape.
        trials: Number of trials, same shape; 0 gives [0, 1].
        level: Chance that the interval holds the truth, in (0, 1).

    Returns:
        (low, high), each in [0, 1].

    Raises:
        ConfigError: `level` is outside (0, 1).
        DataError: Successes are below 0 or above trials.

    Source: Clopper and Pearson (1934); the convex-order argument is Hoeffding's (1963).
    """
    tail = (1.0 - _checked_level(level)) / 2.0
    right, total = _checked_counts(successes, trials)
    return _lower(right, total, tail), 1.0 - _lower(total - right, total, tail)


def share_lower_bound(
    successes: npt.ArrayLike, trials: npt.ArrayLike, alpha: float = 0.1
) -> FloatArray:
    """Return the exact one-sided lower bound of a share at confidence 1 - alpha.

    The bound is also valid for independent trials of unequal chances, as a bound on their mean
    chance (Hoeffding 1956: the binomial's upper tail is the heaviest once it is a trial above the
    mean).

    Args:
        successes: Number of right trials, 0 to `trials`; any shape.
        trials: Number of trials, same shape; 0 gives 0.
        alpha: Chance that the bound is above the truth, in (0, 1).

    Raises:
        ConfigError: `alpha` is outside (0, 1).
        DataError: Successes are below 0 or above trials.

    Source: Clopper and Pearson (1934).
    """
    _checked_level(1.0 - alpha)
    right, total = _checked_counts(successes, trials)
    return _lower(right, total, alpha)


def fewest_trials(floor: float, alpha: float) -> int:
    """Return the fewest trials for a lower bound of at least `floor` if all are right.

    Raises:
        ConfigError: `floor` or `alpha` is outside (0, 1).
    """
    if not 0.0 < floor < 1.0:
        raise ConfigError(f"floor is {floor}; give a share above 0 and below 1")
    _checked_level(1.0 - alpha)
    fewest = int(np.ceil(np.log(alpha) / np.log(floor)))
    # Rounding of the logarithms may be off by one step either way.
    while fewest > 1 and floor ** (fewest - 1) <= alpha:
        fewest -= 1
    return fewest


def _lower(right: FloatArray, total: FloatArray, tail: float) -> FloatArray:
    some = right > 0
    bound = betaincinv(np.where(some, right, 1.0), np.where(some, total - right + 1.0, 1.0), tail)
    return np.where(some, bound, 0.0)


def _checked_counts(
    successes: npt.ArrayLike, trials: npt.ArrayLike
) -> tuple[FloatArray, FloatArray]:
    total = np.asarray(trials, dtype=np.float64)
    right = np.asarray(successes, dtype=np.float64)
    # Sums of fractions may overshoot by rounding; a larger excess is a caller's mistake.
    if not bool(np.all((right >= -1e-9) & (right <= total + 1e-9))):
        raise DataError("successes must lie between 0 and trials; check how they were counted")
    return np.clip(right, 0.0, total), total


def _checked_level(level: float) -> float:
    if not 0.0 < level < 1.0:
        raise ConfigError(f"confidence {level} is not above 0 and below 1; 0.9 is the default")
    return level

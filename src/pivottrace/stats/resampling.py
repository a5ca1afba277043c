"""A paired bootstrap over questions, with resamples as counts: one sort serves all of them.

A resample holds the number of times that each question was drawn. Every estimator and every metric
sees the same counts, so that the difference of two has an interval too. This is ours, because the
paper's fragments give no interval.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from pivottrace.errors import ConfigError

FloatArray = npt.NDArray[np.float64]

NUM_RESAMPLES = 2_000
LEVEL = 0.95
CHUNK = 250  # resamples held at once: 250 x 5,000 questions are 10 MB per array


def resample_counts(
    num_questions: int, num_resamples: int, seed: int, stratum: int = 0
) -> Iterator[FloatArray]:
    """Draw questions with replacement, in chunks.

    Args:
        num_questions: Q of this stratum.
        num_resamples: B.
        seed: Seed of the draws.
        stratum: Number of the pool. The draws of different pools are independent.

    Yields:
        (b, Q) number of times that each question was drawn; rows add up to Q. The very first row is
        the data itself, with every count 1, so all chunks together have B + 1 rows.
    """
    rng = np.random.default_rng((seed, stratum))
    yield np.ones((1, num_questions))
    for start in range(0, num_resamples, CHUNK):
        rows = min(CHUNK, num_resamples - start)
        # Draws (b, Q), shifted so that one count over b x Q bins counts each row apart.
        draws = rng.integers(0, num_questions, (rows, num_questions))
        draws += num_questions * np.arange(rows)[:, None]
        counts = np.bincount(draws.ravel(), minlength=rows * num_questions)
        yield counts.reshape(rows, num_questions).astype(np.float64)


def percentile_interval(values: npt.ArrayLike, level: float = LEVEL) -> tuple[float, float]:
    """Return the percentile interval of resampled values (B,); NaN if no value is defined.

    Resamples in which the metric is not defined (one class missing) are left out.

    Raises:
        ConfigError: `level` is outside (0, 1).
    """
    if not 0.0 < level < 1.0:
        raise ConfigError(f"confidence {level} is not above 0 and below 1; 0.95 is the default")
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    if not known.size:
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return float(low), float(high)


def reflected_interval(
    estimate: float, values: npt.ArrayLike, level: float = LEVEL
) -> tuple[float, float]:
    """Return the bootstrap interval reflected at the estimate, cut off at 0.

    It is for a metric that is a sum of absolute differences, such as the calibration error. Chance
    makes such a metric larger, and resampling makes it larger once more, so the percentile interval
    may lie fully above the estimate. The reflected interval lies on the side of the truth.
    """
    low, high = percentile_interval(values, level)
    return max(0.0, 2.0 * estimate - high), max(0.0, 2.0 * estimate - low)

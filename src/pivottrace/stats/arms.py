"""Results of an experiment of arms and seeds: means over seeds, paired differences, speed-ups.

Only the idea of the headline is from the paper ("better with 29.3 % of the labels, 2.75x sooner").
The paper gives no intervals and does not say how it counts steps. Everything else is ours.

A question of a seed is the smallest unit that varies, because its samples are alike. Seeds vary too
(pool, held-out questions, order, sampling), and by more than their questions alone explain. So
variance is clustered two ways: by seed, and by question or another name that questions of several
seeds share. If seeds have nothing in common, this equals the spread of the seeds' means.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student_t

from pivottrace.errors import ConfigError, DataError
from pivottrace.stats.accuracy import LEVEL, Interval, QuestionCounts

FloatArray = npt.NDArray[np.float64]

NOT_WORSE_MARGIN = 0.01  # one point: our convention for "not worse"
SMOOTHING = 3  # points of a learning curve in one moving mean
ERRORS_BELOW = 1.0  # target of a speed-up: standard errors below the reference's final mean
ROUNDING = 1e-9  # of means of accuracies


@dataclass(frozen=True)
class SeedValues:
    """One seed's questions and a number for each, such as a share of right samples.

    Attributes:
        clusters: (Q,) names. Questions of the same name are alike, in any seed. If the name is the
            id, a question is alike only to itself.
        values: (Q,).
    """

    clusters: tuple[str, ...]
    values: FloatArray

    @property
    def mean(self) -> float:
        """Mean over the questions, with equal weights."""
        return float(self.values.mean())


@dataclass(frozen=True)
class Curve:
    """A learning curve of one seed.

    Attributes:
        steps: (K,) optimizer steps, ascending, from 0.
        accuracy: (K,) in [0, 1].
        tokens: (K,) tokens spent up to that step, for any purpose.
    """

    steps: FloatArray
    accuracy: FloatArray
    tokens: FloatArray


@dataclass(frozen=True)
class SpeedUp:
    """The factor by which an arm reaches the reference's final accuracy sooner; above 1 is sooner.

    Attributes:
        target: Accuracy to reach.
        steps: The arm's step at which its curve first reaches it; NaN if it does not.
        tokens: The same in tokens.
        reference_steps: The reference's own step; NaN if its smoothed curve does not reach it.
        reference_tokens: The same in tokens.
    """

    target: float
    steps: float
    tokens: float
    reference_steps: float
    reference_tokens: float

    @property
    def by_steps(self) -> float:
        """Reference steps over arm steps; NaN if one of the two does not reach the target."""
        return _ratio(self.reference_steps, self.steps)

    @property
    def by_tokens(self) -> float:
        """Reference tokens over arm tokens; NaN if one of the two does not reach the target."""
        return _ratio(self.reference_tokens, self.tokens)


def paired_means(arm: QuestionCounts, reference: QuestionCounts) -> FloatArray:
    """Return (Q,) differences of each question's share of right samples: arm minus reference.

    The values are in [-1, 1] and in the order of the arm's questions.

    Raises:
        DataError: The two were not evaluated on the same questions.
    """
    place = {question_id: i for i, question_id in enumerate(reference.question_ids)}
    if place.keys() != set(arm.question_ids):
        raise DataError(
            f"an arm and its reference have different held-out questions ({len(place)} and "
            f"{len(arm.question_ids)}); give both the same pool.evaluation"
        )
    return arm.means - reference.means[[place[i] for i in arm.question_ids]]


def mean_over_seeds(seeds: Sequence[SeedValues], level: float = LEVEL) -> Interval:
    """Return the mean over seeds of their questions' means, with an interval for other seeds.

    With S seeds of Q_s questions every number weighs 1 / (S Q_s). The variance is clustered two
    ways (Cameron, Gelbach and Miller 2011), by seed and by `SeedValues.clusters` of questions: V =
    V_seed + V_cluster - V_seed-and-cluster, each the sum over its clusters of (sum of weighted
    residuals)^2, times n / (n - 1) for n clusters. If seeds share no cluster, the last two are
    equal and V is the spread of the S means. The interval is Student's t with S - 1 degrees of
    freedom. It is never narrower than the interval from the clusters alone (t with one degree of
    freedom fewer than clusters), because the means of few seeds may agree by chance. For one seed
    the interval is the one from its clusters. If all numbers are equal, the interval is as in
    `paired_difference` for as many unchanged clusters.

    Args:
        seeds: Values of each seed, numbers in [-1, 1].
        level: Chance that the interval holds the mean over all seeds, in (0, 1).

    Returns:
        The mean and its interval. The interval is not cut off at the ends of the range.

    Raises:
        ConfigError: `level` is outside (0, 1).
        DataError: There is no seed, or a seed has no questions.
    """
    if not 0.0 < level < 1.0:
        raise ConfigError(f"confidence {level} is not above 0 and below 1; 0.95 is the default")
    if not seeds or not all(seed.values.size for seed in seeds):
        raise DataError("there is no seed to take the mean of, or one without held-out questions")
    mean = float(np.mean([seed.mean for seed in seeds]))
    # Residuals of all questions with their weights, (N,), and the clusters that they belong to.
    weighted = np.concatenate([(s.values - mean) / (len(seeds) * s.values.size) for s in seeds])
    of_seed = np.repeat(np.arange(len(seeds)), [s.values.size for s in seeds])
    names = [name for seed in seeds for name in seed.clusters]
    _, of_question = np.unique(names, return_inverse=True)
    by_question = _clustered(weighted, of_question)
    tail, num_questions = (1.0 - level) / 2.0, int(of_question.max()) + 1
    if np.abs(weighted).max() < 1e-12:  # equal up to rounding
        unseen = 1.0 - tail ** (1.0 / num_questions)
        return Interval(mean, mean - unseen * (1.0 + mean), mean + unseen * (1.0 - mean))
    half = student_t.isf(tail, num_questions - 1) * by_question**0.5 if num_questions > 1 else 2.0
    if len(seeds) > 1:
        by_seed = _clustered(weighted, of_seed)
        _, of_pair = np.unique(of_seed * num_questions + of_question, return_inverse=True)
        both = by_seed + by_question - _clustered(weighted, of_pair)
        # The seeds alone are a lower limit; the two-way variance may fall below it by chance.
        variance = max(both, by_seed)
        half = max(half, student_t.isf(tail, len(seeds) - 1) * variance**0.5)
    return Interval(mean, mean - float(half), mean + float(half))


def smooth(values: npt.ArrayLike, window: int = SMOOTHING) -> FloatArray:
    """Return the centred moving mean of a curve (K,).

    Near the ends it is over fewer points, the same number on either side, so that it does not lag.
    The end points stay unchanged.

    Raises:
        ConfigError: `window` is not odd and positive.
    """
    if window < 1 or window % 2 == 0:
        raise ConfigError(f"a smoothing window of {window} points has no middle; give 1, 3, 5 …")
    points = np.asarray(values, dtype=np.float64)
    reach = [min(window // 2, i, points.size - 1 - i) for i in range(points.size)]
    return np.array([points[i - r : i + r + 1].mean() for i, r in enumerate(reach)])


def first_reach(places: npt.ArrayLike, values: npt.ArrayLike, target: float) -> float:
    """Return the place at which a curve first reaches a target, linear between its points.

    Args:
        places: (K,) steps or tokens, ascending.
        values: (K,) values of the curve at these places.
        target: Value to reach from below.

    Returns:
        The place: the first one if the curve begins at the target or above, NaN if it never reaches
            it.
    """
    xs, ys = np.asarray(places, dtype=np.float64), np.asarray(values, dtype=np.float64)
    above = np.flatnonzero(ys >= target - ROUNDING)
    if not above.size:
        return float("nan")
    i = int(above[0])
    if i == 0:
        return float(xs[0])
    share = (target - ys[i - 1]) / (ys[i] - ys[i - 1])
    return float(xs[i - 1] + share * (xs[i] - xs[i - 1]))


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """Return the mean of several seeds' curves at their common steps.

    Raises:
        DataError: The curves do not have the same steps.
    """
    steps = curves[0].steps
    if any(not np.array_equal(curve.steps, steps) for curve in curves):
        raise DataError("learning curves of one arm have points at different steps; run it anew")
    return Curve(
        steps,
        np.mean([curve.accuracy for curve in curves], axis=0),
        np.mean([curve.tokens for curve in curves], axis=0),
    )


def target_of(reference: Sequence[Curve], errors_below: float = ERRORS_BELOW) -> float:
    """Return the target of an arm: the reference's final mean minus some standard errors.

    The standard error is the error of the mean over seeds, sd / sqrt(S); it is 0 for one seed.
    """
    finals = np.array([curve.accuracy[-1] for curve in reference])
    error = finals.std(ddof=1) / finals.size**0.5 if finals.size > 1 else 0.0
    return float(finals.mean() - errors_below * error)


def speed_up(
    arm: Mapping[int, Curve], reference: Mapping[int, Curve], errors_below: float = ERRORS_BELOW
) -> SpeedUp:
    """Return when an arm first reaches the reference's final accuracy, on their common seeds.

    Curves are averaged over seeds, then smoothed. If the curve is flat near the target, the ratio
    is very sensitive to the target, so compare other `errors_below`.

    Args:
        arm: Curves by seed.
        reference: Curves of the reference by seed.
        errors_below: The target, as in `target_of`.

    Raises:
        DataError: The two have no seed in common.
    """
    seeds = sorted(arm.keys() & reference.keys())
    if not seeds:
        raise DataError("the arm and its reference have no finished seed in common")
    theirs = [reference[seed] for seed in seeds]
    target = target_of(theirs, errors_below)
    ours, other = mean_curve([arm[seed] for seed in seeds]), mean_curve(theirs)
    curve, reference_curve = smooth(ours.accuracy), smooth(other.accuracy)
    return SpeedUp(
        target=target,
        steps=first_reach(ours.steps, curve, target),
        tokens=first_reach(ours.tokens, curve, target),
        reference_steps=first_reach(other.steps, reference_curve, target),
        reference_tokens=first_reach(other.tokens, reference_curve, target),
    )


def without_one_seed(arm: Mapping[int, Curve], reference: Mapping[int, Curve]) -> list[SpeedUp]:
    """Return the speed-up without each common seed in turn; empty for fewer than three.

    A handful of seeds gives no useful interval for a ratio of two first crossings. The change
    without one seed shows how much the ratio depends on that seed.
    """
    seeds = sorted(arm.keys() & reference.keys())
    if len(seeds) < 3:
        return []
    return [
        speed_up({s: c for s, c in arm.items() if s in seeds and s != out}, reference)
        for out in seeds
    ]


def _clustered(weighted: FloatArray, cluster: npt.NDArray[np.intp]) -> float:
    """Return the variance of a sum of weighted residuals with clusters; 0 for one cluster."""
    sums = np.bincount(cluster, weights=weighted)
    return float(np.sum(sums**2) * sums.size / (sums.size - 1)) if sums.size > 1 else 0.0


def _ratio(reference: float, arm: float) -> float:
    return reference / arm if arm > 0 else float("nan")

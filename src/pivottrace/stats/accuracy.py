"""Accuracy on held-out questions: avg@k, pass@k, and intervals clustered by question.

Samples of one question are alike, so a question is the unit that varies: k samples of Q questions
are Q observations, not Q x k. Only avg@k itself is from the paper, which gives no interval.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student_t

from pivottrace.errors import ConfigError, DataError
from pivottrace.stats.intervals import share_interval

FloatArray = npt.NDArray[np.float64]
LEVEL = 0.95


@dataclass(frozen=True)
class QuestionCounts:
    """Number of right samples of each question.

    Attributes:
        question_ids: Q ids, by order of first appearance.
        num_correct: (Q,) right samples, 0 to `num_samples`.
        num_samples: (Q,) samples, at least 1.
    """

    question_ids: tuple[str, ...]
    num_correct: FloatArray
    num_samples: FloatArray

    @property
    def means(self) -> FloatArray:
        """Each question's share of right samples, (Q,) in [0, 1]."""
        return self.num_correct / self.num_samples


@dataclass(frozen=True)
class Interval:
    """An estimate and its two-sided confidence interval, low <= mean <= high."""

    mean: float
    low: float
    high: float


def count_by_question(question_ids: Sequence[str], correct: Sequence[bool]) -> QuestionCounts:
    """Gather samples by question.

    Args:
        question_ids: (N,) the question of each sample, in any order.
        correct: (N,) whether each sample is right.

    Raises:
        DataError: The lengths differ, or there is no sample.
    """
    if len(question_ids) != len(correct):
        raise DataError(
            f"{len(question_ids)} question ids for {len(correct)} verdicts; give one each"
        )
    if not question_ids:
        raise DataError("there is no sample to evaluate; check that the evaluation has questions")
    place = {question_id: i for i, question_id in enumerate(dict.fromkeys(question_ids))}
    rows = np.array([place[question_id] for question_id in question_ids])
    right = np.bincount(rows, weights=np.asarray(correct, dtype=np.float64), minlength=len(place))
    samples = np.bincount(rows, minlength=len(place)).astype(np.float64)
    return QuestionCounts(tuple(place), right.astype(np.float64), samples)


def average_accuracy(counts: QuestionCounts, level: float = LEVEL) -> Interval:
    """Return avg@k, the mean of the questions' own shares, with an interval clustered by question.

    The interval is the Clopper-Pearson interval for an effective number of trials. That is the
    number of coin flips that vary like the questions' shares, p(1 - p) / SE^2, with SE the standard
    error clustered by question. It lies between Q (a question is all right or all wrong) and the
    number of samples (they are independent). If all samples are right, or all wrong, the data do
    not show how alike samples are. Then a question counts as one trial: 50 of 50 questions right
    give [0.93, 1], and never [1, 1].

    Args:
        counts: Right samples of each question; questions weigh the same.
        level: Chance that the interval holds the truth, in (0, 1).

    Returns:
        The share of right samples, in [0, 1], higher is better, with its interval.

    Raises:
        ConfigError: `level` is outside (0, 1).

    Source: Korn and Graubard (1998), without their correction of the degrees of freedom. Clustered
    standard errors as in Miller (2024, arXiv 2411.00640) and inspect_ai.
    """
    means = counts.means
    num_questions = means.size
    mean = float(means.mean())
    # Effective number of trials from the clustered variance of the mean.
    spread = mean * (1.0 - mean)
    variance = float(means.var(ddof=1)) / num_questions if num_questions > 1 else spread
    if spread <= 0.0:
        trials = float(num_questions)
    elif variance <= 0.0:
        trials = float(counts.num_samples.sum())
    else:
        trials = float(np.clip(spread / variance, num_questions, counts.num_samples.sum()))
    low, high = share_interval(mean * trials, trials, level)
    return Interval(mean, float(low), float(high))


def paired_difference(
    before: QuestionCounts, after: QuestionCounts, level: float = LEVEL
) -> Interval:
    """Return how much accuracy changed on the same questions, with a clustered interval.

    The interval is Student's t over the questions' differences. If every question changed by the
    same amount d, their variance is 0, which would give an interval without width. Then we assume
    that at most a share u of questions changes differently, with u the exact upper bound of 0 in Q.
    Each such question changes by at most the whole range, which gives [d - u(1 + d), d + u(1 - d)].
    50 unchanged questions give 0 within [-0.071, 0.071].

    Args:
        before: Counts before training.
        after: Counts after training; questions are matched by id, in any order.
        level: Chance that the interval holds the truth, in (0, 1).

    Returns:
        Mean of after - before over questions, in [-1, 1], with its interval within [-1, 1]. Above 0
        means better after training.

    Raises:
        ConfigError: `level` is outside (0, 1).
        DataError: The two have different questions.
    """
    if not 0.0 < level < 1.0:
        raise ConfigError(f"confidence {level} is not above 0 and below 1; 0.95 is the default")
    changes = _paired(after, before) - before.means
    num_questions = changes.size
    mean = float(changes.mean())
    tail = (1.0 - level) / 2.0
    error = float(changes.std(ddof=1)) / num_questions**0.5 if num_questions > 1 else 0.0
    if error < 1e-12:  # equal up to rounding
        unseen = 1.0 - tail ** (1.0 / num_questions)
        return Interval(mean, mean - unseen * (1.0 + mean), mean + unseen * (1.0 - mean))
    half = float(student_t.isf(tail, num_questions - 1)) * error
    return Interval(mean, max(-1.0, mean - half), min(1.0, mean + half))


def mean_over_sets(intervals: Sequence[Interval]) -> Interval:
    """Return the unweighted mean of independent estimates, with an interval from their own ones.

    A half of the interval is the root of the summed squares of the estimates' own halves on that
    side, over their number. So it is as honest as they are where a set is all right or all wrong.

    Args:
        intervals: (S,) the estimate of each set, at one confidence; S is at least 1.

    Returns:
        The mean with its interval. Every set weighs the same, whatever its number of questions.

    Raises:
        DataError: There is no set.

    Source: Zou and Donner (2008), variance estimates recovered from confidence limits.
    """
    if not intervals:
        raise DataError("there is no set to average over; check that the evaluation has questions")
    if len(intervals) == 1:
        return intervals[0]
    mean = float(np.mean([each.mean for each in intervals]))
    below = np.hypot.reduce([each.mean - each.low for each in intervals]) / len(intervals)
    above = np.hypot.reduce([each.high - each.mean for each in intervals]) / len(intervals)
    return Interval(mean, mean - float(below), mean + float(above))


def pass_at_k(counts: QuestionCounts, k: int) -> float:
    """Return the chance that at least one of k samples is right, averaged over questions.

    Args:
        counts: Right samples of each question.
        k: Number of samples drawn without replacement, 1 to the fewest samples of a question. k = 1
            gives avg@k.

    Returns:
        Unbiased estimate 1 - C(n - c, k) / C(n, k), in [0, 1], higher is better.

    Raises:
        DataError: `k` is outside its range.

    Source: Chen et al. (2021, arXiv 2107.03374), with their numerically stable product.
    """
    fewest = int(counts.num_samples.min())
    if not 1 <= k <= fewest:
        raise DataError(f"pass@{k} needs 1 <= k <= {fewest}, the fewest samples of a question")
    wrong = counts.num_samples - counts.num_correct
    # C(n - c, k) / C(n, k) is the product over i < k of (n - c - i) / (n - i); 0 if n - c < k.
    drawn = np.arange(k)[:, None]  # (k, 1)
    all_wrong = np.clip(wrong - drawn, 0.0, None) / (counts.num_samples - drawn)  # (k, Q)
    return float(1.0 - all_wrong.prod(axis=0).mean())


def _paired(counts: QuestionCounts, like: QuestionCounts) -> FloatArray:
    """Return the means of `counts` in the order of the questions of `like`."""
    place = {question_id: i for i, question_id in enumerate(counts.question_ids)}
    unmatched = set(place) ^ set(like.question_ids)
    if unmatched:
        raise DataError(
            f"before and after have different questions: {len(unmatched)} are in one only, such as "
            f"{min(unmatched)!r}. Evaluate both on the same evaluation table."
        )
    return counts.means[[place[question_id] for question_id in like.question_ids]]

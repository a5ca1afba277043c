"""Quality of a ranking of questions: AUROC, AUPRC, (partial) Spearman, all over resamples.

Axes: Q questions, B resamples (`stats.resampling`), K groups of tied scores. A weight is the number
of times that a question counts, at least 0. Weights of None are one resample in which each question
counts once. For every score, higher is more uncertain. If a metric is not defined (a class is
missing, a side is constant), its value is NaN, and `why_undefined` says why. All of it is ours,
because the paper's fragments do not name a measure of an estimator.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pivottrace.errors import DataError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

# A residual below this share of a variable's own variance is rounding, not information.
_RESIDUAL = 1e-9


def auroc(
    scores: npt.ArrayLike,
    wrong: npt.ArrayLike,
    weights: FloatArray | None = None,
    kinds: IntArray | None = None,
) -> FloatArray:
    """Return the chance that a wrong question scores above a right one; ties count half.

    Args:
        scores: (Q,) finite.
        wrong: (Q,) bool, whether the greedy answer is wrong; the score should find these questions.
        weights: (B, Q).
        kinds: (Q,) kind of each question; only questions of one kind are compared. By default all
            are of one.

    Returns:
        (B,) in [0, 1]; higher is better. 0.5 is chance (a constant score gives it). NaN if nothing
        or everything is wrong, in each kind.

    Raises:
        DataError: Lengths differ, or a score is not finite.

    Source: Mann and Whitney (1947).
    """
    values, target, counts = _checked(scores, wrong, weights)
    groups = np.zeros(values.size) if kinds is None else kinds
    above, pairs = np.zeros(len(counts)), np.zeros(len(counts))
    for group in np.unique(groups):
        rows = groups == group
        order, starts = tie_groups(values[rows])
        bad = _by_group(counts[:, rows] * target[rows], order, starts)  # (B, K)
        good = _by_group(counts[:, rows] * ~target[rows], order, starts)
        below = np.cumsum(good, axis=1) - good
        above += (bad * (below + good / 2.0)).sum(axis=1)
        pairs += bad.sum(axis=1) * good.sum(axis=1)
    return _divide(above, pairs)


def average_precision(
    scores: npt.ArrayLike,
    wrong: npt.ArrayLike,
    weights: FloatArray | None = None,
) -> FloatArray:
    """Return the area under the precision-recall curve, by steps: sum of precision x recall gained.

    A group of tied scores is one step, so the order within a tie makes no difference.

    Args:
        scores: (Q,) finite.
        wrong: (Q,) bool, the positives.
        weights: (B, Q).

    Returns:
        (B,) in (0, 1]; higher is better. The share of wrong questions is chance. NaN if nothing is
        wrong.

    Raises:
        DataError: Lengths differ, or a score is not finite.
    """
    values, target, counts = _checked(scores, wrong, weights)
    order, starts = tie_groups(-values)
    found = _by_group(counts * target, order, starts)  # (B, K)
    seen = np.cumsum(_by_group(counts, order, starts), axis=1)
    precision = np.cumsum(found, axis=1) / np.maximum(seen, 1.0)
    return _divide((found * precision).sum(axis=1), found.sum(axis=1))


def spearman(
    scores: npt.ArrayLike,
    truth: npt.ArrayLike,
    weights: FloatArray | None = None,
) -> FloatArray:
    """Return Spearman's rank correlation; tied values share their mean rank.

    Args:
        scores: (Q,) finite.
        truth: (Q,) finite, for example the sampled correctness.
        weights: (B, Q).

    Returns:
        (B,) in [-1, 1]; against correctness, -1 is best. NaN if a side is constant.

    Raises:
        DataError: Lengths differ, or a value is not finite.
    """
    return partial_spearman(scores, truth, (), weights)


def partial_spearman(
    scores: npt.ArrayLike,
    truth: npt.ArrayLike,
    controls: Sequence[npt.ArrayLike],
    weights: FloatArray | None = None,
) -> FloatArray:
    """Return Spearman's correlation of the parts of both sides that the controls do not explain.

    Scores, truth and controls are each replaced by their ranks. The ranks of scores and truth are
    regressed on the ranks of all controls together, and the residuals are correlated.

    Args:
        scores: (Q,) finite.
        truth: (Q,) finite.
        controls: Any number of (Q,), finite; constant controls explain nothing.
        weights: (B, Q).

    Returns:
        (B,) in [-1, 1]; NaN if a side is constant or the controls explain it fully.

    Raises:
        DataError: Lengths differ, or a value is not finite.
    """
    columns = [_finite(values) for values in (scores, truth, *controls)]
    if len({column.size for column in columns}) != 1:
        raise DataError(f"lengths {[c.size for c in columns]} differ; give one number per question")
    counts = _counts(weights, columns[0].size)
    ranks = np.stack([_centred(ranks_of(c, counts), counts) for c in columns], axis=1)
    # Covariances of the ranks: (B, 2 + controls, Q) to (B, 2 + controls, 2 + controls).
    covariance = (ranks * counts[:, None]) @ ranks.transpose(0, 2, 1)
    own = covariance[:, :2, :2]
    left = own
    if controls:
        across = covariance[:, :2, 2:]
        explained = np.linalg.pinv(covariance[:, 2:, 2:], rcond=1e-10, hermitian=True)
        left = own - across @ explained @ across.transpose(0, 2, 1)
    spread = left[:, [0, 1], [0, 1]]
    informative = spread > _RESIDUAL * own[:, [0, 1], [0, 1]]
    informative &= own[:, [0, 1], [0, 1]] > 0
    product = np.where(informative.all(axis=1), np.prod(np.maximum(spread, 0.0), axis=1), 0.0)
    return np.clip(_divide(left[:, 0, 1], np.sqrt(product)), -1.0, 1.0)


def ranks_of(values: FloatArray, weights: FloatArray) -> FloatArray:
    """Return ranks (B, Q) of values (Q,) in each resample, from 1; ties share their mean rank."""
    order, starts = tie_groups(values)
    sizes = _by_group(weights, order, starts)
    mean_rank = np.cumsum(sizes, axis=1) - (sizes - 1.0) / 2.0  # (B, K)
    # The tie group of each question, (Q,), spreads the mean rank of the group to its members.
    group = np.empty(values.size, dtype=np.int64)
    group[order] = np.repeat(np.arange(starts.size), np.diff(np.append(starts, values.size)))
    return mean_rank[:, group]


def tie_groups(values: FloatArray) -> tuple[IntArray, IntArray]:
    """Return the ascending order (Q,) and the start (K,) of each group of equal values in it."""
    order = np.argsort(values, kind="stable")
    ranked = values[order]
    starts = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1])[: values.size])
    return order, starts


def why_undefined(scores: npt.ArrayLike, wrong: npt.ArrayLike) -> str | None:
    """Say why a ranking of these questions by this score cannot be judged; None if it can."""
    values, target = np.asarray(scores, dtype=np.float64), np.asarray(wrong, dtype=np.bool_)
    values, target = values[np.isfinite(values)], target[np.isfinite(values)]
    if not values.size:
        return "no question has a score"
    if target.all() or not target.any():
        return f"every greedy answer is {'wrong' if target.all() else 'right'}"
    return "the score is constant" if np.ptp(values) == 0 else None


def _by_group(weights: FloatArray, order: IntArray, starts: IntArray) -> FloatArray:
    sums: FloatArray = np.add.reduceat(weights[:, order], starts, axis=1)
    return sums


def _centred(ranks: FloatArray, weights: FloatArray) -> FloatArray:
    total = weights.sum(axis=1, keepdims=True)
    mean: FloatArray = (ranks * weights).sum(axis=1, keepdims=True) / np.maximum(total, 1.0)
    return ranks - mean


def _divide(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    out = np.full(numerator.shape, np.nan)
    return np.divide(numerator, denominator, out=out, where=denominator > 0)


def _checked(
    scores: npt.ArrayLike, wrong: npt.ArrayLike, weights: FloatArray | None
) -> tuple[FloatArray, BoolArray, FloatArray]:
    values, target = _finite(scores), np.asarray(wrong, dtype=np.bool_)
    if target.shape != values.shape:
        raise DataError(f"{values.size} scores and {target.size} truths; give one per question")
    return values, target, _counts(weights, values.size)


def _counts(weights: FloatArray | None, num_questions: int) -> FloatArray:
    counts = np.ones((1, num_questions)) if weights is None else weights
    if counts.ndim != 2 or counts.shape[1] != num_questions:
        raise DataError(f"weights have shape {counts.shape}; there are {num_questions} questions")
    return counts


def _finite(values: npt.ArrayLike) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not array.size or not np.isfinite(array).all():
        raise DataError(
            f"an array of shape {array.shape} is not (Q,), is empty or is not finite; "
            "leave out questions without a score"
        )
    return array

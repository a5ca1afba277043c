"""Adaptive probes: half are spread evenly, the rest go where the first half shows a need.

All of it is ours; the paper's fragments say only that probes are drawn across the ranking.

The labels of the first probes decide which questions are drawn second, but only through the rank.
At any rank the probes are therefore still a fair sample of the questions there, so the curves and
their pointwise intervals hold. Means over a stretch (the weak route's floor, shares of the whole
pool) do not hold, because they count the steep part more. If votes get worse with risk, such a mean
errs towards a lower bound.
"""

import numpy as np
import numpy.typing as npt

from pivottrace.errors import DataError
from pivottrace.routing.curves import CalibrationCurve
from pivottrace.routing.probes import inclusion_chances, rank_order, systematic

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# A change is measured over this share of the ranking on either side. With 32 first probes a tenth
# holds three of them, and a change over less is mostly noise.
NEED_REACH = 0.1


def num_first_probes(num_probes: int) -> int:
    """Return how many probes an adaptive draw spreads evenly in its first stage: half."""
    return (num_probes + 1) // 2


def draw_more(
    scores: npt.ArrayLike, drawn: npt.ArrayLike, need: npt.ArrayLike, num_probes: int, seed: int
) -> IntArray:
    """Draw further probes where they are needed most: the second stage of an adaptive draw.

    This is systematic sampling with unequal chances, evenly along the ranking. The chance of a
    question that is not drawn yet is proportional to its need, and at most 1.

    Args:
        scores: (Q,) uncertainty; NaN marks a question without a score, which is never drawn.
        drawn: Indices that are probes already.
        need: (Q,) 0 or more, from `probe_need`. If every need is 0, the draw is even.
        num_probes: Number of further probes. All remaining questions are drawn if there are fewer.
        seed: Seed of the start, which is the only randomness.

    Returns:
        Distinct indices into `scores` in ranking order; none of them is in `drawn`.

    Raises:
        DataError: `scores` and `need` differ in shape, or a need is negative or NaN.

    Source: ours.
    """
    wanted = np.asarray(need, dtype=np.float64)  # (Q,)
    order = rank_order(scores)
    if wanted.shape != np.shape(scores) or not (wanted[order] >= 0).all():
        raise DataError("need must have a value of 0 or more for each scored question")
    left = order[~np.isin(order, np.asarray(drawn))]
    if num_probes >= left.size or num_probes <= 0:
        return left[: max(num_probes, 0)]
    # A small even part keeps every question in reach, and makes the draw even if no need is above
    # 0.
    weights = wanted[left] + 1e-3 * (wanted[left].mean() or 1.0)
    # The first stage has used the seed's first stream, so this one takes the second.
    start = np.random.default_rng([seed, 1]).random()
    return left[systematic(inclusion_chances(weights, num_probes), start)]


def probe_need(
    curve: CalibrationCurve, ranks: npt.ArrayLike, thresholds: tuple[float, ...]
) -> FloatArray:
    """Return how much a further probe is needed at each rank, after a first stage.

    The need is the change of correctness over the stretch around the rank. If the interval at the
    rank contains a threshold, its width is added, because the side of the threshold is still open.

    Args:
        curve: Calibration on the probes of the first stage.
        ranks: (Q,) in [0, 1]; NaN gives 0.
        thresholds: Values of correctness at which decisions change, such as mastered and hopeless.

    Returns:
        (Q,) in [0, 2]; a higher value means that a probe is needed more.

    Source: ours.
    """
    places = np.nan_to_num(np.asarray(ranks, dtype=np.float64), nan=0.5)
    # Functions from ranks (Q,) to the curve and to both ends of its interval (Q,).
    mu, low, high = (
        lambda u, v=v: np.interp(u, curve.ranks, v)
        for v in (curve.values.mu, curve.values.mu_low, curve.values.mu_high)
    )
    change = np.abs(mu(places + NEED_REACH) - mu(places - NEED_REACH))
    bottom, top = low(places), high(places)
    undecided = np.zeros(places.shape, dtype=np.bool_)
    for threshold in thresholds:
        undecided |= (bottom < threshold) & (threshold < top)
    need: FloatArray = change + np.where(undecided, top - bottom, 0.0)
    return np.where(np.isnan(np.asarray(ranks, dtype=np.float64)), 0.0, need)

"""Adaptive probes: half spread evenly, the rest where the first half shows that they are needed.

Ours throughout; the paper's fragments say only that probes are drawn across the ranking.

Which question is drawn second depends on the first ones' labels through the rank alone, so at any
rank probes are still a fair sample of the questions there: curves and their pointwise intervals
hold. Means over a stretch (the weak route's floor, shares of the whole pool) are not: they count
the steep part more. Where votes get worse with risk, that errs towards a lower bound.
"""

import numpy as np
import numpy.typing as npt

from pivottrace.errors import DataError
from pivottrace.routing.curves import CalibrationCurve
from pivottrace.routing.probes import rank_order

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# Over this much of the ranking to either side is a change measured: with 32 first probes a tenth
# holds three, and the change over less is mostly noise.
NEED_REACH = 0.1


def num_first_probes(num_probes: int) -> int:
    """Return how many of the probes an adaptive draw spreads evenly before it looks: half."""
    return (num_probes + 1) // 2


def draw_more(
    scores: npt.ArrayLike, drawn: npt.ArrayLike, need: npt.ArrayLike, num_probes: int, seed: int
) -> IntArray:
    """Draw further probes where they are needed most: the second stage of an adaptive draw.

    Systematic sampling with unequal chances: each question that is not drawn yet comes in with a
    chance proportional to its need, at most 1, evenly along the ranking.

    Args:
        scores: (Q,) uncertainty; NaN (no score) is never drawn.
        drawn: Indices that are probes already.
        need: (Q,) 0 or more (`probe_need`); where all is 0, the draw is even.
        num_probes: How many more; all that are left where there are fewer.
        seed: Of the start, the only randomness.

    Returns:
        Indices into `scores`, distinct, none of `drawn`, in ranking order.

    Raises:
        DataError: `scores` and `need` differ in shape, or a need is negative or NaN.

    Source: ours.
    """
    wanted = np.asarray(need, dtype=np.float64)
    order = rank_order(scores)
    if wanted.shape != np.shape(scores) or not (wanted[order] >= 0).all():
        raise DataError("need must have a value of 0 or more for each scored question")
    left = order[~np.isin(order, np.asarray(drawn))]
    if num_probes >= left.size or num_probes <= 0:
        return left[: max(num_probes, 0)]
    chance = _chances(wanted[left], num_probes)
    # A second stream of the seed: the first stage has used the first.
    start = np.random.default_rng([seed, 1]).random()
    ends = np.cumsum(chance)
    ends *= num_probes / ends[-1]  # rounding, or the last place might fall off the end
    return left[np.searchsorted(ends, start + np.arange(num_probes), side="right")]


def _chances(need: FloatArray, num: int) -> FloatArray:
    """Chances in proportion to need, none above 1, that add up to `num` (fewer than there are)."""
    # A trace of evenness: no question is out of reach, and no need at all means an even draw.
    weights = need + 1e-3 * (need.mean() or 1.0)
    sure = np.zeros(need.size, dtype=np.bool_)
    while True:
        chance = np.ones(need.size)
        chance[~sure] = weights[~sure] * (num - sure.sum()) / weights[~sure].sum()
        over = chance > 1.0
        if not over.any():
            return chance
        sure |= over


def probe_need(
    curve: CalibrationCurve, ranks: npt.ArrayLike, thresholds: tuple[float, ...]
) -> FloatArray:
    """Return how much a further probe is needed at each rank, after a first stage.

    The change of correctness over the stretch around it, plus the width of its interval wherever
    that leaves open on which side of a threshold it lies.

    Args:
        curve: Calibration on the first stage's probes.
        ranks: (Q,) in [0, 1]; NaN gives 0.
        thresholds: Correctness at which decisions change, such as mastered and hopeless.

    Returns:
        (Q,) 0 or more, at most 2; higher is needed more.

    Source: ours.
    """
    places = np.nan_to_num(np.asarray(ranks, dtype=np.float64), nan=0.5)
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

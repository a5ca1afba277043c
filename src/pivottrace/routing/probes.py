"""The place of each question in the ranking, and the questions that are drawn as probes.

The paper's (DE-Venus): rank the pool by uncertainty, draw a small probe set across the ranking.
Ours: systematic and stratified sampling, the number of probes, one shared rank for tied scores.
`routing.adaptive_draw` draws more probes where they are needed.
"""

import math
from typing import Literal

import numpy as np
import numpy.typing as npt

from pivottrace.errors import BudgetError, ConfigError, DataError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
MIN_PROBES, MAX_PROBES = 64, 256
PROBE_SHARE = 0.05  # docs/method.md
# Probes by value teach like other labels, so fewer of them are set apart: an eighth of the
# budget.
MIN_BY_VALUE, BUDGET_SHARE = 16, 1 / 8
# Added to each question's value, in units of p(1-p): a unanimous question is drawn rarely, but it
# is drawn, so that the whole ranking stays represented.
LEAST_VALUE = 0.002


def rank_order(scores: npt.ArrayLike) -> IntArray:
    """Return the indices of all scored questions, least uncertain first, ties by index.

    Args:
        scores: (Q,) uncertainty, higher is less certain; questions without a score (NaN) are left
            out.

    Returns:
        (Q',) int64, Q' <= Q.

    Raises:
        DataError: `scores` is not one-dimensional.
    """
    values = _scores(scores)
    scored = np.flatnonzero(~np.isnan(values))
    return scored[np.argsort(values[scored], kind="stable")].astype(np.int64)


def rank_fractions(scores: npt.ArrayLike) -> FloatArray:
    """Return each question's place in the ranking, u in (0, 1): low is certain, high is not.

    Tied scores share the middle of their places. So nothing read off the ranking separates
    questions that the score cannot separate, and the input order does not matter. (Many traces have
    no pivot at all, so a large tie at the certain end is the rule.)

    Args:
        scores: (Q,) uncertainty, higher is less certain; NaN gives NaN.

    Raises:
        DataError: `scores` is not one-dimensional.
    """
    values = _scores(scores)
    order = rank_order(values)
    fractions = np.full(values.size, np.nan)
    if order.size == 0:
        return fractions
    ranked = values[order]
    # Groups of tied scores: where each begins (G,), and its size (G,).
    first = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
    sizes = np.diff(np.append(first, ranked.size))
    fractions[order] = np.repeat((first + sizes / 2.0) / ranked.size, sizes)
    return fractions


def default_num_probes(pool_size: int, budget: int, by_value: bool = True) -> int:
    """Return how many probes to draw, within budget and pool.

    By value it is an eighth of the budget, 16 to 256; of a budget below 32 it is half, so that
    labels are left to choose with. Evenly it is 5 % of the pool, 64 to 256.

    Raises:
        BudgetError: The budget is negative.
        DataError: The pool size is negative.

    Source: docs/method.md (ours; the paper says only "small").
    """
    if budget < 0:
        raise BudgetError(f"the label budget is {budget}; give 0 or more")
    if pool_size < 0:
        raise DataError(f"the pool has {pool_size} questions; give 0 or more")
    if by_value:
        least = min(MIN_BY_VALUE, math.ceil(budget / 2))
        wanted = min(MAX_PROBES, max(least, math.ceil(BUDGET_SHARE * budget)))
    else:
        wanted = min(MAX_PROBES, max(MIN_PROBES, math.ceil(PROBE_SHARE * pool_size)))
    return min(wanted, budget, pool_size)


def draw_probes(
    scores: npt.ArrayLike,
    num_probes: int,
    seed: int,
    method: Literal["systematic", "strata"] = "systematic",
) -> IntArray:
    """Draw probes evenly over the ranking.

    The ranking is cut into `num_probes` equal stretches, and one question is drawn from each. So
    each scored question is drawn with the same chance (with strata, up to the rounding of a stretch
    to whole questions). The systematic draw takes the same place in each stretch, from one seeded
    start. The draw by strata takes a random place in each. Tied questions stand in input order.

    Args:
        scores: (Q,) uncertainty; questions without a score (NaN) are never drawn.
        num_probes: Number of probes. All scored questions are drawn if there are fewer.
        seed: Seed of the draw, which is the only randomness.
        method: The way in which the place in a stretch is chosen.

    Returns:
        Distinct indices into `scores`, in ranking order.

    Raises:
        ConfigError: `num_probes` is negative.
        DataError: `scores` is not one-dimensional.

    Source: DE-Venus ("across the ranking"); the sampling schemes are ours.
    """
    if num_probes < 0:
        raise ConfigError(f"num_probes is {num_probes}; give 0 or more")
    order = rank_order(scores)
    if num_probes >= order.size or num_probes == 0:
        return order[:num_probes]
    rng = np.random.default_rng(seed)
    step = order.size / num_probes
    if method == "strata":
        # Edges (num_probes + 1,) at the nearest whole question. The arithmetic is in integers,
        # because k * step in floats can fall short of a half.
        edges = (2 * order.size * np.arange(num_probes + 1) + num_probes) // (2 * num_probes)
        return order[rng.integers(edges[:-1], edges[1:])]
    start = rng.random() * step
    # The step is above 1, so neighbouring places never fall on the same question.
    places = np.floor(start + step * np.arange(num_probes)).astype(np.int64)
    return order[np.minimum(places, order.size - 1)]


def draw_by_value(
    scores: npt.ArrayLike, value: npt.ArrayLike, num_probes: int, seed: int
) -> tuple[IntArray, FloatArray]:
    """Draw probes along the ranking, with chances in proportion to the gains of their labels.

    This is systematic sampling with unequal chances. A question's chance is known, so the probes
    still represent the whole ranking: each counts for one over its chance.

    Args:
        scores: (Q,) uncertainty; questions without a score (NaN) are never drawn.
        value: (Q,) what a label is expected to teach, 0 or more. `LEAST_VALUE` is added.
        num_probes: Number of probes. All scored questions are drawn if there are fewer.
        seed: Seed of the start, which is the only randomness.

    Returns:
        Distinct indices in ranking order, and the chance (num_probes,) that each had.

    Raises:
        ConfigError: `num_probes` is negative.
        DataError: `scores` and `value` differ in shape.
    """
    if num_probes < 0:
        raise ConfigError(f"num_probes is {num_probes}; give 0 or more")
    order = rank_order(scores)
    worth = np.asarray(value, dtype=np.float64)
    if worth.shape != np.shape(scores):
        raise DataError(f"value has shape {worth.shape}; scores have {np.shape(scores)}")
    if num_probes >= order.size or num_probes == 0:
        return order[:num_probes], np.ones(min(num_probes, order.size))
    chance = inclusion_chances(np.fmax(worth[order], 0.0) + LEAST_VALUE, num_probes)
    chosen = systematic(chance, np.random.default_rng(seed).random())
    return order[chosen], chance[chosen]


def inclusion_chances(weights: FloatArray, num: int) -> FloatArray:
    """Return chances (L,) in proportion to weights above 0, none above 1, that add up to num < L.

    Questions whose chance would exceed 1 are drawn for sure. The rest is shared again among the
    others, until no chance exceeds 1.
    """
    sure = np.zeros(weights.size, dtype=np.bool_)
    while True:
        chance = np.ones(weights.size)
        chance[~sure] = weights[~sure] * (num - sure.sum()) / weights[~sure].sum()
        over = chance > 1.0
        if not over.any():
            return chance
        sure |= over


def systematic(chance: FloatArray, start: float) -> IntArray:
    """Return the questions that a systematic draw with these chances (L,) picks, in order.

    Lay the chances end to end and step through them in steps of 1 from the start, in [0, 1): each
    step picks the question whose stretch it falls in.
    """
    ends, num = np.cumsum(chance), int(np.round(chance.sum()))
    ends *= num / ends[-1]  # without this, rounding could push the last step off the end
    return np.searchsorted(ends, start + np.arange(num), side="right").astype(np.int64)


def _scores(scores: npt.ArrayLike) -> FloatArray:
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1:
        raise DataError(f"scores have shape {values.shape}; give one number per question, (Q,)")
    return values

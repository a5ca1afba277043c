"""Calibration: probe labels and a ranking give curves of correctness and vote reliability.

- The paper's (DE-Venus): thresholds are read off sliding-window statistics of the probes'
  correctness along the uncertainty ranking.
- Reconstructed or ours: the window's width, the intervals, vote reliability, learnability, and the
  floor held over a whole route by fixed-sequence testing.

`stats.windows` says how a window is made. A curve is linear between probes and constant beyond the
outermost ones.
"""

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from pivottrace.errors import ConfigError, DataError
from pivottrace.stats.intervals import fewest_trials, share_interval, share_lower_bound
from pivottrace.stats.windows import (
    MEAN_DECIMALS,
    default_window,
    interpolate,
    mean_known,
    window_sums,
    windows,
)

__all__ = [
    "CalibrationCurve",
    "CurveValues",
    "ProbeEvidence",
    "RouteFloor",
    "calibrate",
    "default_window",
    "route_reliability",
]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ProbeEvidence:
    """The evidence from the labels of n probes; all arrays are (n,), in any order.

    Attributes:
        ranks: Place in the ranking, u in (0, 1), low is certain (`probes.rank_fractions`).
        num_correct: Number of sampled rollouts whose answer is the true one.
        num_samples: Number of sampled rollouts, at least 2 (a single one says nothing about
            spread).
        vote_right: Whether the majority answer is the true one; False if the vote abstained.
        vote_abstained: Whether no answer won (a tie, or all answers are empty).
        vote_share: Share of the rollouts that gave the winning answer; NaN if no answer won.

    Raises:
        DataError: Lengths differ, or a value is impossible; the message names the probe.
    """

    ranks: FloatArray
    num_correct: IntArray
    num_samples: IntArray
    vote_right: BoolArray
    vote_abstained: BoolArray
    vote_share: FloatArray

    def __post_init__(self) -> None:
        shapes = {field.name: np.shape(getattr(self, field.name)) for field in fields(self)}
        if len(set(shapes.values())) != 1 or len(shapes["ranks"]) != 1:
            raise DataError(f"probe columns must be one-dimensional, of one length; got {shapes}")
        share = self.vote_share
        for wrong, problem in (
            (~((self.ranks >= 0) & (self.ranks <= 1)), "has no rank in [0, 1]; leave it out"),
            (self.num_samples < 2, "has fewer than 2 sampled rollouts; raise rollouts.num_samples"),
            (
                (self.num_correct < 0) | (self.num_correct > self.num_samples),
                "has num_correct outside 0 .. num_samples; count both on the same rollouts",
            ),
            (
                self.vote_right & self.vote_abstained,
                "has a right vote and an abstention at once; set vote_right to False",
            ),
            (
                ~(np.isnan(share) | ((share >= 0) & (share <= 1))),
                "has a vote_share outside [0, 1]; divide votes by rollouts",
            ),
        ):
            if np.any(wrong):
                raise DataError(f"probe {int(np.argmax(wrong))} {problem}")


@dataclass(frozen=True)
class CurveValues:
    """The curves at some ranks, each (Q,) float64; NaN where the rank is NaN.

    Attributes:
        mu: Window mean of the policy's correctness, in [0, 1].
        mu_low: Lower end of its interval.
        mu_high: Upper end of its interval.
        vote: Chance that the majority vote is right, in (0, 1); an abstention is not right. It is
            the posterior mean (right + 1/2) / (n + 1), because it enters expectations. The raw
            share of an all-right window would claim certainty.
        vote_low: Lower end of its interval.
        vote_high: Upper end of its interval.
        learnability: Window mean of the questions' p(1-p), in [0, 0.5].
        vote_share: Window mean of the winner's share; NaN if no probe of the pool had a winner.
    """

    mu: FloatArray
    mu_low: FloatArray
    mu_high: FloatArray
    vote: FloatArray
    vote_low: FloatArray
    vote_high: FloatArray
    learnability: FloatArray
    vote_share: FloatArray


@dataclass(frozen=True)
class CalibrationCurve:
    """Sliding-window curves along the ranking.

    Attributes:
        ranks: (K,) distinct probe ranks, ascending.
        window_sizes: (K,) number of probes in each point's window.
        values: The curves at `ranks`.
        level: Confidence of each interval, pointwise.
        num_probes: Number n of probes.
    """

    ranks: FloatArray
    window_sizes: IntArray
    values: CurveValues
    level: float
    num_probes: int

    def at(self, ranks: npt.ArrayLike) -> CurveValues:
        """Evaluate every curve at ranks (Q,): linear between probes, constant beyond them."""
        places = np.asarray(ranks, dtype=np.float64)
        return CurveValues(*interpolate(places, self.ranks, *vars(self.values).values()))


@dataclass(frozen=True)
class RouteFloor:
    """The stretch of the ranking over which the votes' reliability holds a floor.

    Attributes:
        end: Highest rank of the route, in [0, 1]; NaN if no route holds the floor.
        num_probes: Number of probes in the accepted route, or in the first route tested if none is
            accepted.
        num_right: Number of right votes among them.
        lower_bound: Exact lower bound of the mean reliability over that route; NaN if it was not
            tested.
        floor: The required floor.
        alpha: Upper limit of the chance that a route below the floor is accepted.
    """

    end: float
    num_probes: int
    num_right: int
    lower_bound: float
    floor: float
    alpha: float


def calibrate(
    probes: ProbeEvidence, window: int | None = None, level: float = 0.9
) -> CalibrationCurve:
    """Read the curves of correctness, vote reliability and learnability off the probes.

    Intervals are pointwise Clopper-Pearson. For the vote a probe is one coin flip. For mu a probe
    is one coin flip too, with the value num_correct/num_samples, because questions are the
    clusters: further rollouts of a question do not add to the number of questions seen. This is the
    worst case for values in [0, 1]. The interval for mu is exact if every question is always right
    or always wrong, and wider than necessary otherwise. The slack pays for smoothing bias.

    Learnability is the window's mean of p(1-p)·G/(G-1), which is unbiased for each question. The
    formula at the window's mean would be wrong: questions half at 0 and half at 1 teach nothing.

    Args:
        probes: At least one labelled probe.
        window: Width in probes; None means `default_window` of their number.
        level: Confidence of each pointwise interval.

    Raises:
        ConfigError: The window is below 1, or the level is outside (0, 1).
        DataError: There is no probe.

    Source: DE-Venus (sliding window of correctness); Prop. 1 of the paper (mu(1-mu)); the
        intervals, the vote's curve and the per-question mean are ours.
    """
    num_probes = probes.ranks.size
    if num_probes == 0:
        raise DataError("no labelled probe to calibrate on; label the probe file first")
    if window is not None and window < 1:
        raise ConfigError(f"window is {window}; give at least 1 probe")
    # Sort the probes by rank. Window k holds the sorted probes low[k]:high[k] around knot k, (K,).
    order = np.argsort(probes.ranks, kind="stable")
    knots, low, high = windows(probes.ranks[order], window or default_window(num_probes))
    sizes = (high - low).astype(np.float64)

    # Per probe (n,): the share of right samples, and the unbiased p(1-p).
    samples = probes.num_samples[order].astype(np.float64)
    correct = probes.num_correct[order] / samples
    spread = correct * (1.0 - correct) * samples / (samples - 1.0)
    # Per window (K,): means and their intervals.
    mu = window_sums(correct, low, high) / sizes
    num_right = window_sums(probes.vote_right[order].astype(np.float64), low, high)
    mu_low, mu_high = share_interval(np.round(mu * sizes, MEAN_DECIMALS), sizes, level)
    vote_low, vote_high = share_interval(num_right, sizes, level)
    values = CurveValues(
        mu=np.round(mu, MEAN_DECIMALS),
        mu_low=mu_low,
        mu_high=mu_high,
        vote=(num_right + 0.5) / (sizes + 1.0),
        vote_low=vote_low,
        vote_high=vote_high,
        learnability=np.round(window_sums(spread, low, high) / sizes, MEAN_DECIMALS),
        vote_share=mean_known(probes.vote_share[order], low, high),
    )
    return CalibrationCurve(knots, high - low, values, level, num_probes)


def route_reliability(
    ranks: npt.ArrayLike, vote_right: npt.ArrayLike, *, floor: float, alpha: float = 0.1
) -> RouteFloor:
    """Extend a route up the ranking for as long as its votes' reliability holds the floor.

    This is fixed-sequence testing. The routes tested are the first j probes along the ranking, with
    growing j. The first route is a third of the given probes, but at least as many as could pass if
    all votes were right. Then each probe is added in turn; tied probes are added together. A route
    is accepted if the exact lower bound of its mean reliability, at confidence 1 - alpha, is at
    least `floor`. Testing stops at the first route that is not accepted, and the last accepted one
    counts.

    Guarantee: the number of probes and their ranks fix the sequence, not the votes, so the many
    tests need no correction. With probability at least 1 - alpha over the draw of the probes, the
    mean vote reliability of *every* accepted route is at least `floor`. The statement is about the
    mean of the whole route, not about each stretch in it, and about the questions that the probes
    were drawn from. If the caller chose the stretch by the same probes, or takes rows out of the
    route afterwards, the statement holds only for the route as tested.

    Args:
        ranks: (n,) ranks of the probes in the stretch that is to be weak, in any order.
        vote_right: (n,) bool; an abstention counts as not right.
        floor: Required reliability, in (0, 1).
        alpha: Chance of a wrong acceptance, in (0, 1).

    Raises:
        ConfigError: `floor` or `alpha` is outside (0, 1).
        DataError: The lengths differ, or a rank is NaN.

    Source: docs/method.md (ours); fixed-sequence testing is standard (Maurer et al. 1995;
        Angelopoulos et al. 2021, "Learn then Test").
    """
    places = np.asarray(ranks, dtype=np.float64)
    right = np.asarray(vote_right, dtype=np.bool_)
    if places.shape != right.shape or places.ndim != 1:
        raise DataError(f"ranks {places.shape} and vote_right {right.shape} must match, (n,)")
    if np.isnan(places).any():
        raise DataError("a probe without a rank cannot be on a route; leave it out")
    # Lengths (R,) of the routes to test: a route ends after the last of a run of tied ranks.
    smallest = fewest_trials(floor, alpha)
    order = np.argsort(places, kind="stable")
    places, right = places[order], right[order]
    lengths = np.flatnonzero(np.append(places[1:] != places[:-1], places.size > 0)) + 1
    lengths = lengths[lengths >= max(smallest, -(-places.size // 3))]
    if lengths.size == 0:
        return RouteFloor(np.nan, places.size, int(right.sum()), np.nan, floor, alpha)
    num_right = np.cumsum(right)[lengths - 1]
    bounds = share_lower_bound(num_right, lengths, alpha)
    # The bound of an all-right route of the smallest length may miss the floor by rounding.
    held = bounds >= floor - 1e-12
    accepted = int(held.size if held.all() else np.argmin(held))
    last = max(accepted - 1, 0)
    end = np.nan if accepted == 0 else float(places[lengths[last] - 1])
    return RouteFloor(
        end, int(lengths[last]), int(num_right[last]), float(bounds[last]), floor, alpha
    )

"""Probe labels and the ranking in, curves of correctness and vote reliability with intervals out.

The paper's (DE-Venus): thresholds are read off sliding-window statistics of the probes'
correctness along the uncertainty ranking.
Reconstructed or ours: the window's width, the intervals, vote reliability, learnability, and the
floor held over a whole route by fixed-sequence testing.
How a window is made: `stats.windows`. Between probes the curve is linear, beyond the outermost ones
constant.
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
    """What the labels of n probes say; all arrays (n,), in any order.

    Attributes:
        ranks: Place in the ranking, u in (0, 1), low is certain (`probes.rank_fractions`).
        num_correct: Sampled rollouts whose answer is the true one.
        num_samples: Sampled rollouts, at least 2 (one says nothing about spread).
        vote_right: The majority answer is the true one; False where the vote abstained.
        vote_abstained: No answer won (tie, or all empty).
        vote_share: Share of the rollouts behind the winning answer; NaN where none won.

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
        mu: The policy's correctness, window mean, in [0, 1].
        mu_low: Lower end of its interval.
        mu_high: Upper end of its interval.
        vote: Chance that the majority vote is right (an abstention is not right), in (0, 1): the
            posterior mean (right + 1/2) / (n + 1), because it enters expectations, where the raw
            share of an all-right window would claim certainty.
        vote_low: Lower end of its interval.
        vote_high: Upper end of its interval.
        learnability: Window mean of p(1-p) of each question, in [0, 0.5].
        vote_share: Window mean of the winner's share; NaN where no probe of the pool had a winner.
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
        window_sizes: (K,) probes behind each point.
        values: The curves at `ranks`.
        level: Confidence of each interval, pointwise.
        num_probes: N.
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
    """How far up the ranking the votes' reliability holds a floor.

    Attributes:
        end: Highest rank of the route, in [0, 1]; NaN when the floor holds nowhere.
        num_probes: Probes of the accepted route (of the first one tested when none is).
        num_right: Right votes among them.
        lower_bound: Exact lower bound of the mean reliability over that route; NaN if untested.
        floor: The floor asked for.
        alpha: Chance at most of accepting a route below the floor.
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
    is one coin flip too, of value num_correct/num_samples: questions are the clusters, and
    rollouts of one question add nothing to how many questions were seen. This is the worst case
    for values in [0, 1], so the interval for mu is wider than need be where questions are neither
    always right nor always wrong, and is right where they are; the slack pays for smoothing bias.

    Learnability is the window's mean of p(1-p)·G/(G-1) (unbiased for each question), not the
    formula at the window's mean: half at 0 and half at 1 teach nothing.

    Args:
        probes: At least one labelled probe.
        window: Width in probes; `default_window` of their number when None.
        level: Confidence of each pointwise interval.

    Raises:
        ConfigError: A window below 1 or a level outside (0, 1).
        DataError: No probe.

    Source: DE-Venus (sliding window of correctness); Prop. 1 of the paper (mu(1-mu)); the
        intervals, the vote's curve and the per-question mean are ours.
    """
    num_probes = probes.ranks.size
    if num_probes == 0:
        raise DataError("no labelled probe to calibrate on; label the probe file first")
    if window is not None and window < 1:
        raise ConfigError(f"window is {window}; give at least 1 probe")
    order = np.argsort(probes.ranks, kind="stable")
    knots, low, high = windows(probes.ranks[order], window or default_window(num_probes))
    sizes = (high - low).astype(np.float64)

    samples = probes.num_samples[order].astype(np.float64)
    correct = probes.num_correct[order] / samples
    spread = correct * (1.0 - correct) * samples / (samples - 1.0)
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

    Fixed-sequence testing. The routes tested are the first j probes along the ranking, j growing:
    the first is a third of the probes given, but never fewer than could pass if all were right;
    then each probe is added in turn (tied ones together). A route is accepted when the exact lower
    bound, at confidence 1 - alpha, of its mean reliability is at least `floor`; testing stops at
    the first that is not, and the last accepted one counts.

    What is guaranteed: the sequence is fixed by the number of probes and their ranks, not by the
    votes, so no correction for the many tests is due; with probability at least 1 - alpha over the
    draw of the probes, *every* accepted route's mean vote reliability is at least `floor`. It
    speaks of the whole route's mean, not of each stretch in it, and of the questions that the
    probes were drawn from: if the caller chose the stretch by the same probes, or takes rows out
    of the route afterwards, the statement holds for the route as tested only.

    Args:
        ranks: (n,) the probes' ranks, in any order: only those of the stretch that is to be weak.
        vote_right: (n,) bool; an abstention counts as not right.
        floor: Reliability to hold, in (0, 1).
        alpha: Chance of a wrong acceptance, in (0, 1).

    Raises:
        ConfigError: Floor or alpha outside (0, 1).
        DataError: Lengths differ, or a rank is NaN.

    Source: docs/method.md (ours); fixed-sequence testing is standard (Maurer
        et al. 1995; Angelopoulos et al. 2021, "Learn then Test").
    """
    places = np.asarray(ranks, dtype=np.float64)
    right = np.asarray(vote_right, dtype=np.bool_)
    if places.shape != right.shape or places.ndim != 1:
        raise DataError(f"ranks {places.shape} and vote_right {right.shape} must match, (n,)")
    if np.isnan(places).any():
        raise DataError("a probe without a rank cannot be on a route; leave it out")
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

"""The votes that are safe to train on: their reliability by agreement and rank, and its floor.

All of it is ours (docs/method.md); the paper's fragments say only that the middle of the ranking is
trained on self-made labels.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pivottrace.routing.curves import (
    CalibrationCurve,
    CurveValues,
    ProbeEvidence,
    RouteFloor,
    calibrate,
    route_reliability,
)
from pivottrace.routing.routes import TriageOptions
from pivottrace.stats.windows import interpolate

FloatArray = npt.NDArray[np.float64]


def vote_risk(ranks: npt.ArrayLike, vote_share: npt.ArrayLike) -> FloatArray:
    """Return the risk of each vote, low is safe: the mean of its rank and the share that disagrees.

    Either part alone fails somewhere. The samples agree on a confidently wrong vote, but its rank
    is high if the ranking is any good. If the ranking is poor, agreement still helps.

    Args:
        ranks: (Q,) places in the ranking, in [0, 1].
        vote_share: (Q,) share of a question's samples that gave its vote; NaN without a vote.

    Returns:
        (Q,) in [0, 1]; NaN if either input is NaN.
    """
    disagree = 1.0 - np.asarray(vote_share, dtype=np.float64)
    risk: FloatArray = (np.asarray(ranks, dtype=np.float64) + disagree) / 2.0
    return risk


def weak_route(
    probes: ProbeEvidence, curve: CalibrationCurve, options: TriageOptions | None = None
) -> RouteFloor:
    """Find the highest risk up to which votes hold the floor, by testing probes that could be weak.

    Probes that would be discarded, such as unanimous ones, are left out: their votes are good and
    would flatter the route. `route_reliability` states the guarantee. It is approximate for the
    rows that end up weak, for two reasons: a curve of the same probes decides whether a probe is
    open, and annotation then takes out the most valuable rows. A test simulates this.

    Returns:
        The floor along `vote_risk`. A question's vote holds if its risk is at most `end`.
    """
    options = options or TriageOptions()
    values, share = curve.at(probes.ranks), probes.vote_share
    # (n,) probes with a split vote that are neither hopeless nor mastered.
    open_ = ~probes.vote_abstained & (share < 1.0) & (values.mu > options.hopeless_ceiling)
    open_ &= ~options.is_mastered(values.mu, share)
    return route_reliability(
        vote_risk(probes.ranks, share)[open_],
        probes.vote_right[open_],
        floor=options.vote_floor,
        alpha=options.vote_alpha,
    )


def with_own_votes(
    values: CurveValues,
    probes: ProbeEvidence,
    ranks: npt.ArrayLike,
    vote_share: npt.ArrayLike,
    **settings: Any,
) -> CurveValues:
    """Put the vote's reliability at each question's own risk into the curve's values.

    The same sliding window moves over the same probes, but along `vote_risk` in place of the rank.
    A probe whose vote abstained counts as a vote with a share of 0. Questions without a stored
    share keep the reliability at their rank.

    Args:
        values: The curve at the questions' ranks, (Q,).
        probes: The labelled probes.
        ranks: (Q,) the questions' ranks.
        vote_share: (Q,) shares of the winning answers; NaN if no share is stored or no answer won.
        **settings: `window` and `level`, as for `calibrate`.
    """
    shares = np.where(probes.vote_abstained, 0.0, probes.vote_share)
    along = replace(probes, ranks=vote_risk(probes.ranks, shares))
    own, risk = calibrate(along, **settings), vote_risk(ranks, vote_share)
    known = ~np.isnan(risk)

    names = ("vote", "vote_low", "vote_high")
    found = interpolate(risk, own.ranks, *(getattr(own.values, name) for name in names))
    return replace(
        values,
        **{
            name: np.where(known, at_own_risk, getattr(values, name))
            for name, at_own_risk in zip(names, found, strict=True)
        },
    )

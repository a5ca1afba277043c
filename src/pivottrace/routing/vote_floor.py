"""Which votes are safe to train on: their reliability by how many samples agree, and the floor.

Ours throughout (docs/method.md); the paper's fragments say only that the middle
of the ranking is trained on self-made labels.
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
    """What votes are ordered by, low is safe: the mean of the rank and of the share that disagrees.

    Either alone fails somewhere: a confidently wrong vote is agreed on but has a high rank where
    the ranking is any good; where it is not, agreement still tells.

    Args:
        ranks: (Q,) places in the ranking, in [0, 1].
        vote_share: (Q,) share of a question's samples behind its vote; NaN where there is no vote.

    Returns:
        (Q,) in [0, 1]; NaN where either is.
    """
    disagree = 1.0 - np.asarray(vote_share, dtype=np.float64)
    risk: FloatArray = (np.asarray(ranks, dtype=np.float64) + disagree) / 2.0
    return risk


def weak_route(
    probes: ProbeEvidence, curve: CalibrationCurve, options: TriageOptions | None = None
) -> RouteFloor:
    """Test up to which risk pseudo-labels hold the floor, on probes that could be weak.

    Probes that would be discarded, unanimous ones among them, are left out: they vote well and
    would flatter the route. `route_reliability` says what is guaranteed; whether a probe is open is
    read off a curve of the same probes, and annotation then takes the most valuable rows out, so
    for the rows that end up weak the guarantee is approximate (a test simulates it).

    Returns:
        The floor along `vote_risk`; a question's vote holds where its risk is at most `end`.
    """
    options = options or TriageOptions()
    values, share = curve.at(probes.ranks), probes.vote_share
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

    The same sliding window over the same probes, slid along `vote_risk` in place of the rank; a
    probe whose vote abstained counts as one that nobody agrees with. Questions without a stored
    share keep the reliability at their rank.

    Args:
        values: The curve at the questions' ranks, (Q,).
        probes: The labelled probes.
        ranks: (Q,) the questions' ranks.
        vote_share: (Q,), NaN where none is stored or none won.
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

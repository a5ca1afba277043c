"""The votes that hold a promised floor: their risk by agreement and rank, and the exact test.

All of it is ours (docs/method.md); the paper's fragments say only that the middle of the ranking is
trained on self-made labels.
"""

import numpy as np
import numpy.typing as npt

from pivottrace.routing.curves import ProbeEvidence, RouteFloor, route_reliability

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


def weak_route(probes: ProbeEvidence, floor: float, alpha: float) -> RouteFloor:
    """Find the highest risk up to which votes hold the floor, by testing probes that could be weak.

    Unanimous probes are left out: their votes are good, they are rarely trained on, and they would
    flatter the route. `route_reliability` states the guarantee. It is approximate for the rows that
    end up weak, because annotation then takes out the most valuable rows. A test simulates this.

    Args:
        probes: Probes that were drawn evenly along the ranking.
        floor: Required share of right votes, in (0, 1).
        alpha: Chance that the route misses it, in (0, 1).

    Returns:
        The floor along `vote_risk`. A question's vote holds if its risk is at most `end`.
    """
    split = ~probes.vote_abstained & (probes.vote_share < 1.0)  # (n,)
    return route_reliability(
        vote_risk(probes.ranks, probes.vote_share)[split],
        probes.vote_right[split],
        floor=floor,
        alpha=alpha,
    )

"""When to stop sampling a question: at the first step at which its leading answer is sure to lead.

Sampling goes in steps of about a quarter, a half and all of the samples. Between the steps, the
rule reads the question's samples and the place of its trace in the pool's ranking. It is fixed
before any label, so that labels cannot change what is sampled.

The rule is Adaptive-Consistency's (Aggarwal et al. 2023, arXiv 2305.11860, the Beta rule): between
the leading answer and the next one, the share of the leader has the posterior Beta(n1 + A, n2 + B),
and sampling stops if the leader is ahead (share above 0.5) with enough certainty. Deviation: they
take A = B = 1, and we take the trace into the prior. It certifies that the leader stays the most
frequent answer, never that it is right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import betainc

FloatArray = npt.NDArray[np.float64]
FEWEST = 4  # samples of the first step: fewer say too little even if they agree
NO_RANK = 0.5  # the place in the ranking of a question that has none


@dataclass(frozen=True)
class StoppingRule:
    """The constants of the rule.

    Attributes:
        strength: Pseudo-counts k that the trace divides between the leader and the next answer.
        certainty: Sampling stops from this posterior chance on that the leader is ahead.
    """

    strength: float = 2.0
    certainty: float = 0.95


def sampling_steps(num_samples: int) -> tuple[int, ...]:
    """The number of samples after each step: about a quarter, a half and all of `num_samples`.

    Quarter and half are rounded up. Those below four samples are left out, so up to six samples
    are one step.

    Args:
        num_samples: The most samples of a question, at least 1.
    """
    parts = (-(-num_samples // 4), -(-num_samples // 2))
    return (*(part for part in parts if FEWEST <= part < num_samples), num_samples)


def leader_stays(
    counts: npt.ArrayLike, greedy_class: npt.ArrayLike, rank: npt.ArrayLike, rule: StoppingRule
) -> FloatArray:
    """The posterior chance (Q,) that a question's leading answer is ahead of the next one.

    The prior is A = 1 + k(1-u) for the leader and B = 1 + ku for its rival, with u the place in the
    ranking. If the greedy answer does not lead, the two change places.

    Args:
        counts: (Q, K) sizes of the classes of equal answers, the largest first, 0 where there is no
            further class. K is at least 2.
        greedy_class: (Q,) place of the greedy answer's class in `counts`; -1 without one.
        rank: (Q,) place in the ranking, in (0, 1), low is certain; NaN counts as 0.5.
        rule: The constants.
    """
    sizes = np.asarray(counts, dtype=np.float64)
    place = np.nan_to_num(np.asarray(rank, dtype=np.float64), nan=NO_RANK)
    leads = np.asarray(greedy_class) == 0
    trusted, rival = 1.0 + rule.strength * (1.0 - place), 1.0 + rule.strength * place
    first = sizes[:, 0] + np.where(leads, trusted, rival)
    second = sizes[:, 1] + np.where(leads, rival, trusted)
    chance: FloatArray = 1.0 - betainc(first, second, 0.5)
    return chance


def goes_on(
    counts: npt.ArrayLike,
    greedy_class: npt.ArrayLike,
    rank: npt.ArrayLike,
    num_sampled: npt.ArrayLike,
    rule: StoppingRule,
) -> npt.NDArray[np.bool_]:
    """Whether each question (Q,) is sampled further.

    Args:
        counts: As in `leader_stays`.
        greedy_class: As in `leader_stays`.
        rank: As in `leader_stays`.
        num_sampled: (Q,) samples so far, answered or not. A question without a sample goes on.
        rule: The constants.
    """
    sure = leader_stays(counts, greedy_class, rank, rule) >= rule.certainty
    result: npt.NDArray[np.bool_] = ~sure | (np.asarray(num_sampled) == 0)
    return result

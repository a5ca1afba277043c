"""When to stop sampling a question: as soon as further samples would hardly change its route.

Sampling goes in steps of about a quarter, a half and all of the samples. Between the steps, the
rule reads the question's samples and their forecast by its trace (`routing.agreement`). It is
fixed before any label, so that labels cannot change what is sampled.

- If all samples agree with the greedy answer, the vote is clear, and only the spread p(1-p) of the
  question is unknown: how much is left to learn. Sampling goes on if the trace and the samples let
  expect much of it.
- If they differ, the leading answer is unknown. Sampling goes on until it is sure to lead. After
  the first step it stops, too, if no answer has more than half of the samples: a label is then
  worth more than a vote of any number of samples.

The second rule is Adaptive-Consistency's (Aggarwal et al. 2023, arXiv 2305.11860, the Beta rule):
between the leading answer and the next one, the share of the leader has the posterior Beta(n1 + A,
n2 + B), and it leads for sure if this share is above 0.5 with enough certainty. They take A = B =
1; we take the trace's prior. It certifies that the leader stays the most frequent answer, never
that it is right. The first rule, and the last sentence of the second, are ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import betainc

FloatArray = npt.NDArray[np.float64]
FEWEST = 4  # samples of the first step: fewer say too little even if they agree


@dataclass(frozen=True)
class StoppingRule:
    """The constants of the rule, chosen on development pools (docs/results/triage-quality.md).

    Attributes:
        spread: A unanimous question goes on if its expected p(1-p) is above this, divided by the
            number of its samples.
        certainty: A split question stops from this posterior chance on that its leader leads.
        least_prior: Both parts of the trace's prior count for at least this many samples when
            leaders are compared, so that no trace decides alone.
    """

    spread: float = 0.34
    certainty: float = 0.95
    least_prior: float = 0.5


def sampling_steps(num_samples: int) -> tuple[int, ...]:
    """The number of samples after each step: about a quarter, a half and all of `num_samples`.

    Quarter and half are rounded up. Those below four samples are left out, so up to six samples
    are one step.

    Args:
        num_samples: The most samples of a question, at least 1.
    """
    parts = (-(-num_samples // 4), -(-num_samples // 2))
    return (*(part for part in parts if FEWEST <= part < num_samples), num_samples)


def goes_on(
    counts: npt.ArrayLike,
    greedy_class: npt.ArrayLike,
    prior: tuple[FloatArray, FloatArray],
    num_sampled: npt.ArrayLike,
    is_first: bool,
    rule: StoppingRule,
) -> npt.NDArray[np.bool_]:
    """Whether each question (Q,) is sampled further.

    Args:
        counts: (Q, K) sizes of the classes of equal answers, the largest first, 0 where there is no
            further class. K is at least 2.
        greedy_class: (Q,) place of the greedy answer's class in `counts`; another number without
            one.
        prior: Both parameters (Q,) of the Beta prior of the greedy answer's share.
        num_sampled: (Q,) samples so far, answered or not. A question without a sample goes on.
        is_first: Whether this is the end of the first step, after which every split question goes
            on: so few samples say little of who leads.
        rule: The constants.
    """
    sizes, total = np.asarray(counts, dtype=np.float64), np.asarray(num_sampled, dtype=np.float64)
    first = sizes[:, 0]
    leads = np.asarray(greedy_class) == 0
    unanimous = leads & (first == total) & (total > 0)
    a, b = prior[0] + first, prior[1] + total - first
    spread = a * b / ((a + b) * (a + b + 1.0))
    expects_more = spread * total > rule.spread
    unsure = leader_stays(sizes, leads, prior, rule) < rule.certainty
    undecided = unsure & (2.0 * first > total)
    result: npt.NDArray[np.bool_] = np.where(
        unanimous, expects_more, is_first | undecided | (total == 0)
    )
    return result


def leader_stays(
    counts: npt.ArrayLike,
    leads: npt.ArrayLike,
    prior: tuple[FloatArray, FloatArray],
    rule: StoppingRule,
) -> FloatArray:
    """The posterior chance (Q,) that a question's leading answer is ahead of the next one.

    Args:
        counts: As in `goes_on`.
        leads: (Q,) bool, whether the greedy answer leads. If it does not, the trace has no say.
        prior: As in `goes_on`.
        rule: The constants.
    """
    sizes = np.asarray(counts, dtype=np.float64)
    least = rule.least_prior
    own, others = (np.where(leads, np.maximum(each, least), least) for each in prior)
    chance: FloatArray = 1.0 - betainc(sizes[:, 0] + own, sizes[:, 1] + others, 0.5)
    return chance

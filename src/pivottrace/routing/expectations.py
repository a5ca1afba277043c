"""The expectations of each question: its correctness, its vote, the gains of a label and a vote.

- The paper's (Prop. 1, appendix A.1): the improvement that a question can reach under a trust
  region grows with mu(1 - mu), where mu is its expected reward.
- Ours: the expectation over which answer is right (`vote_model`) and over the shares of the answers
  (`agreement`), and the loss that a wrong vote causes.

If the right answer has share mu among all samples, GRPO on a true label teaches mu(1 - mu), the
variance of the reward. A vote for the answer with share p teaches the same if it is right. If it is
wrong, it takes p mu away: the covariance of its reward with the true one, by the policy gradient.
(Gains are in these units: 0.25 is the most that a question can teach.)

The reward by a vote foretells the true reward only in part. The best linear forecast has the slope
of a regression, covariance over variance: the gain of the vote, divided by p(1-p). A weak row has
this weight. If only two answers are possible, it is 2P - 1, P being the chance that the vote is
right. If many are, a wrong vote harms less, and the weight is higher.

The shares have a Dirichlet posterior. The greedy answer's class has the prior a of `agreement`, and
b is divided equally among the other classes and an answer that no sample gave. Such an answer is
right with the chance of "none". Half of its part of b is taken for its share, since the model may
never give it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pivottrace.routing.answer_counts import AnswerCounts
from pivottrace.routing.vote_model import NONE, AnswerChances

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# Gains are rounded before they are compared, so that equal ones tie whatever their last digit is.
GAIN_DECIMALS = 9


@dataclass(frozen=True)
class Expectations:
    """The expectations of Q questions, each (Q,) float64; NaN where nothing is known.

    Attributes:
        mu: The share of right samples, in [0, 1].
        vote: The chance that the vote is right, in [0, 1].
        vote_low: Lower end of its interval.
        vote_high: Upper end of its interval.
        label_gain: The learning that the true answer brings, in [0, 0.25].
        vote_gain: The learning that the vote brings in its place, in [-0.25, 0.25]; negative if it
            is expected to do more harm than good.
        vote_weight: The slope of the true reward on the reward by the vote, in [0, 1]; above 0 if
            and only if `vote_gain` is.
    """

    mu: FloatArray
    vote: FloatArray
    vote_low: FloatArray
    vote_high: FloatArray
    label_gain: FloatArray
    vote_gain: FloatArray
    vote_weight: FloatArray


def expect(
    chances: AnswerChances, prior: tuple[FloatArray, FloatArray]
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return (mu, label_gain, vote_gain, vote_weight), each (Q,), as in `Expectations`.

    Args:
        chances: Of each answer to be the right one.
        prior: Both parameters (Q,) of the Beta prior of the greedy answer's share.
    """
    counts, pattern, terms = chances.counts, chances.counts.pattern, chances.terms
    sizes, greedy = np.nan_to_num(counts.sizes), counts.is_greedy
    a, beta, total = _pseudo_counts(counts, prior)
    # Sums over the other classes of term n^k, (P,), then (Q,). A class has n + beta pseudo-counts.
    zeroth, first, second = (
        np.where(greedy, 0.0, terms * sizes**power).sum(axis=1)[pattern] for power in range(3)
    )
    own_term = np.where(greedy, terms, 0.0).sum(axis=1)[pattern] / chances.doubt
    none_term = chances.none * chances.doubt
    own, unseen = counts.agreeing[pattern] + a, beta / 2.0
    scale = 1.0 / chances.total
    # The right answer's expected pseudo-counts, and their mean square.
    mean = scale * (first + beta * zeroth + own_term * own + none_term * unseen)
    square = scale * (
        second + 2.0 * beta * first + beta**2 * zeroth + own_term * own**2 + none_term * unseen**2
    )
    spread = total * (total + 1.0)  # E[p_i p_j] = alpha_i alpha_j / spread, i != j
    label = (mean * total - square) / spread
    leads = (counts.greedy == 0)[pattern]
    lead = sizes[:, 0][pattern] + np.where(leads, a, beta)
    vote = chances.vote
    # The vote is right: lead (total - lead). It is wrong: minus lead times the right one's counts.
    vote_gain = (vote * lead * (total - lead) - lead * (mean - vote * lead)) / spread
    vote_gain = np.where(counts.has_winner[pattern], vote_gain, 0.0)
    # The same, divided by the vote's own spread lead (total - lead).
    slope = np.zeros(vote_gain.size)
    np.divide(vote * total - mean, total - lead, out=slope, where=vote_gain > 0)
    return (
        mean / total,
        np.maximum(label, 0.0).round(GAIN_DECIMALS),
        vote_gain.round(GAIN_DECIMALS),
        np.clip(slope, 0.0, 1.0),
    )


def gain_of_label(
    counts: AnswerCounts, prior: tuple[FloatArray, FloatArray], right: IntArray
) -> FloatArray:
    """Return what a known true answer teaches, (n,), in the units of `Expectations`.

    Args:
        counts: Of n labelled questions.
        prior: As for `expect`.
        right: (n,) place of the right class, `NONE` if no class is right.
    """
    a, beta, total = _pseudo_counts(counts, prior)
    known = right != NONE
    place = np.where(known, right, 0)
    size = np.nan_to_num(counts.sizes)[counts.pattern, place]
    own = known & (place == counts.greedy[counts.pattern])
    alpha = np.where(known, size + np.where(own, a, beta), beta / 2.0)
    gain: FloatArray = (alpha * (total - alpha) / (total * (total + 1.0))).round(GAIN_DECIMALS)
    return gain


def _pseudo_counts(
    counts: AnswerCounts, prior: tuple[FloatArray, FloatArray]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The prior's counts of the greedy class, of every other one, and all counts with samples.

    Without a greedy answer the whole prior is divided among the sampled answers and an unseen one.
    """
    a, b = prior
    has_greedy = (counts.greedy >= 0)[counts.pattern]
    num_others = (counts.is_class & ~counts.is_greedy).sum(axis=1)[counts.pattern]
    b = np.where(has_greedy, b, a + b)
    a = np.where(has_greedy, a, 0.0)
    return a, b / (num_others + 1.0), counts.num_samples[counts.pattern] + a + b

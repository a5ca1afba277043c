"""Beliefs about the pass rates of training rows, and the choice of the rows that still teach.

The pass rate p of a row is the share of its completions that are rewarded. GRPO learns from the
spread of a group's rewards, sqrt(k(G-k))/G if k of G are rewarded. A row teaches the mean spread of
its groups. It is greatest at p = 1/2, and falls to 0 at p = 0 and p = 1.

Each row has a Beta belief: a prior worth `PRIOR_SIZE` completions, and the completions that
training has sampled, which count less with each pass. As the model learns, all rows move: one
shared number, the drift, is added to the logit of every rate. A row that has not been seen for a
while is therefore not believed to be where it was.

Source: MoPPS (Qu et al., arXiv 2507.04632) has a Beta belief per prompt, a draw from it and a decay
to the prior. The drift shared by all prompts follows BOTS (arXiv 2510.26374) and KGPS (arXiv
2607.27610). Deviations: rows are drawn in proportion to this spread, where MoPPS takes those
nearest to 1/2. The mean spread of groups takes the place of sqrt(p(1-p)), the spread of infinitely
many completions: at p = 0.02 that is 0.28 of its maximum, while 85 % of groups of 8 teach nothing.
A row that is ahead waits until the others have been seen. The drift moves the evidence as well as
the prior, by a damped Newton step of its likelihood. A prior that moved alone, by the mean change
of logits, ran away in simulations: stale evidence and rows at 8 of 8 raise it without an end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.special import betaln, binom, expit, logit

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

PRIOR_SIZE = 4.0  # completions that a prior counts for: half a group of 8
FLOOR = 0.1  # a row that teaches nothing weighs this much of the mean row, so that none starves
RATE_BOUND = 0.02  # rates are kept this far from 0 and 1, where the logit has no end
# Added to the information m(1-m) of a completion, so that no step moves the drift by more than 1.
DAMPING = 1.0


@dataclass(frozen=True)
class RowBeliefs:
    """Beliefs about N training rows.

    Attributes:
        prior: (N,) logit of the prior's pass rate, without drift.
        level: (N,) logit of the pass rate of the sampled completions, without drift.
        evidence: (N,) number of sampled completions, each less than 1 after some time.
        visits: (N,) times that each row was trained on.
        drift: The logits that rates have moved by since the start; positive is easier.
    """

    prior: FloatArray
    level: FloatArray
    evidence: FloatArray
    visits: IntArray
    drift: float = 0.0

    def parameters(self) -> tuple[FloatArray, FloatArray]:
        """Both parameters of the Beta distributions, (N,) each and above 0."""
        prior, seen = expit(self.prior + self.drift), expit(self.level + self.drift)
        rates = [np.clip(rate, RATE_BOUND, 1.0 - RATE_BOUND) for rate in (prior, seen)]
        a = PRIOR_SIZE * rates[0] + self.evidence * rates[1]
        return a, PRIOR_SIZE + self.evidence - a


def beliefs_before_training(rates: npt.ArrayLike) -> RowBeliefs:
    """The beliefs before the first step.

    Args:
        rates: (N,) expected pass rates in [0, 1]; NaN where nothing is known, which counts as 1/2.
    """
    known = np.nan_to_num(np.asarray(rates, dtype=np.float64), nan=0.5)
    prior = _logit(known)
    zeros = np.zeros(len(prior))
    return RowBeliefs(prior, prior, zeros, zeros.astype(np.int64))


def after_step(
    beliefs: RowBeliefs,
    rows: npt.ArrayLike,
    rewarded: npt.ArrayLike,
    sizes: npt.ArrayLike,
    decay: float,
) -> RowBeliefs:
    """The beliefs after a step's groups are known.

    All evidence decays with time, and a row's own visits make no difference: a step is the part
    len(rows) / N of a pass. (The survey's rule decays a row at its visit and between visits, so a
    row that is seen in each pass forgets twice in it.)

    Args:
        beliefs: Before the step.
        rows: (M,) row of each group of the step.
        rewarded: (M,) rewarded completions of each group, in [0, size].
        sizes: (M,) completions of each group; 0 for a group that says nothing about its row.
        decay: Part of the evidence that is left after a pass, in [0, 1].
    """
    index, num_rows = np.asarray(rows, dtype=np.int64), len(beliefs.prior)
    counts = np.bincount(index, np.asarray(sizes, dtype=np.float64), num_rows)
    passed = np.bincount(index, np.asarray(rewarded, dtype=np.float64), num_rows)
    seen = counts > 0
    drift = beliefs.drift
    if seen.any():
        a, b = beliefs.parameters()
        expected = (a / (a + b))[seen]
        # Beliefs never reach 0 or 1, so rates that do are cut too, or the drift would not end.
        rates = np.clip(passed[seen] / counts[seen], RATE_BOUND, 1.0 - RATE_BOUND)
        missed = np.mean(rates - expected)
        drift += float(missed / (np.mean(expected * (1.0 - expected)) + DAMPING))
    evidence = beliefs.evidence * decay ** (len(index) / num_rows)
    before = evidence * expit(beliefs.level + beliefs.drift)
    evidence = evidence + counts
    level = beliefs.level.copy()
    level[seen] = _logit((before[seen] + passed[seen]) / evidence[seen]) - drift
    visits = beliefs.visits + np.bincount(index, minlength=num_rows)
    return replace(beliefs, level=level, evidence=evidence, visits=visits, drift=drift)


def mean_spread(rates: FloatArray, group: int) -> FloatArray:
    """(N,) mean spread of the rewards of a group at these pass rates, in [0, 1/2]; higher is more.

    Args:
        rates: (N,) pass rates in [0, 1].
        group: Completions of a group, at least 2.
    """
    k = np.arange(1, group)
    p = rates[:, None]
    chances = binom(group, k) * p**k * (1.0 - p) ** (group - k)  # (N, G-1)
    return _weighed(chances, group)


def expected_spread(beliefs: RowBeliefs, group: int) -> FloatArray:
    """(N,) `mean_spread` where only the beliefs about the rates are known."""
    a, b = (each[:, None] for each in beliefs.parameters())
    k = np.arange(1, group)
    chances = binom(group, k) * np.exp(betaln(a + k, b + group - k) - betaln(a, b))  # (N, G-1)
    return _weighed(chances, group)


def _weighed(chances: FloatArray, group: int) -> FloatArray:
    """(N,) mean spread, by the chances (N, G-1) that 1, …, G-1 of G are rewarded."""
    k = np.arange(1, group)
    spread: FloatArray = (chances * np.sqrt(k * (group - k))).sum(axis=1) / group
    return spread


def choose_rows(
    beliefs: RowBeliefs, count: int, group: int, cap: float, rng: np.random.Generator
) -> list[int]:
    """Choose the rows of a step, in proportion to the spread at a drawn rate, each row once.

    A row with `cap` times the least-seen row's visits, and one more, waits until that row has been
    seen again. So every row is seen once before any is seen twice. A row comes twice in a step only
    if all rows come in it.

    Args:
        beliefs: The newest ones.
        count: Rows to choose.
        group: Completions of a group.
        cap: Times the visits of the least-seen row, at least 1. With 1 each row comes once in a
            pass.
        rng: Source of the draws. The same state gives the same rows.
    """
    a, b = beliefs.parameters()
    weights = _with_floor(mean_spread(rng.beta(a, b), group))
    # The smallest of exponential variables with these rates is a weighted draw, and so is the next.
    keys = rng.standard_exponential(len(weights)) / np.maximum(weights, np.finfo(float).tiny)
    visits, chosen = beliefs.visits.copy(), []
    is_free = np.ones(len(visits), dtype=bool)
    for _ in range(count):
        if not is_free.any():
            is_free[:] = True
        may_come = is_free & (visits <= cap * visits.min())
        row = int(np.argmin(np.where(may_come, keys, np.inf)))
        chosen.append(row)
        visits[row] += 1
        is_free[row] = False
    return chosen


def rows_effective(beliefs: RowBeliefs, group: int) -> float:
    """The effective number of rows in [1, N]: exp of the entropy of the chances of being drawn.

    N means that all rows come equally often. The chances are taken without the limit on visits,
    which can only bring rows closer together. Counts of past visits would not
    serve: they are few per row, so even equal chances would look uneven.
    """
    weights = _with_floor(expected_spread(beliefs, group))
    chances = weights / weights.sum()
    return float(np.exp(-np.sum(chances * np.log(chances))))


def _with_floor(spread: FloatArray) -> FloatArray:
    return spread + FLOOR * spread.mean()


def _logit(rates: FloatArray) -> FloatArray:
    values: FloatArray = logit(np.clip(rates, RATE_BOUND, 1.0 - RATE_BOUND))
    return values

"""How much a question's samples differ, foretold by its trace. No label is needed.

The share of samples that give the greedy answer varies between questions, and the trace foretells
part of it: a trace with many pivots is less often repeated. A Beta-binomial regression learns that
from the samples of the whole pool, and gives each question a Beta prior of its share. With the
question's own samples on top, four equal answers after a certain trace and four equal answers after
an uncertain one are no longer alike.

The posterior is the same whether sampling was to stop there or not, because the rule that stops it
reads nothing but the samples and the trace (the likelihood principle). So numbers that come from it
need no correction for stopping. If the features leave that trace out, they would need some.

All of it is ours. SCIENCE's prior by rank, A = 1 + k(1 - u) and B = 1 + ku, is its simplest case.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import betaln, digamma, expit

FloatArray = npt.NDArray[np.float64]

# Ridge penalty on the weights of standardised features. It makes the fit exist if the pool is small
# or its questions are all alike.
PENALTY = 0.5
# Prior of the logarithm of the strength: normal, around two samples.
LOG_STRENGTH, LOG_STRENGTH_SD = np.log(2.0), 1.0
RATE_BOUND = 1e-4
# The fit reads at most this many questions, evenly over the pool. More change no digit that counts.
MOST_QUESTIONS = 20_000


@dataclass(frozen=True)
class Agreement:
    """A fitted regression on k features of the trace.

    Attributes:
        intercept: Logit of the share of samples that agree with a trace of average features.
        weights: (k,) its change per unit of each feature.
        strength: Number of samples that the prior counts for.
    """

    intercept: float
    weights: FloatArray
    strength: float

    def prior(self, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return both parameters of the Beta prior (Q,) of the share that gives the greedy answer.

        Args:
            features: (Q, k) of the traces.
        """
        share = np.clip(expit(self.intercept + features @ self.weights), RATE_BOUND, 1 - RATE_BOUND)
        return self.strength * share, self.strength * (1.0 - share)


def fit_agreement(
    features: npt.ArrayLike, agreeing: npt.ArrayLike, num_samples: npt.ArrayLike
) -> Agreement:
    """Fit the regression on sampled questions, by penalised maximum likelihood.

    Args:
        features: (Q, k) of the traces, standardised.
        agreeing: (Q,) number of samples that gave the greedy answer.
        num_samples: (Q,) number of samples. Questions without one are left out.
    """
    sampled = np.flatnonzero(np.asarray(num_samples) > 0)
    if sampled.size > MOST_QUESTIONS:
        sampled = sampled[np.linspace(0, sampled.size - 1, MOST_QUESTIONS).astype(np.int64)]
    design, agree, total = (
        np.asarray(np.asarray(each)[sampled], dtype=np.float64)
        for each in (features, agreeing, num_samples)
    )

    def loss(values: FloatArray) -> tuple[float, FloatArray]:
        """The penalised negative log likelihood at (intercept, weights, log strength)."""
        weights, strength = values[1:-1], np.exp(values[-1])
        raw = expit(values[0] + design @ weights)
        share = np.clip(raw, RATE_BOUND, 1 - RATE_BOUND)
        a, b = strength * share, strength * (1.0 - share)
        fit = (betaln(agree + a, total - agree + b) - betaln(a, b)).sum()
        by_a, by_b = digamma(agree + a) - digamma(a), digamma(total - agree + b) - digamma(b)
        by_logit = strength * (by_a - by_b) * raw * (1.0 - raw)
        both = digamma(strength) - digamma(total + strength)
        by_strength = strength * (share * by_a + (1.0 - share) * by_b + both).sum()
        off = (values[-1] - LOG_STRENGTH) / LOG_STRENGTH_SD
        penalty = 0.5 * (PENALTY * (weights**2).sum() + off**2)
        gradient = -np.concatenate([[by_logit.sum()], by_logit @ design, [by_strength]])
        gradient[1:-1] += PENALTY * weights
        gradient[-1] += off / LOG_STRENGTH_SD
        return float(penalty - fit), gradient

    start = np.zeros(design.shape[1] + 2)
    start[0], start[-1] = 1.0, LOG_STRENGTH
    found = minimize(loss, start, jac=True, method="L-BFGS-B").x
    return Agreement(float(found[0]), found[1:-1], float(np.exp(found[-1])))

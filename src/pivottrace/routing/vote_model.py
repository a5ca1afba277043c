"""The chance of each answer of a question to be the true one: one small model for all answers.

A conditional logit over the classes of equal answers and "none of them":

    eta_c    = gamma ln(n_c + 1/2) + [c is the greedy answer] (delta - x/2)
    eta_none = kappa + x/2
    pi       = softmax(eta),    x = features @ weights + rho s

n_c is the number of samples in class c, and x is the uncertainty of the trace. The trace speaks for
its own answer: the more uncertain it is, the less it adds to that answer, and the more to none.

If sampling went in steps, n_c is scaled to equally many samples for all, and s says how late it
stopped (`AnswerCounts`). The rule that stopped it knew the trace, and more of it than x does.

A label says which class is right, or that none is, which is more than whether the vote is right.
The priors below suit a pool whose votes are as sure as they look. They hold the model where
labels are few: with none at all the votes and the driving score alone decide.

The form is from a survey of this question, and the priors were fitted to our development pools
(docs/results/triage-quality.md). All of it is ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import logsumexp

from pivottrace.routing.answer_counts import AnswerCounts

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

ALPHA = 0.5  # added to each count, so that the logarithm of 0 exists
NONE = -1  # the outcome of a label that no class agrees with
# Means and standard deviations of the normal priors of gamma, delta, kappa and rho.
PRIOR_MEAN, PRIOR_SD = (1.5, 0.0, 1.0, 1.0), (0.5, 0.5, 1.0, 0.5)
NUM_OWN = len(PRIOR_MEAN)  # values before the weights of the features
RHO = NUM_OWN - 1  # the place of rho: the last of them
# The same of the weight of the driving score, which the pool is ranked by, and of every other one.
DRIVING_MEAN, DRIVING_SD, OTHER_SD = 1.0, 0.5, 0.3
NUM_FOLDS = 8
Z_90 = 1.6448536269514722  # half of a 90 % interval, in standard deviations


@dataclass(frozen=True)
class VoteModel:
    """The fitted model.

    Attributes:
        names: The k features of the trace, the driving score first.
        values: (4 + k,) gamma, delta, kappa, rho and the weights.
        covariance: (4 + k, 4 + k) of the values, by Laplace's approximation.
        num_labels: Number of labels that it was fitted on.
    """

    names: tuple[str, ...]
    values: FloatArray
    covariance: FloatArray
    num_labels: int

    @property
    def weights(self) -> FloatArray:
        """(k,) weights of the features."""
        return self.values[NUM_OWN:]


@dataclass(frozen=True)
class AnswerChances:
    """The terms that chances of Q questions are made of, each as P patterns and one number each.

    The chance of a class is its term over `total`. So a sum over all classes costs a few
    operations per question, however many classes there are.

    Attributes:
        counts: The counts of the questions.
        terms: (P, K) exp(eta) of each class without the trace; 0 where there is no class.
        none: The term of "none", exp(kappa).
        doubt: (Q,) exp(x/2), the factor of none, and one over the factor of the greedy answer.
        total: (Q,) sum of all terms.
    """

    counts: AnswerCounts
    terms: FloatArray
    none: float
    doubt: FloatArray
    total: FloatArray

    def expect(self, values: FloatArray, of_none: float = 0.0) -> FloatArray:
        """Return the expectation (Q,) of a value that depends on the right class.

        Args:
            values: (P, K) value if the class is the right one.
            of_none: Value if none is.
        """
        greedy, pattern = self.counts.is_greedy, self.counts.pattern
        weighted = self.terms * np.nan_to_num(values)
        others = np.where(greedy, 0.0, weighted).sum(axis=1)[pattern]
        own = np.where(greedy, weighted, 0.0).sum(axis=1)[pattern]
        of_all = others + own / self.doubt + of_none * self.none * self.doubt
        result: FloatArray = of_all / self.total
        return result

    @property
    def vote(self) -> FloatArray:
        """(Q,) chance that the largest class is right; the first one if several are as large."""
        first = np.zeros_like(self.terms)
        first[:, 0] = 1.0
        return self.expect(first)


def prior(num_features: int) -> tuple[FloatArray, FloatArray]:
    """Means and standard deviations (4 + k,) of the priors of a model with k features."""
    others = max(num_features - 1, 0)
    weights = ((DRIVING_MEAN, DRIVING_SD),) * min(num_features, 1) + ((0.0, OTHER_SD),) * others
    return (
        np.array([*PRIOR_MEAN, *(mean for mean, _ in weights)]),
        np.array([*PRIOR_SD, *(sd for _, sd in weights)]),
    )


def fit_votes(
    names: tuple[str, ...], counts: AnswerCounts, features: npt.ArrayLike, right: npt.ArrayLike
) -> VoteModel:
    """Fit the model on labelled questions: the most probable values, and their covariance.

    Args:
        names: The k features.
        counts: Of the n labelled questions.
        features: (n, k) standardised features of their traces, higher is more uncertain.
        right: (n,) place of the right class; `NONE` if no class is right.
    """
    design = np.asarray(features, dtype=np.float64)
    mean, sd = prior(design.shape[1])
    outcome = np.asarray(right, dtype=np.int64)
    classes, greedy = counts.is_class[counts.pattern], counts.is_greedy[counts.pattern]
    # The derivatives of eta by the first four values and by x: (n, K + 1, 4) and (n, K + 1). None
    # is the last place.
    logs = _logs(counts)[counts.pattern]
    n, places = logs.shape
    by_x = np.zeros((n, places + 1))
    by_x[:, :-1], by_x[:, -1] = np.where(greedy, -0.5, 0.0), 0.5
    by_value = np.zeros((n, places + 1, NUM_OWN))
    by_value[:, :-1, 0], by_value[:, :-1, 1], by_value[:, -1, 2] = logs, greedy, 1.0
    by_value[:, :, RHO] = by_x * counts.late_stop[counts.pattern][:, None]
    absent = np.concatenate([~classes, np.zeros((n, 1), bool)], axis=1)
    chosen = np.where(outcome == NONE, places, outcome)
    rows = np.arange(n)

    def eta_at(values: FloatArray) -> FloatArray:
        eta = by_value @ values[:NUM_OWN] + by_x * (design @ values[NUM_OWN:])[:, None]
        return np.where(absent, -np.inf, eta)

    def loss(values: FloatArray) -> tuple[float, FloatArray]:
        eta = eta_at(values)
        total = logsumexp(eta, axis=1)
        chance = np.exp(eta - total[:, None])
        chance[rows, chosen] -= 1.0  # the gradient by eta of the negative log likelihood
        off = (values - mean) / sd
        gradient = np.einsum("nk,nkj->j", chance, by_value), ((chance * by_x).sum(axis=1) @ design)
        value = (total - eta[rows, chosen]).sum() + 0.5 * (off**2).sum()
        return float(value), np.concatenate(gradient) + off / sd

    found = minimize(loss, mean, jac=True, method="BFGS").x
    # The curvature at the optimum: the chances' covariance of the derivatives, and the priors'.
    eta = eta_at(found)
    chance = np.exp(eta - logsumexp(eta, axis=1, keepdims=True))
    by_all = np.concatenate([by_value, by_x[:, :, None] * design[:, None, :]], axis=2)
    centred = by_all - np.einsum("nk,nkj->nj", chance, by_all)[:, None, :]
    curvature = np.einsum("nk,nki,nkj->ij", chance, centred, centred) + np.diag(sd**-2.0)
    return VoteModel(names, found, np.linalg.inv(curvature), n)


def answer_chances(
    model: VoteModel, counts: AnswerCounts, features: FloatArray, values: FloatArray | None = None
) -> AnswerChances:
    """Return the chances of the answers of Q questions.

    Args:
        model: The fitted model.
        counts: Of the Q questions.
        features: (Q, k) of their traces.
        values: Values in place of the model's own, as `drawn` gives them.
    """
    gamma, delta, kappa, rho, *weights = model.values if values is None else values
    greedy = counts.is_greedy
    terms = np.where(counts.is_class, np.exp(gamma * _logs(counts)), 0.0)
    terms = terms * np.where(greedy, np.exp(delta), 1.0)
    of_trace = (features @ np.asarray(weights, dtype=features.dtype)).astype(np.float64)
    doubt = np.exp((of_trace + rho * counts.late_stop[counts.pattern]) / 2.0)
    others = np.where(greedy, 0.0, terms).sum(axis=1)[counts.pattern]
    own = np.where(greedy, terms, 0.0).sum(axis=1)[counts.pattern]
    none = float(np.exp(kappa))
    return AnswerChances(counts, terms, none, doubt, others + own / doubt + none * doubt)


def vote_interval(
    model: VoteModel, chances: AnswerChances, features: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return the 90 % interval (low, high), each (Q,), of the chance that the vote is right.

    It is the delta method on the log odds, so it says how well the model is known, not whether the
    model is right.
    """
    vote = np.clip(chances.vote, 1e-12, 1 - 1e-12)
    # The derivative of the log odds of the vote by each value is that of its eta, less the mean of
    # the others' under the chances of the others.
    counts, rest = chances.counts, 1.0 - vote
    logs = _logs(counts)
    greedy = counts.is_greedy.astype(np.float64)
    none = chances.none * chances.doubt / chances.total
    lead_log, lead_greedy = logs[:, 0][counts.pattern], greedy[:, 0][counts.pattern]
    mean_log = (chances.expect(logs) - vote * lead_log) / rest
    mean_greedy = (chances.expect(greedy) - vote * lead_greedy) / rest
    mean_none = none / rest
    by_x = -(lead_greedy - mean_greedy) / 2.0 - mean_none / 2.0
    # The variance is g'Sg, g being the derivatives: of three values, and by_x times one feature
    # each. Rho weighs x like the features, so how late sampling stopped is one more of them.
    kind = features.dtype
    late = counts.late_stop[counts.pattern].astype(kind)
    of_x = np.concatenate([features, late[:, None]], axis=1)
    order = np.r_[NUM_OWN : len(model.values), RHO]
    cov = model.covariance
    by_own = (lead_log - mean_log, lead_greedy - mean_greedy, -mean_none)
    along = of_x @ cov[order][:, order].astype(kind)
    spread = np.einsum("qk,qk->q", along, of_x) * by_x**2
    across = of_x @ cov[order, :RHO].astype(kind)
    for i, own in enumerate(by_own):
        spread += own * (cov[i, i] * own + 2.0 * by_x * across[:, i])
        for j in range(i):
            spread += 2.0 * cov[i, j] * own * by_own[j]
    half, odds = Z_90 * np.sqrt(np.maximum(spread, 0.0)), np.log(vote / rest)
    return _share(odds - half), _share(odds + half)


def drawn(model: VoteModel, number: int, seed: int) -> FloatArray:
    """Draw (number, 4 + k) values of the model from its posterior, for the bands of a plan."""
    rng = np.random.default_rng(seed)
    values: FloatArray = rng.multivariate_normal(
        model.values, model.covariance, number, method="eigh"
    )
    return values


def out_of_fold(
    names: tuple[str, ...],
    counts: AnswerCounts,
    features: npt.ArrayLike,
    right: npt.ArrayLike,
    seed: int,
) -> FloatArray:
    """Return the chance (n,) that each labelled question's vote is right, by fits without its fold.

    Args:
        names: As for `fit_votes`.
        counts: As for `fit_votes`.
        features: As for `fit_votes`.
        right: As for `fit_votes`.
        seed: Of the folds. With fewer questions than `NUM_FOLDS`, each is a fold.
    """
    design = np.asarray(features, dtype=np.float64)
    outcome = np.asarray(right, dtype=np.int64)
    folds = np.random.default_rng(seed).permutation(np.arange(outcome.size) % NUM_FOLDS)
    chance = np.full(outcome.size, np.nan)
    for fold in np.unique(folds):
        held, seen = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        model = fit_votes(names, counts.rows(seen), design[seen], outcome[seen])
        chance[held] = answer_chances(model, counts.rows(held), design[held]).vote
    return chance


def facts(model: VoteModel) -> dict[str, Any]:
    """The model for the manifest and the report, rounded."""
    sd = np.sqrt(np.diag(model.covariance))
    names = ("gamma", "delta", "kappa", "rho", *model.names)
    return {
        "num_labels": model.num_labels,
        "values": dict(zip(names, model.values.round(4).tolist(), strict=True)),
        "sd": dict(zip(names, sd.round(4).tolist(), strict=True)),
    }


def _logs(counts: AnswerCounts) -> FloatArray:
    """ln(n_c + 1/2) of each class, (P, K); 0 beyond the last class."""
    logs = np.log(np.nan_to_num(counts.scaled_sizes) + ALPHA)
    return np.where(counts.is_class, logs, 0.0)


def _share(log_odds: FloatArray) -> FloatArray:
    share: FloatArray = 1.0 / (1.0 + np.exp(-log_odds))
    return share

"""A combination of estimators with few parameters, fitted on the probes and tested before use.

All of it is ours (docs/method.md).

The combination is a ridge logistic regression of correctness on every estimator's place in the
pool's ranking. It is judged out of fold against the best single estimator. There are two ways to
choose that rival. Chosen in the same folds, it is as honest as the combination. But if estimators
are nearly level, the folds choose the estimator that does worst on the part left out, so the rival
is too weak. Chosen on all probes, the rival is flattered. The rival is the better of the two, so
the combination has to beat both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from pivottrace.errors import DataError
from pivottrace.routing.probes import rank_fractions
from pivottrace.stats.logistic import fit_logistic
from pivottrace.stats.ranking_metrics import spearman
from pivottrace.stats.resampling import resample_counts

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

NUM_FOLDS = 8
INNER_FOLDS = 5
# Ridge penalties to choose from; features lie in (-1, 1). 0.3 leaves 64 probes nearly free. 300
# almost ties the weights to each other's sign and leaves the equally weighted mean of the
# estimators that correlate.
PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
NUM_RESAMPLES = 2_000
# With fewer probes there would be folds in which nothing can be ranked.
MIN_PROBES = 4 * NUM_FOLDS


@dataclass(frozen=True)
class Combination:
    """A fitted combination of k estimators, with the evidence for and against it.

    Attributes:
        names: The k estimators.
        weights: (k,) weights of their ranks. A question's score is `features @ weights`; a higher
            score is more uncertain. The intercept is left out, because it does not change the
            ranking.
        penalty: The ridge penalty, chosen by cross-validation.
        out_of_fold: (n,) score of each probe by a fit that has not seen it.
        folds: (n,) the fold of each probe.
        fold_weights: (F, k) weights of the fit that has not seen the fold.
        best_single: The estimator that ranks all probes best.
        rho: Spearman correlation of `out_of_fold` with the share of wrong rollouts, in [-1, 1];
            higher is better.
        single_rho: The same for the best single estimator. The estimator is chosen on all probes,
            or without the fold that it is judged on; the higher value counts.
        low: Lower end of the interval of rho - single_rho, paired over probes.
        high: Upper end of that interval.
        offered: Whether the whole interval is above 0.
    """

    names: tuple[str, ...]
    weights: FloatArray
    penalty: float
    out_of_fold: FloatArray
    folds: IntArray
    fold_weights: FloatArray
    best_single: str
    rho: float
    single_rho: float
    low: float
    high: float
    offered: bool


def rank_features(scores: Mapping[str, npt.ArrayLike]) -> FloatArray:
    """Return each estimator's ranking of the pool as a feature in (-1, 1), high is uncertain.

    Args:
        scores: Scores of k estimators, each (Q,); a higher score is more uncertain. NaN becomes the
            middle, 0.

    Returns:
        (Q, k) features in (-1, 1).
    """
    columns = [2.0 * rank_fractions(values) - 1.0 for values in scores.values()]
    return np.nan_to_num(np.stack(columns, axis=1), nan=0.0)


def combine(
    features: npt.ArrayLike,
    correctness: npt.ArrayLike,
    names: Sequence[str],
    seed: int = 0,
    level: float = 0.9,
) -> Combination | None:
    """Fit the combination on labelled probes and compare it with the best single estimator.

    Args:
        features: (n, k) from `rank_features`, at the probes.
        correctness: (n,) each probe's share of right rollouts, in [0, 1].
        names: The k estimators. An estimator that uses the same rollouts as the correctness does
            not belong here.
        seed: Seed of folds and resamples.
        level: Confidence of the interval of the difference, in (0, 1).

    Returns:
        The combination. It is None with fewer than `MIN_PROBES` probes, with fewer than two
        estimators, or if all probes have the same correctness, because then there is nothing to
        fit or to compare.

    Raises:
        DataError: The shapes differ.
    """
    design, truth = np.asarray(features, np.float64), np.asarray(correctness, np.float64)
    if design.shape != (truth.size, len(names)):
        raise DataError(f"features {design.shape}, {truth.size} probes, {len(names)} names differ")
    if truth.size < MIN_PROBES or len(names) < 2 or np.ptp(truth) == 0:
        return None
    rng = np.random.default_rng(seed)
    # For each fold, fit on the other folds and score the fold's own probes. The same folds choose
    # the best single estimator.
    folds = _folds(truth.size, NUM_FOLDS, rng)
    combined, single = np.empty(truth.size), np.empty(truth.size)
    fold_weights = np.empty((NUM_FOLDS, design.shape[1]))
    for fold in range(NUM_FOLDS):
        held, seen = folds == fold, folds != fold
        fold_weights[fold], _ = _fit(design[seen], truth[seen], rng)
        combined[held] = design[held] @ fold_weights[fold]
        single[held] = design[held, _best(design[seen], truth[seen])]
    weights, penalty = _fit(design, truth, rng)
    # The rival is the better of the estimators chosen in the folds and on all probes.
    wrong = 1.0 - truth
    best = _best(design, truth)
    in_folds, on_all = (float(_rho(s, wrong)[0]) for s in (single, design[:, best]))
    rival = single if in_folds > on_all else design[:, best]
    # Bootstrap over probes of the paired difference; row 0 of the counts is the data itself.
    counts = np.concatenate(list(resample_counts(truth.size, NUM_RESAMPLES, seed)))  # (1 + B, n)
    rho = _rho(combined, wrong, counts)
    differences = rho - _rho(rival, wrong, counts)
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(differences[1:], (tail, 1.0 - tail))
    return Combination(
        names=tuple(names),
        weights=weights,
        penalty=penalty,
        out_of_fold=combined,
        folds=folds,
        fold_weights=fold_weights,
        best_single=names[best],
        rho=float(rho[0]),
        single_rho=max(in_folds, on_all),
        low=float(low),
        high=float(high),
        offered=bool(low > 0.0),
    )


def cross_fitted_places(
    combination: Combination, features: FloatArray, probes: IntArray
) -> FloatArray:
    """Return each probe's place in the pool's ranking by a fit that has not seen its label.

    Args:
        combination: Fitted on the probes.
        features: (Q, k) features of the pool; a question that is not ranked has NaN only.
        probes: (n,) rows of `features`, in the order of the fit.

    Returns:
        (n,) in (0, 1), high is uncertain; ties share their middle, as in `rank_fractions`.
    """
    places = np.empty(probes.size)
    for fold, weights in enumerate(combination.fold_weights):
        held = combination.folds == fold
        places[held] = rank_fractions(features @ weights)[probes[held]]
    return places


def _rho(scores: FloatArray, wrong: FloatArray, weights: FloatArray | None = None) -> FloatArray:
    """Return Spearman's correlation in each resample (B,); 0 if the scores are constant."""
    return np.nan_to_num(spearman(scores, wrong, weights))


def _fit(
    design: FloatArray, truth: FloatArray, rng: np.random.Generator
) -> tuple[FloatArray, float]:
    """Return weights (k,) towards *wrong*, and the penalty that predicts best on these probes."""
    folds = _folds(truth.size, INNER_FOLDS, rng)
    losses = []  # log loss of each penalty, summed over the left-out probes
    for penalty in PENALTIES:
        loss = 0.0
        for fold in range(INNER_FOLDS):
            held, seen = folds == fold, folds != fold
            fitted = _ridge(design[seen], 1.0 - truth[seen], penalty)
            chance = np.clip(expit(_with_ones(design[held]) @ fitted), 1e-9, 1 - 1e-9)
            loss -= float(
                ((1.0 - truth[held]) * np.log(chance) + truth[held] * np.log1p(-chance)).sum()
            )
        losses.append(loss)
    penalty = PENALTIES[int(np.argmin(losses))]
    return _ridge(design, 1.0 - truth, penalty)[1:], penalty


def _ridge(design: FloatArray, targets: FloatArray, penalty: float) -> FloatArray:
    penalties = np.full(design.shape[1] + 1, penalty)
    penalties[0] = 0.01  # the intercept is nearly free; this keeps it finite if all are right
    return fit_logistic(_with_ones(design), targets, np.ones(targets.size), penalties)


def _with_ones(design: FloatArray) -> FloatArray:
    return np.concatenate([np.ones((design.shape[0], 1)), design], axis=1)


def _best(design: FloatArray, truth: FloatArray) -> int:
    return int(np.argmax([_rho(column, 1.0 - truth)[0] for column in design.T]))


def _folds(size: int, number: int, rng: np.random.Generator) -> IntArray:
    return rng.permutation(np.arange(size) % number)

"""Ways to read correctness off a few probes, compared on the questions that were not probes.

`run` uses the paper's sliding window. Each way is a function of the probes; add one to `WAYS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.optimize import minimize

from pivottrace.annotate import sources
from pivottrace.core.calibrate import ProbeEvidence, calibrate
from pivottrace.core.metrics import FloatArray
from pivottrace.core.probability import brier, fit_isotonic, log_loss
from pivottrace.core.probes import draw_probes, rank_fractions
from pivottrace.core.resampling import percentile_interval
from pivottrace.study.evidence import PoolEvidence
from pivottrace.tables import sampled_answers
from pivottrace.verifier import Verifier

NUM_PROBES = 64
NUM_DRAWS = 200
RIDGE = 1e-3  # on the slope, so that probes that are perfectly parted give a finite one


def sliding_window(probes: ProbeEvidence, ranks: FloatArray) -> FloatArray:
    """The paper's, as in `run`: (Q,) mean correctness."""
    return calibrate(probes).at(ranks).mu


def isotonic(probes: ProbeEvidence, ranks: FloatArray) -> FloatArray:
    """Correctness that never rises with the rank."""
    shares = probes.num_correct / probes.num_samples
    return 1.0 - fit_isotonic(probes.ranks, 1.0 - shares, ranks)


def logistic(probes: ProbeEvidence, ranks: FloatArray) -> FloatArray:
    """Two parameters: correctness is the logistic function of a + b rank."""
    shares, places = probes.num_correct / probes.num_samples, probes.ranks

    def loss(parameters: FloatArray) -> float:
        logits = parameters[0] + parameters[1] * places
        return float(
            np.mean(np.logaddexp(0, logits) - shares * logits) + RIDGE * parameters[1] ** 2
        )

    a, b = minimize(loss, np.zeros(2), method="BFGS").x
    result: FloatArray = 1.0 / (1.0 + np.exp(-(a + b * ranks)))
    return result


WAYS: dict[str, Callable[[ProbeEvidence, FloatArray], FloatArray]] = {
    "sliding window": sliding_window,
    "isotonic": isotonic,
    "logistic": logistic,
}


def compare_calibrations(pools: Sequence[PoolEvidence], name: str) -> dict[str, Any]:
    """Fit every way on draws of 64 probes along a ranking, judge it on all other questions.

    The probes' correctness is that of the estimators' samples, the truth that of the unseen ones;
    both losses are of one further sample of a question.

    Args:
        pools: those with more than twice as many questions as probes take part.
        name: the estimator that ranks.

    Returns:
        way to {brier, log_loss, brier_low, brier_high …}: the mean over draws and pools, with the
        central 95 % of draws; empty where every pool is too small. And `num_probes`, `num_draws`.
    """
    large = [pool for pool in pools if np.isfinite(pool.scores[name]).sum() > 2 * NUM_PROBES]
    losses: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for pool in large:
        correct, samples = _sampled_correctness(pool)
        ranks = rank_fractions(pool.scores[name])
        for draw in range(NUM_DRAWS):
            chosen = draw_probes(pool.scores[name], NUM_PROBES, seed=draw)
            probes = _probes(ranks[chosen], correct[chosen], samples[chosen])
            others = np.setdiff1d(np.flatnonzero(np.isfinite(ranks)), chosen)
            for way, fit in WAYS.items():
                chance = fit(probes, ranks[others])
                truth = pool.correctness[others]
                floor = 0.5 / NUM_PROBES
                losses[way].append((brier(chance, truth)[0], log_loss(chance, truth, floor)))
    return {
        "num_probes": NUM_PROBES,
        "num_draws": NUM_DRAWS,
        "pools": [pool.name for pool in large],
        "ways": {way: _summary(np.array(pairs)) for way, pairs in losses.items() if pairs},
    }


def _summary(pairs: FloatArray) -> dict[str, Any]:
    summary: dict[str, Any] = {}
    for column, loss in enumerate(("brier", "log_loss")):
        low, high = percentile_interval(pairs[:, column])
        summary[loss] = {"value": float(pairs[:, column].mean()), "low": low, "high": high}
    return summary


def _probes(ranks: FloatArray, correct: np.ndarray, samples: np.ndarray) -> ProbeEvidence:
    nothing = np.zeros(ranks.size, dtype=bool)
    return ProbeEvidence(ranks, correct, samples, nothing, nothing, np.full(ranks.size, np.nan))


def _sampled_correctness(pool: PoolEvidence) -> tuple[np.ndarray, np.ndarray]:
    """Right ones among the estimators' own samples, and how many: what probe labels would say."""
    answers, truths = sampled_answers(pool.run), sources.every_answer(pool.run)
    config = pool.run.config.answers
    with Verifier(config.verifier, config.timeout_s) as verifier:
        correct = [
            sum(verifier.check_many(answers[i], [truths[i]] * len(answers[i])))
            for i in pool.question_ids
        ]
    return np.array(correct), np.array([len(answers[i]) for i in pool.question_ids])

"""The combination of estimators in a run: its fit on the probes, and its ranking if it is used.

Probes are drawn along the default ranking, because no label exists yet to fit on. If the settings
ask for the combination and it is offered, it then ranks the pool again. A probe takes its place
from a fit without its label. Otherwise the ranking would have seen the label, and the calibration
would look too good.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from pivottrace.routing.weighting import Combination, combine, cross_fitted_places, rank_features
from pivottrace.run import readings
from pivottrace.run.choices import estimators_of
from pivottrace.run.directory import RunDir
from pivottrace.schemas import RANKING


def fit_combination(run: RunDir, evidence: list[dict[str, Any]]) -> Combination | None:
    """Fit on the labelled probes; None if they are too few to fit or to compare."""
    ids, features = _features(run)
    correctness = np.array([row["num_correct"] / row["num_samples"] for row in evidence])
    chosen = _places(ids, evidence)
    return combine(features[chosen], correctness, _names(run), seed=run.config.seed)


def combination_facts(combination: Combination | None, used: bool) -> dict[str, Any] | None:
    """The facts of a combination for the manifest and the report."""
    if combination is None:
        return None
    weights = dict(zip(combination.names, combination.weights.round(4).tolist(), strict=True))
    return {
        "weights": weights,
        "penalty": combination.penalty,
        "best_single": combination.best_single,
        "rho": combination.rho,
        "single_rho": combination.single_rho,
        "low": combination.low,
        "high": combination.high,
        "offered": combination.offered,
        "used": used,
    }


def rerank(
    run: RunDir, combination: Combination, evidence: list[dict[str, Any]]
) -> tuple[pa.Table, list[dict[str, Any]]]:
    """The pool's new scores, and the evidence at the probes' cross-fitted places among them."""
    ids, features = _features(run)
    scored = ~np.isnan(features).any(axis=1)
    scores = np.where(scored, features @ combination.weights, np.nan)
    places = _places(ids, evidence)
    ranks = cross_fitted_places(combination, features, places)
    moved = [
        row | {"rank": rank, "score": score}
        for row, rank, score in zip(evidence, ranks.tolist(), scores[places].tolist(), strict=True)
    ]
    table = pa.table(
        {"question_id": ids, "score": pa.array(scores, from_pandas=True)}, schema=RANKING
    )
    return table, moved


def _names(run: RunDir) -> list[str]:
    """The estimators to combine. They leave out scores from the rollouts and scores by chance."""
    return [name for name, each in estimators_of(run.config).items() if each.competes]


def _features(run: RunDir) -> tuple[list[str], np.ndarray]:
    """Ids and features (Q, k). A failed question has only NaN."""
    ids, failed = readings.voted(run)
    columns = readings.estimator_scores(run, _names(run))
    features = rank_features({n: np.where(failed, np.nan, each) for n, each in columns.items()})
    features[failed] = np.nan
    return ids, features


def _places(ids: list[str], evidence: list[dict[str, Any]]) -> np.ndarray:
    place = {question_id: i for i, question_id in enumerate(ids)}
    return np.array([place[row["question_id"]] for row in evidence], dtype=np.int64)

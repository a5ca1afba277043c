"""One labelled pool as arrays: scores, truth and costs; made first where they are missing.

Axes: Q questions. Questions whose greedy trace failed (no response, or numbers that are not finite)
have no score by any estimator and are left out, counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pivottrace.config import Config
from pivottrace.errors import DataError
from pivottrace.labels.buying import every_answer
from pivottrace.pipeline import run_step
from pivottrace.routing.probes import draw_probes, rank_fractions
from pivottrace.routing.weighting import combine, cross_fitted_places, rank_features
from pivottrace.run.choices import driving_estimator, estimators_of
from pivottrace.run.directory import RunDir
from pivottrace.run.readings import sampled_answers
from pivottrace.stages import truth
from pivottrace.stats.ranking_metrics import BoolArray, FloatArray
from pivottrace.verifier import Verifier

# Labelled questions that a calibration or a combination is fitted on.
NUM_PROBES = 64


@dataclass(frozen=True)
class PoolEvidence:
    """A pool of a study.

    Attributes:
        run: Its run directory.
        name: What the tables call it: the run directory's name.
        question_ids: Q ids.
        scores: Estimator to (Q,); NaN where it has none.
        wrong: (Q,) the greedy answer is wrong (or there is none).
        correctness: (Q,) share of right answers among the truth samples.
        vote_right: (Q,) the majority of the estimators' samples is right.
        sampled: (Q,) share of right answers among the estimators' own samples: what a probe's label
            would say.
        num_failed: Questions left out.
    """

    run: RunDir
    name: str
    question_ids: list[str]
    scores: dict[str, FloatArray]
    wrong: BoolArray
    correctness: FloatArray
    vote_right: BoolArray
    sampled: FloatArray
    num_failed: int


def prepare(config: Config) -> RunDir:
    """Run what is missing of pool, rollouts, trace, scores and truth.

    Raises:
        DataError: A question has no answer; this is found before the model is loaded.
    """
    run = RunDir.create(config)
    with run.locked():
        run_step(run, "pool")
        every_answer(run)
        for stage in ("rollout", "trace", "score"):
            run_step(run, stage)
        with run.timed("truth"):
            truth.run(run)
    return run


def read_evidence(run: RunDir) -> PoolEvidence:
    """Read a prepared run. Raises DataError where fewer than two questions have a score."""
    table = run.read_table("scores", made_by="study")
    truths = run.read_table("truth", made_by="study")
    ids = table["question_id"].to_pylist()
    if ids != truths["question_id"].to_pylist():
        raise DataError(f"{run.path}: the tables scores and truth have different questions")

    def column(source: object, name: str) -> np.ndarray:
        return np.asarray(source[name].to_numpy(zero_copy_only=False), np.float64)  # type: ignore[index]

    # The random control is a number wherever there is a trace to score.
    kept = np.isfinite(column(table, "random"))
    if kept.sum() < 2:
        raise DataError(
            f"{run.path}: {kept.sum()} of {len(ids)} questions have a traced response. A study "
            f"needs two at least: look at the failures with pivottrace report {run.path}"
        )
    kept_ids = [i for i, keep in zip(ids, kept, strict=True) if keep]
    estimators = estimators_of(run.config)
    scores = {name: column(table, name)[kept] for name in estimators if name in table.column_names}
    sampled = _sampled_correctness(run, kept_ids)
    competing = {name: scores[name] for name in scores if estimators[name].competes}
    combined = combined_score(competing, sampled, default_pivots(run.config), run.config.seed)
    return PoolEvidence(
        run=run,
        name=run.path.name,
        question_ids=kept_ids,
        scores=scores if combined is None else scores | {"combination": combined},
        wrong=~truths["greedy_right"].to_numpy(zero_copy_only=False).astype(bool)[kept],
        correctness=(column(truths, "num_correct") / column(truths, "num_samples"))[kept],
        vote_right=truths["vote_right"].to_numpy(zero_copy_only=False).astype(bool)[kept],
        sampled=sampled,
        num_failed=int((~kept).sum()),
    )


def default_pivots(config: Config) -> str:
    """The pivot estimator that everything is compared with: the run's own, whatever ranks it."""
    name = driving_estimator(config)
    pivots = f"{config.pivots.reading}_{config.pivots.statistic}"
    return name if name.startswith(("onset_", "peak_")) else pivots


def inferences(name: str, config: Config) -> int:
    """Generated responses a question that an estimator needs."""
    return {"nothing": 0, "samples": config.rollouts.num_samples}.get(_needs(name, config), 1)


def seconds_a_question(name: str, run: RunDir) -> float | None:
    """Measured seconds a question, as far as the run's timings tell; None where they do not.

    Loading the model is left out of generation, and is part of the seconds of tracing.
    """
    needs, questions = _needs(name, run.config), run.stage_facts("pool")["num_questions"]
    if needs == "nothing":
        return 0.0
    parts, stages = run.part_seconds("rollout"), run.seconds()
    greedy, sampled = parts.get("greedy"), parts.get("sampled")
    spent = {"greedy": [greedy], "samples": [sampled]}.get(needs, [greedy, stages.get("trace")])
    if any(took is None for took in spent):
        return None
    return sum(took for took in spent if took is not None) / questions


def combined_score(
    scores: Mapping[str, FloatArray], sampled: FloatArray, ranking: str, seed: int
) -> FloatArray | None:
    """The combination that `run` would fit on 64 probes: (Q,) places in its ranking.

    A probe's place is the one that a fit without it gives, as in `run`. None where there are too
    few questions, or nothing to fit.
    """
    if sampled.size <= 2 * NUM_PROBES or not np.isfinite(scores[ranking]).all():
        return None
    probes = draw_probes(scores[ranking], NUM_PROBES, seed=seed)
    features = rank_features(scores)  # (Q, k)
    fitted = combine(features[probes], sampled[probes], list(scores), seed)
    if fitted is None:
        return None
    places: FloatArray = rank_fractions(features @ fitted.weights)
    places[probes] = cross_fitted_places(fitted, features, probes)
    return places


def _sampled_correctness(run: RunDir, question_ids: Sequence[str]) -> FloatArray:
    answers, truths = sampled_answers(run), every_answer(run)
    config = run.config.answers
    with Verifier(config.verifier, config.timeout_s) as verifier:
        return np.array(
            [
                np.mean(verifier.check_many(answers[i], [truths[i]] * len(answers[i])))
                for i in question_ids
            ]
        )


def _needs(name: str, config: Config) -> str:
    """The costliest input of an estimator; the combination reads the trace."""
    estimators = estimators_of(config)
    return estimators[name].needs if name in estimators else "trace"

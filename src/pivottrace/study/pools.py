"""One labelled pool as arrays: scores, truth and costs. Missing tables are made first.

Axes: Q questions. If the greedy trace of a question failed (no response, or numbers that are not
finite), no estimator has a score for it. Such questions are left out and counted.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pivottrace.config import Config
from pivottrace.errors import ConfigError, DataError
from pivottrace.label_sources import source_for
from pivottrace.labels.buying import known_answers
from pivottrace.pipeline import run_step
from pivottrace.report.breakdown import kind_of_each
from pivottrace.routing.probes import draw_probes, rank_fractions
from pivottrace.routing.weighting import combine, cross_fitted_places, rank_features
from pivottrace.run.choices import driving_estimator, estimators_of, pivot_estimator
from pivottrace.run.directory import RunDir
from pivottrace.run.readings import estimator_scores, sampled_answers, scored_estimators, voted
from pivottrace.stages import truth
from pivottrace.stages.pool import read_sources
from pivottrace.stats.ranking_metrics import BoolArray, FloatArray, IntArray
from pivottrace.verifier import Verifier

# Labelled questions that a calibration or a combination is fitted on.
NUM_PROBES = 64
# The least questions of a pool. In 300 simulated pools with a true AUROC of 0.75 and 20 to 50 %
# wrong answers, 95 % intervals held it in 66 to 79 % of the pools of 8 questions, in 83 to 91 % of
# 16 and in 95 % of 64.
MIN_QUESTIONS = 16


@dataclass(frozen=True)
class PoolEvidence:
    """One pool of a study.

    Attributes:
        run: Its run directory.
        name: Name in the tables, which is the name of the run directory.
        question_ids: Q ids.
        scores: Estimator to scores (Q,), higher is less certain; NaN for a question without a
            score.
        wrong: (Q,) whether the greedy answer is wrong or missing.
        correctness: (Q,) share of right answers among the truth samples, in [0, 1].
        vote_right: (Q,) whether the majority of the estimators' samples is right.
        sampled: (Q,) share of right answers among the estimators' own samples, as a probe's label
            would show it.
        kind_column: Column of the pool that sorts its questions into kinds (`report.breakdown`);
            None if all are of one kind.
        kinds: (Q,) number of the question's kind; all 0 if they are of one kind.
        kind_names: The kinds by their number; "" for questions without one.
        ended: (Q,) whether the greedy response ended by itself, not at the limit of its length.
        num_failed: Number of questions left out, because their trace failed.
        num_unanswered: Number of further questions, which have no true answer.
    """

    run: RunDir
    name: str
    question_ids: list[str]
    scores: dict[str, FloatArray]
    wrong: BoolArray
    correctness: FloatArray
    vote_right: BoolArray
    sampled: FloatArray
    kind_column: str | None
    kinds: IntArray
    kind_names: list[str]
    ended: BoolArray
    num_failed: int
    num_unanswered: int


def prepare(config: Config) -> RunDir:
    """Run the missing stages among pool, greedy, trace, score, sample and truth.

    Every question gets `rollouts.num_samples` samples, whatever `rollouts.sampling` is, because a
    study compares estimators at equal samples. A new run of a half-labelled pool takes the answered
    questions.

    Raises:
        ConfigError: The run has begun to sample in steps.
        DataError: Too few questions have an answer; for a new run, this is checked before anything
            is written. Or the run is of a pool with gaps and has not sampled it.
    """
    _refuse_steps(config.output.expanduser())
    fixed = config.rollouts.model_copy(update={"sampling": "fixed"})
    run = RunDir.create(_of_the_answered(config).model_copy(update={"rollouts": fixed}))
    with run.locked():
        run_step(run, "pool")
        _refuse_gaps(run)
        for stage in ("greedy", "trace", "score", "sample"):
            run_step(run, stage)
        with run.timed("truth"):
            truth.run(run)
    return run


def _refuse_steps(path: Path) -> None:
    if not (path / "config.toml").is_file():
        return
    run = RunDir.open(path)
    if run.begun_facts("sample") and run.config.rollouts.sampling != "fixed":
        raise ConfigError(
            f"{path} samples in steps (rollouts.sampling), and a study needs equal samples of "
            f"every question. Give the study another run directory (output)."
        )


def _of_the_answered(config: Config) -> Config:
    """The configuration; for a half-labelled pool, with the setting that takes a part of it.

    An existing run has this setting as it was made.
    """
    path = config.output.expanduser()
    if (path / "pool.parquet").is_file():
        made = RunDir.open(path).config
        return _with_part(config, made.labels.budget) if made.pool.only_answered else config
    read = read_sources(config)[0].table
    num, num_answered = read.num_rows, read.num_rows - read["answer"].null_count
    source = source_for(config.labels.source, num, num_answered)
    if source.simulates and not source.needs_column:
        return config  # the source has the answers
    _refuse_few(config, num_answered, num)
    if num_answered == num:
        return config
    # A study buys no label, so a budget for the whole pool must not be too large for a part.
    budget = config.labels.budget
    return _with_part(config, budget if budget <= 1 else min(budget, num_answered))


def _with_part(config: Config, budget: float) -> Config:
    pool = config.pool.model_copy(update={"only_answered": True})
    labels = config.labels.model_copy(update={"budget": budget})
    return config.model_copy(update={"pool": pool, "labels": labels})


def _refuse_gaps(run: RunDir) -> None:
    """Refuse a run that would ask its model questions without an answer, or too few with one."""
    num, num_answered = run.stage_facts("pool")["num_questions"], len(known_answers(run))
    _refuse_few(run.config, num_answered, num)
    if num_answered < num and not run.is_done("sample"):
        raise DataError(
            f"{run.path}: {num_answered} of {num} questions have an answer, and this run would "
            f"sample the others, too. Give the study a run directory of its own (output), which "
            f"takes the answered questions only"
        )


def _refuse_few(config: Config, num_answered: int, num_questions: int) -> None:
    if num_answered < MIN_QUESTIONS:
        raise DataError(
            f"{config.pool.questions}: {num_answered} of {num_questions} questions have an answer, "
            f"and a study needs {MIN_QUESTIONS} at least: with fewer, its 95 % intervals are far "
            f"too narrow. Answer more questions, or name the answers' column with --map "
            f"answer=COLUMN"
        )


def read_evidence(run: RunDir) -> PoolEvidence:
    """Read a prepared run. Raises DataError if too few questions have a score."""
    truths = run.read_table("truth", made_by="study")
    ids, _ = voted(run)
    true_ids = truths["question_id"].to_pylist()
    answered = np.isin(ids, true_ids)
    if [i for i, known in zip(ids, answered, strict=True) if known] != true_ids:
        raise DataError(f"{run.path}: the tables votes and truth have different questions")
    estimators = scored_estimators(run)
    everyone = estimator_scores(run, list(estimators))

    def column(source: object, name: str) -> np.ndarray:
        return np.asarray(source[name].to_numpy(zero_copy_only=False), np.float64)  # type: ignore[index]

    # The random control is a number for every question with a trace to score.
    kept = np.isfinite(everyone["random"])[answered]
    if kept.sum() < MIN_QUESTIONS:
        raise DataError(
            f"{run.path}: {kept.sum()} of {kept.size} questions have a traced response. A study "
            f"needs {MIN_QUESTIONS} at least: look at the failures with pivottrace report "
            f"{shlex.quote(str(run.path))}"
        )
    kept_ids = [i for i, keep in zip(true_ids, kept, strict=True) if keep]
    scores = {name: values[answered][kept] for name, values in everyone.items()}
    sampled = _sampled_correctness(run, kept_ids)
    competing = {name: scores[name] for name in scores if estimators[name].competes}
    combined = combined_score(competing, sampled, default_pivots(run.config), run.config.seed)
    column_of_kinds, kind_of = kind_of_each(run) or (None, {})
    names, named = np.unique([kind_of.get(i, "") for i in kept_ids], return_inverse=True)
    greedy = run.read_parts("rollouts_greedy", "greedy", ["question_id", "finish"])
    finish = dict(zip(*(each.to_pylist() for each in greedy.columns), strict=True))
    return PoolEvidence(
        run=run,
        name=run.path.name,
        question_ids=kept_ids,
        scores=scores if combined is None else scores | {"combination": combined},
        wrong=~truths["greedy_right"].to_numpy(zero_copy_only=False).astype(bool)[kept],
        correctness=(column(truths, "num_correct") / column(truths, "num_samples"))[kept],
        vote_right=truths["vote_right"].to_numpy(zero_copy_only=False).astype(bool)[kept],
        sampled=sampled,
        kind_column=column_of_kinds,
        kinds=named.astype(np.int64),
        kind_names=names.tolist(),
        ended=np.array([finish[i] == "stop" for i in kept_ids]),
        num_failed=int((~kept).sum()),
        num_unanswered=run.stage_facts("pool").get("num_left_out", 0) + int((~answered).sum()),
    )


def default_pivots(config: Config) -> str:
    """Return the run's pivot estimator, the study's default, even if another estimator ranks."""
    name = driving_estimator(config)
    return name if name.startswith(("onset_", "peak_")) else pivot_estimator(config)


def inferences(name: str, config: Config) -> int:
    """Number of generated responses per question that an estimator needs."""
    return {"nothing": 0, "samples": config.rollouts.num_samples}.get(_needs(name, config), 1)


def seconds_per_question(name: str, run: RunDir) -> float | None:
    """Return the measured seconds per question of an estimator; None if timings are missing.

    Loading the model is not part of generation, but is part of the seconds of tracing.
    """
    needs, questions = _needs(name, run.config), run.stage_facts("pool")["num_questions"]
    if needs == "nothing":
        return 0.0
    stages = run.seconds()
    greedy, sampled = (run.part_seconds(stage).get("generation") for stage in ("greedy", "sample"))
    spent = {"greedy": [greedy], "samples": [sampled]}.get(needs, [greedy, stages.get("trace")])
    if any(took is None for took in spent):
        return None
    return sum(took for took in spent if took is not None) / questions


def combined_score(
    scores: Mapping[str, FloatArray], sampled: FloatArray, ranking: str, seed: int
) -> FloatArray | None:
    """Return places (Q,) in the ranking of the combination that `run` would fit on 64 probes.

    A probe's place comes from a fit without it, as in `run`. The result is None if there are too
    few questions, or if there is nothing to fit.
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
    answers, truths = sampled_answers(run), known_answers(run)
    with Verifier.of(run.config.answers) as verifier:
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

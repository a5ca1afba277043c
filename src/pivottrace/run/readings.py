"""Readings of the run directory's tables and records that more than one stage needs."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pivottrace.errors import RunDirError, counted
from pivottrace.estimators import ESTIMATORS, Estimator
from pivottrace.routing.vote_model import NUM_OWN, VoteModel
from pivottrace.run.choices import driving_estimator, estimators_of, table_of
from pivottrace.run.directory import RunDir
from pivottrace.run.scored_pool import Label, Scored, read_scored, standardised
from pivottrace.run.storage import read_json

# The stages that write the estimators' tables. Both tables have the pool's order.
MADE_BY = {"scores": "score", "votes": "sample"}
_BOTH = (("votes", "sample"), ("scores", "score"))
VOTE_MODEL = "vote_model.json"
"""The fitted vote model's file, in a round's folder."""


def table_with(run: RunDir, estimator: str) -> str:
    """The table that holds an estimator's scores: `votes` if the estimator needs samples."""
    return table_of(estimators_of(run.config)[estimator])


def scored_estimators(run: RunDir) -> dict[str, Estimator]:
    """The estimators that have a column. One that the package got later has none."""
    stored = {name for table in MADE_BY for name in run.table_schema(table).names}
    return {name: e for name, e in estimators_of(run.config).items() if name in stored}


def estimator_scores(run: RunDir, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The scores (Q,) of some estimators, in the pool's order. NaN where there is no score."""
    by_table: dict[str, list[str]] = {}
    for name in names:
        by_table.setdefault(table_with(run, name), []).append(name)
    tables = {each: run.read_table(each, MADE_BY[each], of) for each, of in by_table.items()}
    columns = {name: tables[table_with(run, name)][name] for name in names}
    return {
        name: column.to_numpy(zero_copy_only=False).astype(np.float64)
        for name, column in columns.items()
    }


def driving_scores(run: RunDir) -> tuple[list[str], np.ndarray]:
    """Question ids, and the driving estimator's scores (Q,). A failed question has NaN."""
    ids, failed = voted(run)
    scores = _combined_scores(run)
    if scores is None:
        estimator = driving_estimator(run.config)
        scores = estimator_scores(run, [estimator])[estimator]
    return ids, np.where(failed, np.nan, scores)


def voted(run: RunDir) -> tuple[list[str], np.ndarray]:
    """Question ids in the pool's order, and (Q,) whether a question has failed."""
    table = run.read_table("votes", MADE_BY["votes"], ["question_id", "failure"])
    return table["question_id"].to_pylist(), table["failure"].is_valid().to_numpy()


def is_combined(run: RunDir) -> bool:
    """Whether a combination ranks the pool. It can do so only after calibration."""
    return bool((run.stage_facts("calibrate").get("combination") or {}).get("used"))


def _combined_scores(run: RunDir) -> np.ndarray | None:
    """The combination's scores (Q,), if it ranks the pool."""
    if not is_combined(run):
        return None
    scores: np.ndarray = run.read_table("ranking", made_by="calibrate")["score"].to_numpy()
    return scores


def sampled_answers(run: RunDir) -> dict[str, list[str | None]]:
    """The sampled answers of each question, in sample order."""
    table = run.read_parts("rollouts_sampled", "sample", ["question_id", "answer"])
    answers: dict[str, list[str | None]] = {}
    for question_id, answer in zip(*(column.to_pylist() for column in table.columns), strict=True):
        answers.setdefault(question_id, []).append(answer)
    return answers


def samples_taken(run: RunDir) -> str | None:
    """How many samples the pool took of how many possible, in words; None before it is sampled.

    For instance "2,400 of 6,240 possible (4 for 300 questions, 8 for 30, 16 for 60)".
    """
    facts = run.stage_facts("sample")
    if not facts:
        return None
    # The manifest sorts its keys as texts.
    by_samples = sorted((int(n), num) for n, num in facts["questions_by_samples"].items())
    (least, questions), *others = by_samples or [(0, 0)]
    counts = [
        f"{least} for {counted(questions, 'question')}",
        *(f"{n} for {num:,}" for n, num in others),
    ]
    taken, possible = facts["samples_taken"], facts["samples_possible"]
    return f"{taken:,} of {possible:,} possible ({', '.join(counts)})"


def evaluation_facts(run: RunDir) -> dict[str, Any]:
    """The facts that the two evaluations recorded. Facts that do not exist yet are left out.

    Returns:
        `before` and `after`, each {accuracy, low, high, num_questions} and {pass_at_k, k} of one
        set or {num_sets} of several; `difference` {mean, low, high}, after minus before; `sets`,
        for each set {name, before, after, difference} as far as they are there (an older version
        recorded none); `skipped`, the reason why an evaluation was left out. Accuracies are shares
        in [0, 1]. Intervals have 95 %.
    """
    before, after = run.stage_facts("evaluate_before"), run.stage_facts("evaluate_after")
    facts = {
        "before": before.get("figures"),
        "after": after.get("figures"),
        "difference": after.get("difference"),
        "sets": _of_sets(before, after) or None,
        "skipped": before.get("skipped", after.get("skipped")),
    }
    return {name: value for name, value in facts.items() if value is not None}


def _of_sets(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The figures of each set before and after training, and their difference."""
    found: dict[str, dict[str, Any]] = {}
    for which, facts in (("before", before), ("after", after)):
        for figures in facts.get("sets", []):
            found.setdefault(figures["name"], {"name": figures["name"]})[which] = figures
    for name, difference in after.get("set_differences", {}).items():
        found[name]["difference"] = difference
    return list(found.values())


def trace_estimators(run: RunDir) -> list[str]:
    """The estimators that tell how sure a vote is, the driving one first.

    They are all that read the trace. If the driving one reads the samples, or nothing, the user has
    chosen to leave the trace out, and there is none.
    """
    estimators, driving = scored_estimators(run), driving_estimator(run.config)
    if not estimators_of(run.config)[driving].competes:
        return []
    return [driving, *(n for n, e in estimators.items() if e.competes and n != driving)]


def trace_features(run: RunDir) -> np.ndarray:
    """The scores of the traces by the package's estimators, standardised, (Q, k).

    The user's own estimator is not among them, so that sampling does not depend on the choice.
    """
    names = [name for name, each in ESTIMATORS.items() if each.competes]
    table = run.read_table("scores", MADE_BY["scores"], ["failure", *names])
    sound = ~table["failure"].is_valid().to_numpy()
    columns = [table[name].to_numpy(zero_copy_only=False).astype(np.float32) for name in names]
    return np.stack([standardised(column, sound) for column in columns], axis=1)


def scored_pool(
    run: RunDir, probes: list[dict[str, Any]], others: list[dict[str, Any]] | None = None
) -> Scored:
    """The scored pool as arrays.

    Args:
        run: The run, in a round that has been sampled.
        probes: Rows of `evidence`.
        others: The rows of `labelled` that count; None takes all of them.
    """
    votes, scores = (run.existing_table(name, made_by=by) for name, by in _BOTH)
    others = earlier_labels(run) if others is None else others
    labels, earlier = (
        {
            row["question_id"]: Label(row["num_correct"] / row["num_samples"], row["right_class"])
            for row in rows
            if row["num_correct"] is not None
        }
        for rows in (probes, others)
    )
    scored = read_scored(
        [votes],
        [scores],
        driving_estimator(run.config),
        trace_estimators(run),
        labels,
        earlier,
        [row["question_id"] for row in others if row["num_correct"] is None],
    )
    combined = _combined_scores(run)
    return scored if combined is None else replace(scored, scores=combined)


def vote_model(run: RunDir) -> VoteModel | None:
    """The model of the chances of answers that calibration fitted; None without labels.

    Raises:
        RunDirError: The model is of another version.
    """
    path = run.round_path / VOTE_MODEL
    if not path.is_file():
        return None
    stored = read_json(path)
    if len(stored["values"]) != NUM_OWN + len(stored["names"]):
        raise RunDirError(
            f"{path} is of another version of pivottrace. Take that version, or calibrate again, "
            f"which forgets a training too: pivottrace redo {shlex.quote(str(run.path))} calibrate"
        )
    return VoteModel(
        tuple(stored["names"]),
        np.array(stored["values"]),
        np.array(stored["covariance"]),
        stored["num_labels"],
    )


def earlier_labels(run: RunDir) -> list[dict[str, Any]]:
    """Rows of `labelled`: labels that were there before this round's triage, beside the probes.

    Calibration fixes them, so that a triage that is killed and begun again knows the same labels.
    """
    if run.round_index == 0 and not run.table_path("labelled").is_file():
        return []  # the run is of an older version, whose first round wrote no such table
    rows: list[dict[str, Any]] = run.read_table("labelled", made_by="calibrate").to_pylist()
    return rows

"""Calibration: draw probes over the ranking, get their labels, read the curves off them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pivottrace.labels import buying
from pivottrace.routing.adaptive_draw import draw_more, num_first_probes, probe_need
from pivottrace.routing.curves import CurveValues, ProbeEvidence, calibrate
from pivottrace.routing.probes import draw_probes, rank_fractions
from pivottrace.routing.routes import TriageOptions
from pivottrace.run import readings
from pivottrace.run.combination import combination_facts, fit_combination, rerank
from pivottrace.run.directory import RunDir
from pivottrace.schemas import CALIBRATION, EVIDENCE, LABELLED, PROBES
from pivottrace.verifier import Verifier


def run(run: RunDir) -> None:
    """Write `probes`, `evidence` and `calibration`; after the first round also `labelled`.

    Later rounds ask for no label: they count anew how often the probes are right by now.

    Raises:
        LabelsNeeded: the probes' labels must come from people.
    """
    if run.is_done("calibrate"):
        return
    ids, scores = readings.driving_scores(run)
    how = run.config.calibrate.draw
    again = run.round_index > 0
    num_probes = 0 if again else buying.probes_wanted(run)
    adaptive = how == "adaptive" and not again
    num_first = num_first_probes(num_probes) if adaptive else num_probes
    if not run.begun_facts("calibrate"):
        # No label was bought for probes yet, so they may still follow the settings.
        chosen = (
            _first_probes(run, ids, scores)
            if again
            else draw_probes(
                scores, num_first, run.config.seed, "strata" if how == "strata" else "systematic"
            )
        )
        drawn_by = {} if again else {buying.DRAWN_BY: json.dumps(buying.drawn_by(run))}
        first = _probe_table(ids, scores, chosen, 0)
        run.write_table("probes", first.replace_schema_metadata(drawn_by))
    with Verifier(run.config.answers.verifier, run.config.answers.timeout_s) as verifier:
        probes = run.read_table("probes", made_by="calibrate")
        rows = _label(run, probes.filter(pc.field("stage") == 0), verifier)
        if adaptive and rows:
            if not pc.any(pc.equal(probes["stage"], 1)).as_py():
                more = _draw_more(run, ids, scores, rows, num_probes - num_first)
                probes = pa.concat_tables([probes, more])
                run.write_table("probes", probes)
            # A request of its own: people are asked again, now for these.
            rows += _label(run, probes.filter(pc.field("stage") == 1), verifier)
        if again:
            run.write_table("labelled", _other_labels(run, probes, verifier))
    combination = fit_combination(run, rows) if rows else None
    # Never forced: a run that asks for a combination keeps its first ranking where none is offered.
    reranked = (
        run.config.score.estimator == "combination"
        and combination is not None
        and combination.offered
    )
    if combination is not None and reranked:
        ranking, rows = rerank(run, combination, rows)
        run.write_table("ranking", ranking)
    run.write_table("evidence", pa.Table.from_pylist(rows, schema=EVIDENCE))
    if rows:
        run.write_table("calibration", _curve_table(run, readings.probe_evidence(rows)))
    else:
        run.write_table("calibration", CALIBRATION.empty_table())
    run.mark_done(
        "calibrate",
        estimator=readings.driving_estimator(run.config),
        num_probes=len(rows),
        labels_asked=buying.num_asked(run, probes["question_id"].to_pylist(), "probe"),
        labels_used=buying.store(run).used,
        labels_allowed=buying.allowed_labels(run),
        mean_correctness=_mean(rows, lambda r: r["num_correct"] / r["num_samples"]),
        greedy_accuracy=_mean(rows, lambda r: r["greedy_right"]),
        combination=combination_facts(combination, reranked),
        vote_accuracy=_mean(rows, lambda r: r["vote_right"]),
        **verifier.facts(),
    )


def _first_probes(run: RunDir, ids: list[str], scores: np.ndarray) -> np.ndarray:
    """The first round's labelled probes that have a score now, as indices in ranking order.

    No label is bought for them again, and none is added to them: labels of the annotate route were
    chosen by rank, so they stand for no stretch of the ranking.
    """
    first = run.in_round(0).read_table("evidence", made_by="calibrate")
    is_probe = np.isin(ids, first["question_id"].to_pylist())
    chosen = np.flatnonzero(is_probe & ~np.isnan(scores))
    return chosen[np.argsort(scores[chosen], kind="stable")]


def _other_labels(run: RunDir, probes: pa.Table, verifier: Verifier) -> pa.Table:
    """Labels of earlier rounds beside the probes, and how often this round's samples are right.

    From here on they are what the round knows: what is bought later belongs to its own triage.
    """
    drawn = set(probes["question_id"].to_pylist())
    labels = {i: label for i, label in buying.bought(run).items() if i not in drawn}
    rows = []
    for question_id, answers in readings.sampled_answers(run).items():
        if question_id in labels:
            right = verifier.check_many(answers, [labels[question_id].answer] * len(answers))
            row = {"question_id": question_id, "purpose": labels[question_id].purpose}
            rows.append(row | {"num_correct": sum(right), "num_samples": len(right)})
    return pa.Table.from_pylist(rows, schema=LABELLED)


def _draw_more(
    run: RunDir,
    ids: list[str],
    scores: np.ndarray,
    evidence: list[dict[str, Any]],
    num_probes: int,
) -> pa.Table:
    """The second stage of an adaptive draw, by the first one's curve."""
    settings = run.config.calibrate
    curve = calibrate(readings.probe_evidence(evidence), settings.window, settings.level)
    # The defaults, not the run's: its thresholds may still change once probes are labelled.
    thresholds = (TriageOptions.mastered_floor, TriageOptions.hopeless_ceiling)
    need = probe_need(curve, rank_fractions(scores), thresholds)
    place = {question_id: i for i, question_id in enumerate(ids)}
    first = run.read_table("probes", made_by="calibrate")["question_id"].to_pylist()
    drawn = [place[question_id] for question_id in first]
    chosen = draw_more(scores, drawn, need, num_probes, run.config.seed)
    return _probe_table(ids, scores, chosen, 1)


def _probe_table(ids: list[str], scores: np.ndarray, chosen: np.ndarray, stage: int) -> pa.Table:
    columns = {
        "question_id": [ids[i] for i in chosen],
        "rank": rank_fractions(scores)[chosen],
        "score": scores[chosen],
        "stage": np.full(chosen.size, stage, np.int8),
    }
    return pa.table(columns, schema=PROBES)


def _label(run: RunDir, probes: pa.Table, verifier: Verifier) -> list[dict[str, Any]]:
    """Get the labels of some probes; rows of `evidence` for those that have one."""
    truths = buying.obtain(run, probes["question_id"].to_pylist(), "probe")
    labelled = [row for row in probes.to_pylist() if row["question_id"] in truths]
    return _evidence(run, labelled, truths, verifier)


def _evidence(
    run: RunDir, probes: list[dict[str, Any]], truths: dict[str, str], verifier: Verifier
) -> list[dict[str, Any]]:
    answers = readings.sampled_answers(run)
    greedy = run.read_parts("rollouts_greedy", "rollout", ["question_id", "answer"])
    greedy_answers = dict(zip(*(c.to_pylist() for c in greedy.columns), strict=True))
    votes = run.read_table(
        "scores", "score", ["question_id", "vote_answer", "vote_share", "vote_reason"]
    )
    vote_of = {row["question_id"]: row for row in votes.to_pylist()}
    rows = []
    for probe in probes:
        question_id = probe["question_id"]
        vote, truth = vote_of[question_id], truths[question_id]
        given = [*answers[question_id], vote["vote_answer"], greedy_answers[question_id]]
        *samples, vote_right, greedy_right = verifier.check_many(given, [truth] * len(given))
        abstained = vote["vote_reason"] != "ok"
        rows.append(
            probe
            | {
                "num_correct": sum(samples),
                "num_samples": len(samples),
                "vote_right": vote_right and not abstained,
                "vote_abstained": abstained,
                "vote_share": None if abstained else vote["vote_share"],
                "greedy_right": greedy_right,
            }
        )
    return rows


def _curve_table(run: RunDir, evidence: ProbeEvidence) -> pa.Table:
    settings = run.config.calibrate
    curve = calibrate(evidence, settings.window, settings.level)
    values: CurveValues = curve.values
    columns = {"rank": curve.ranks, "window_size": curve.window_sizes, **vars(values)}
    return pa.table({name: columns[name] for name in CALIBRATION.names}, schema=CALIBRATION)


def _mean(rows: list[dict[str, Any]], value: Any) -> float | None:
    return float(np.mean([value(row) for row in rows])) if rows else None

"""Calibration: draw probes, get their labels, and fit how sure each vote is."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pivottrace.labels.budget import (
    allowed_labels,
    bought,
    given_after_the_vote,
    num_answers,
    probes_wanted,
    true_answers,
)
from pivottrace.labels.buying import num_asked, obtain, take_owned
from pivottrace.labels.intake import DRAWN_BY, drawn_by
from pivottrace.routing.adaptive_draw import draw_more, num_first_probes, probe_need
from pivottrace.routing.curves import CurveValues, ProbeEvidence, calibrate
from pivottrace.routing.probes import draw_by_value, draw_probes, rank_fractions
from pivottrace.run import readings
from pivottrace.run.choices import driving_estimator
from pivottrace.run.combination import combination_facts, fit_combination, rerank
from pivottrace.run.directory import RunDir
from pivottrace.run.scored_pool import probe_evidence
from pivottrace.schemas import CALIBRATION, EVIDENCE, PROBES
from pivottrace.stages.vote_fit import (
    fit_vote_model,
    judge_samples,
    other_labels,
    value_before_labels,
)
from pivottrace.verifier import Verifier

# Correctness at which decisions change: an adaptive draw asks more where the curve is near them.
DECIDED_AT = (0.95, 0.05)


def run(run: RunDir) -> None:
    """Write `probes`, `evidence`, `labelled`, `calibration` and the vote model.

    Later rounds ask for no label. They count again how often the model is right on the probes.

    Raises:
        LabelsNeeded: The probes' labels must come from people.
    """
    if run.is_done("calibrate"):
        return
    ids, scores = readings.driving_scores(run)
    num_probes = 0 if run.round_index else probes_wanted(run)
    begun = run.begun_facts("calibrate")
    if not (begun and run.table_path("probes").is_file()):
        # Before a label is bought for probes, they may still follow the settings.
        _write_probes(run, ids, scores, num_probes)
    # A calibration that is made again, because files were lost, knows the answers that it knew.
    first = begun.get("answers_known")
    if first is None:
        take_owned(run)
    with Verifier.of(run.config.answers) as verifier:
        rows = _label(run, 0, verifier, first)
        if _draws_twice(run) and rows:
            _write_more_probes(run, ids, scores, rows, num_probes)
            # This is a second request: people are asked again, now for the added probes.
            rows += _label(run, 1, verifier, first)
        run.write_table("labelled", other_labels(run, verifier, first))
    combination, rows = _rank_anew(run, rows)
    finish(
        run,
        rows,
        estimator=driving_estimator(run.config),
        combination=combination,
        probes_wanted=num_probes,
        **verifier.facts(),
    )


def finish(run: RunDir, rows: list[dict[str, Any]], **facts: Any) -> None:
    """Write `evidence`, `calibration` and the vote model, and record that calibration has finished.

    Args:
        run: The run. Its table `probes` is written already.
        rows: Rows of `evidence`, one per labelled probe.
        **facts: Further facts to record, beside the counts and means that follow from the probes.
            They include `estimator`, the name of the estimator that ranks the pool,
            `combination`, the result of `combination_facts`, and `probes_wanted`.
    """
    # A calibration that is made again keeps the number that it knew.
    first = run.begun_facts("calibrate").get("answers_known")
    checked, model_facts = fit_vote_model(run, rows, first)
    run.write_table("evidence", pa.Table.from_pylist(checked, schema=EVIDENCE))
    even = rows and run.config.calibrate.draw != "by_value"
    curve = _curve_table(run, probe_evidence(rows)) if even else CALIBRATION.empty_table()
    run.write_table("calibration", curve)
    drawn = run.read_table("probes", made_by="calibrate")["question_id"].to_pylist()
    run.mark_done(
        "calibrate",
        num_probes=len(rows),
        labels_asked=num_asked(run, drawn, "probe"),
        labels_used=len(bought(run)),
        labels_allowed=allowed_labels(run),
        labels_after_vote=len(given_after_the_vote(run, first) & set(drawn)),
        answers_known=num_answers(run) if first is None else first,
        mean_correctness=_mean(rows, lambda r: r["num_correct"] / r["num_samples"]),
        greedy_accuracy=_mean(rows, lambda r: r["greedy_right"]),
        vote_accuracy=_mean(rows, lambda r: r["vote_right"]),
        vote_model=model_facts,
        **facts,
    )


def _draws_twice(run: RunDir) -> bool:
    """Whether the labels of the first probes decide where the others are drawn."""
    return run.config.calibrate.draw == "adaptive" and run.round_index == 0


def _write_probes(run: RunDir, ids: list[str], scores: np.ndarray, num_probes: int) -> None:
    """Write the probes that are drawn before any label; later rounds keep the first probes."""
    if run.round_index > 0:
        kept = _first_probes(run, ids, scores)
        # A probe may have failed in a round between, so chances come from the first draw.
        drawn = run.in_round(0).read_table("probes", made_by="calibrate")
        chances = dict(zip(*(drawn[n].to_pylist() for n in ("question_id", "chance")), strict=True))
        chance = np.array([chances[ids[i]] for i in kept], dtype=np.float64)
        run.write_table("probes", _probe_table(ids, scores, kept, 0, chance))
        return
    num_first = num_first_probes(num_probes) if _draws_twice(run) else num_probes
    chosen, chance = drawn_probes(run, scores, num_first)
    how_drawn = {DRAWN_BY: json.dumps(drawn_by(run))}
    table = _probe_table(ids, scores, chosen, 0, None if _draws_twice(run) else chance)
    run.write_table("probes", table.replace_schema_metadata(how_drawn))


def drawn_probes(run: RunDir, scores: np.ndarray, num_probes: int) -> tuple[np.ndarray, np.ndarray]:
    """The probes (indices) that calibration draws first, and the chance that each had."""
    how, seed = run.config.calibrate.draw, run.config.seed
    if how == "by_value":
        return draw_by_value(scores, value_before_labels(run), num_probes, seed)
    chosen = draw_probes(scores, num_probes, seed, "strata" if how == "strata" else "systematic")
    num_ranked = int((~np.isnan(scores)).sum())
    return chosen, np.full(chosen.size, chosen.size / max(num_ranked, 1))


def _first_probes(run: RunDir, ids: list[str], scores: np.ndarray) -> np.ndarray:
    """The first round's labelled probes that have a score now, as indices in ranking order.

    No label is bought for them again. Labels of the annotate route are not added to them, because
    those questions were chosen by rank, so they do not represent a stretch of the ranking.
    """
    first = run.in_round(0).read_table("evidence", made_by="calibrate")
    is_probe = np.isin(ids, first["question_id"].to_pylist())
    chosen = np.flatnonzero(is_probe & ~np.isnan(scores))
    return chosen[np.argsort(scores[chosen], kind="stable")]


def _write_more_probes(
    run: RunDir,
    ids: list[str],
    scores: np.ndarray,
    evidence: list[dict[str, Any]],
    num_probes: int,
) -> None:
    """Add the second stage of an adaptive draw by the first stage's curve, unless it exists."""
    probes = run.read_table("probes", made_by="calibrate")
    if pc.any(pc.equal(probes["stage"], 1)).as_py():
        return
    settings = run.config.calibrate
    curve = calibrate(probe_evidence(evidence), settings.window, settings.level)
    need = probe_need(curve, rank_fractions(scores), DECIDED_AT)
    place = {question_id: i for i, question_id in enumerate(ids)}
    drawn = [place[question_id] for question_id in probes["question_id"].to_pylist()]
    num_more = num_probes - num_first_probes(num_probes)
    chosen = draw_more(scores, drawn, need, num_more, run.config.seed)
    added = _probe_table(ids, scores, chosen, 1, None)
    run.write_table("probes", pa.concat_tables([probes, added]))


def _rank_anew(
    run: RunDir, rows: list[dict[str, Any]]
) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """Fit a combination on the probes, and rank by it if the settings ask for it and it is offered.

    A combination is never forced: if it is not offered, the run keeps its first ranking.

    Returns:
        The facts of the combination to record, None without a combination; and the rows of
        `evidence`, at the probes' places in the ranking that counts from here on.
    """
    combination = fit_combination(run, rows) if rows else None
    if combination is None:
        return None, rows
    reranked = run.config.score.estimator == "combination" and combination.offered
    if reranked:
        ranking, rows = rerank(run, combination, rows)
        run.write_table("ranking", ranking)
    return combination_facts(combination, reranked), rows


def _probe_table(
    ids: list[str],
    scores: np.ndarray,
    chosen: np.ndarray,
    stage: int,
    chance: np.ndarray | None,
) -> pa.Table:
    unknown = pa.nulls(chosen.size, pa.float64())
    columns = {
        "chance": unknown if chance is None else pa.array(chance, from_pandas=True),
        "question_id": [ids[i] for i in chosen],
        "rank": rank_fractions(scores)[chosen],
        "score": scores[chosen],
        "stage": np.full(chosen.size, stage, np.int8),
    }
    return pa.table(columns, schema=PROBES)


def _label(run: RunDir, stage: int, verifier: Verifier, first: int | None) -> list[dict[str, Any]]:
    """Get the labels of one stage's probes. Return rows of `evidence` for the labelled probes.

    A label that was given after the vote was shown gives no row.

    Nothing is asked if `first` says how many answers were known. See `labels_of`.
    """
    probes = run.read_table("probes", made_by="calibrate").filter(pc.field("stage") == stage)
    asked = probes["question_id"].to_pylist()
    truths = obtain(run, asked, "probe") if first is None else true_answers(run, first)
    usable = truths.keys() - given_after_the_vote(run, first)
    labelled = [row for row in probes.to_pylist() if row["question_id"] in usable]
    return _evidence(run, labelled, truths, verifier)


def _evidence(
    run: RunDir, probes: list[dict[str, Any]], truths: dict[str, str], verifier: Verifier
) -> list[dict[str, Any]]:
    wanted = ["question_id", "vote_answer", "vote_share", "vote_reason"]
    votes = run.read_table("votes", "sample", wanted).to_pylist()
    vote_of = {row["question_id"]: row for row in votes}
    of_probes = {probe["question_id"]: truths[probe["question_id"]] for probe in probes}
    judged = judge_samples(run, of_probes, verifier)
    given = [vote_of[probe["question_id"]]["vote_answer"] for probe in probes]
    right = verifier.check_many(given, [truths[probe["question_id"]] for probe in probes])
    rows = []
    for probe, vote_right in zip(probes, right, strict=True):
        vote, found = vote_of[probe["question_id"]], judged[probe["question_id"]]
        abstained = vote["vote_reason"] != "ok"
        rows.append(
            probe
            | {
                **vars(found),
                "vote_right": vote_right and not abstained,
                "vote_abstained": abstained,
                "vote_share": None if abstained else vote["vote_share"],
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

"""Triage: scores, curves and the budget to a route for every question, and the route files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pivottrace import tables
from pivottrace.annotate import sources
from pivottrace.core.calibrate import CalibrationCurve, CurveValues
from pivottrace.core.probes import rank_fractions
from pivottrace.core.routes import ROUTES
from pivottrace.core.triage import (
    QuestionEvidence,
    TriageOptions,
    TriageResult,
    failure_codes,
    triage,
)
from pivottrace.core.weak import vote_risk, weak_route, with_own_votes
from pivottrace.rundir import RunDir, write_parquet, write_text
from pivottrace.types import TRIAGE

CURVE_COLUMNS = ("mu", "mu_low", "mu_high", "vote", "vote_low", "vote_high", "learnability")


def run(run: RunDir) -> None:
    """Write `triage`, and `routes/{annotate,weak,discard,defer}` as parquet and JSONL."""
    if run.is_done("triage"):
        return
    ids, scores = tables.driving_scores(run)
    score_rows = run.read_table("scores", made_by="score").to_pylist()
    probes = run.read_table("evidence", made_by="calibrate").to_pylist()
    curve = _curve(run)
    options = _options(run)
    ranks = rank_fractions(scores)
    question_evidence = _question_evidence(ids, score_rows, probes)
    values, floor, holds = None, None, None
    if curve:
        rows, shares = tables.probe_evidence(probes), question_evidence.vote_share
        settings = run.config.calibrate
        values = with_own_votes(
            curve.at(ranks), rows, ranks, shares, window=settings.window, level=settings.level
        )
        floor = weak_route(rows, curve, options)
        holds = vote_risk(ranks, shares) <= floor.end
    allowed = sources.allowed_labels(run)
    result = triage(
        ranks,
        budget=allowed - len(probes),
        curve=values,
        vote_holds=holds,
        evidence=question_evidence,
        options=options,
    )
    table = _table(
        ids, scores, ranks, score_rows, {p["question_id"] for p in probes}, values, result
    )
    run.write_table("triage", table)
    write_route_files(run, table)
    to_buy = (pc.field("route") == "annotate") & ~pc.field("is_probe")
    run.mark_done(
        "triage",
        counts=result.counts(),
        labels_allowed=allowed,
        labels_planned=len(probes) + table.filter(to_buy).num_rows,
        weak_floor=None if floor is None else {k: _finite(v) for k, v in vars(floor).items()},
    )


def write_route_files(run: RunDir, table: pa.Table) -> None:
    """Write each route, in order of value, as one parquet and one JSONL file for other tools."""
    pool = run.read_table("pool", made_by="run").select(["id", "prompt", "source"]).to_pylist()
    questions = {row["id"]: row for row in pool}
    rows: dict[str, list[dict[str, Any]]] = {route: [] for route in ROUTES}
    for row in sources.by_value(table).to_pylist():
        question = questions[row["question_id"]]
        rows[row["route"]].append(
            {
                "id": row["question_id"],
                "prompt": question["prompt"],
                "source": question["source"],
                **{k: row[k] for k in ROUTE_FILE_COLUMNS},
            }
        )
    for route, found in rows.items():
        path = route_file(run, route)
        write_parquet(path, pa.Table.from_pylist(found, schema=ROUTE_FILE))
        lines = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in found)
        write_text(path.with_suffix(".jsonl"), lines)


ROUTE_FILE_COLUMNS = ("reason", "rank", "score", "priority", "weight", "pseudo_label", "vote_share")
ROUTE_FILE = pa.schema(
    [
        ("id", pa.string()),
        ("prompt", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
        ("source", pa.string()),
        *(TRIAGE.field(name) for name in ROUTE_FILE_COLUMNS),
    ]
)


def route_file(run: RunDir, route: str) -> Path:
    """Where a route's parquet file lies; the JSONL file is beside it."""
    return run.round_path / "routes" / f"{route}.parquet"


def _options(run: RunDir) -> TriageOptions:
    settings = run.config.triage
    fixed = (settings.annotate_fraction, settings.discard_fraction)
    return TriageOptions(
        mastered_floor=settings.mastered_floor,
        hopeless_ceiling=settings.hopeless_ceiling,
        vote_floor=settings.vote_floor,
        vote_alpha=settings.vote_alpha,
        hopeless=settings.hopeless,
        fractions=fixed if settings.mode == "fixed" else None,
    )


def _curve(run: RunDir) -> CalibrationCurve | None:
    """The stored curve; None where no probe was labelled."""
    table = run.read_table("calibration", made_by="calibrate")
    if not len(table):
        return None
    columns = {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}
    ranks, sizes = columns.pop("rank"), columns.pop("window_size")
    facts = run.stage_facts("calibrate")
    return CalibrationCurve(
        ranks, sizes, CurveValues(**columns), run.config.calibrate.level, facts["num_probes"]
    )


def _question_evidence(
    ids: list[str], scores: list[dict[str, Any]], probes: list[dict[str, Any]]
) -> QuestionEvidence:
    probe_of = {p["question_id"]: p for p in probes}
    correctness = [
        probe_of[i]["num_correct"] / probe_of[i]["num_samples"] if i in probe_of else np.nan
        for i in ids
    ]
    abstained = np.array([row["vote_reason"] != "ok" for row in scores])
    share = np.array([row["vote_share"] for row in scores], dtype=np.float64)
    codes, names = failure_codes([row["failure"] for row in scores])
    num_samples = np.array([row["num_samples"] for row in scores], dtype=np.int64)
    return QuestionEvidence(
        vote_share=np.where(abstained, np.nan, share),
        vote_abstained=abstained,
        num_samples=num_samples,
        labelled=np.array([i in probe_of for i in ids]),
        correctness=np.array(correctness, dtype=np.float64),
        failure_code=codes,
        failure_names=names,
    )


def _table(
    ids: list[str],
    scores: np.ndarray,
    ranks: np.ndarray,
    score_rows: list[dict[str, Any]],
    probes: set[str],
    values: CurveValues | None,
    result: TriageResult,
) -> pa.Table:
    routes = result.routes()
    numbers: dict[str, np.ndarray] = {
        "rank": ranks, "score": scores, "weight": result.weight, "label_gain": result.label_gain,
        "pseudo_gain": result.pseudo_gain, "priority": result.priority,
    }  # fmt: skip
    for name in CURVE_COLUMNS:
        numbers[name] = getattr(values, name) if values else np.full(len(ids), np.nan)
    columns: dict[str, Any] = {
        # NaN means "not known": a null in the table.
        **{
            name: pa.array(column, pa.float64(), from_pandas=True)
            for name, column in numbers.items()
        },
        "question_id": ids,
        "route": routes,
        "reason": result.reasons(),
        "is_probe": [i in probes for i in ids],
        "pseudo_label": [
            row["vote_answer"] if route == "weak" else None
            for row, route in zip(score_rows, routes, strict=True)
        ],
        "vote_share": [row["vote_share"] for row in score_rows],
    }
    return pa.table({name: columns[name] for name in TRIAGE.names}, schema=TRIAGE)


def _finite(value: float) -> float | None:
    return None if np.isnan(value) else value

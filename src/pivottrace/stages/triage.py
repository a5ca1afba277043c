"""Triage: choose a route for every question by votes, traces and budget; write route files."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pivottrace.errors import RunDirError
from pivottrace.exports.jsonl import JSONL
from pivottrace.exports.parquet import PARQUET
from pivottrace.labels.budget import allowed_labels, bought, refuse_unusable_budget
from pivottrace.routing.flows import count_moves, route_flows
from pivottrace.run import readings
from pivottrace.run.choices import most_rows, triage_options
from pivottrace.run.directory import RunDir
from pivottrace.run.pool_routes import (
    Routed,
    agreement_of,
    expectations,
    route_pool,
    triage_batches,
)
from pivottrace.run.rounds import labels_by_then
from pivottrace.run.scored_pool import Scored, probe_evidence
from pivottrace.run.storage import disk_errors, write_batches
from pivottrace.schemas import FLOWS, TRIAGE
from pivottrace.stages.preconditions import refuse_unprovable_floor


def run(run: RunDir) -> None:
    """Write `triage`, and `routes/{annotate,weak,discard,defer}` as parquet and JSONL.

    After the first round it also writes `flows`. Labels that are there already are free. The round
    may buy its share of the labels that remain in the budget.

    Raises:
        BudgetError: The changed budget is less than the labels bought, or it allows labels and the
            budget at calibration was 0.
    """
    if run.is_done("triage"):
        return
    refuse_unusable_budget(run)
    refuse_unprovable_floor(run.config)
    finish(run, *decide(run, allowed_labels(run)))


def decide(run: RunDir, allowed: int) -> tuple[Scored, Routed]:
    """The scored pool of a calibrated run, and the decision on it under a number of labels."""
    rows = run.read_table("evidence", made_by="calibrate").to_pylist()
    scored = readings.scored_pool(run, rows)
    model = readings.vote_model(run)
    by_then = labels_by_then(run, allowed, _num_probes(run))
    routed = route_pool(
        scored,
        budget=max(0, by_then - _num_labels(run)),
        expected=None if model is None else expectations(scored, model, agreement_of(scored)),
        probes=probe_evidence(rows) if rows else None,
        options=triage_options(run.config),
    )
    return scored, routed


def finish(run: RunDir, scored: Scored, routed: Routed) -> None:
    """Write `triage`, the route files and `flows`, and record that triage has finished.

    Args:
        run: The run, after calibration.
        scored: The scored pool of the run.
        routed: The decision on this pool.
    """
    batches = triage_batches([run.table_path("votes")], scored, routed)
    write_batches(run.table_path("triage"), TRIAGE, batches)
    table = run.read_table("triage", made_by="triage")
    write_route_files(run)
    flows = _write_flows(run, table) if run.round_index else {}
    earlier = [row["question_id"] for row in readings.earlier_labels(run)]
    to_buy = (
        (pc.field("route") == "annotate")
        & ~pc.field("is_probe")
        & ~pc.field("question_id").isin(pa.array(earlier, pa.string()))
    )
    floor = routed.floor
    run.mark_done(
        "triage",
        counts=routed.result.counts(),
        put_off=_put_off(table),
        most_rows=most_rows(run.config),
        labels_allowed=allowed_labels(run),
        labels_planned=_num_labels(run) + table.filter(to_buy).num_rows,
        **flows,
        weak_floor=None if floor is None else {k: _finite(v) for k, v in vars(floor).items()},
    )


def _put_off(table: pa.Table) -> dict[str, int]:
    """Number of deferred questions by reason, the most frequent first."""
    reasons = Counter(table.filter(pc.field("route") == "defer")["reason"].to_pylist())
    return dict(reasons.most_common())


def _num_labels(run: RunDir) -> int:
    """Number of labels bought before this triage; the user's own ones cost nothing."""
    return int(run.stage_facts("calibrate")["labels_used"])


def _num_probes(run: RunDir) -> int:
    """Number of labels bought for probes, in this round's evidence or outside it."""
    probes = run.read_table("evidence", made_by="calibrate")["question_id"].to_pylist()
    others = [r["question_id"] for r in readings.earlier_labels(run) if r["purpose"] == "probe"]
    return len({*probes, *others} & bought(run).keys())


def _write_flows(run: RunDir, table: pa.Table) -> dict[str, Any]:
    """Write `flows`, from the previous round's routes to these. Return the facts to record."""
    earlier = run.in_round(run.round_index - 1)
    before = earlier.read_table("triage", made_by="triage")
    if not before["question_id"].equals(table["question_id"]):  # both are in the pool's order
        raise RunDirError(
            f"{earlier.table_path('triage')}: its questions differ from the questions of the next "
            f"round. Put the old table back, or start again in another directory (--output)."
        )
    columns = [t[name] for t in (before, table) for name in ("route", "reason")]
    moved = pa.table(columns, names=FLOWS.names[:4]).group_by(FLOWS.names[:4])
    counted = moved.aggregate([([], "count_all")]).select([*FLOWS.names[:4], "count_all"])
    *keys, counts = counted.to_pydict().values()
    flows = route_flows(dict(zip(zip(*keys, strict=True), counts, strict=True)))
    run.write_table("flows", pa.Table.from_pylist(list(map(vars, flows)), schema=FLOWS))
    return {"moves": count_moves(flows)}


def write_route_files(run: RunDir) -> None:
    """Write each route of the stored triage as a parquet file and a JSONL file for other tools."""
    folder = run.round_path / "routes"
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for export_format in (PARQUET, JSONL):
        export_format.write(run, folder)


def _finite(value: float) -> float | None:
    return None if np.isnan(value) else value

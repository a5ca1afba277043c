"""Triage: scores, curves and the budget to a route for every question, and the route files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pivottrace import routing, tables
from pivottrace.annotate import sources
from pivottrace.core.routes import ROUTES
from pivottrace.rundir import RunDir, write_batches, write_parquet, write_text
from pivottrace.types import TRIAGE


def run(run: RunDir) -> None:
    """Write `triage`, and `routes/{annotate,weak,discard,defer}` as parquet and JSONL.

    Raises:
        BudgetError: the budget was changed to one that the probes have spent, or cannot serve.
    """
    if run.is_done("triage"):
        return
    sources.refuse_unusable_budget(run)
    paths = tables.score_files(run)
    rows = run.read_table("evidence", made_by="calibrate").to_pylist()
    scored = tables.scored_pool(run, rows)
    allowed, settings = sources.allowed_labels(run), run.config.calibrate
    routed = routing.route_pool(
        scored,
        budget=allowed - len(rows),
        probes=tables.probe_evidence(rows) if rows else None,
        curve=tables.calibration_curve(run),
        options=tables.triage_options(run.config),
        window=settings.window,
        level=settings.level,
    )
    batches = routing.triage_batches(paths, scored, routed)
    write_batches(run.table_path("triage"), TRIAGE, batches)
    table = run.read_table("triage", made_by="triage")
    write_route_files(run, table)
    to_buy = (pc.field("route") == "annotate") & ~pc.field("is_probe")
    floor = routed.floor
    run.mark_done(
        "triage",
        counts=routed.result.counts(),
        labels_allowed=allowed,
        labels_planned=len(rows) + table.filter(to_buy).num_rows,
        weak_floor=None if floor is None else {k: _finite(v) for k, v in vars(floor).items()},
    )


def write_route_files(run: RunDir, table: pa.Table) -> None:
    """Write each route, in order of value, as one parquet and one JSONL file for other tools."""
    pool = run.read_table("pool", made_by="run").select(["id", "prompt", "source"])
    for route in ROUTES:
        rows = sources.by_value(table.filter(pc.field("route") == route))
        asked = pool.take(pc.index_in(rows["question_id"], value_set=pool["id"]))
        columns = asked.columns + [rows[name] for name in ROUTE_FILE_COLUMNS]
        found = pa.table(columns, schema=ROUTE_FILE)
        path = route_file(run, route)
        write_parquet(path, found)
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in found.to_pylist())
        write_text(path.with_suffix(".jsonl"), "".join(lines))


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


def _finite(value: float) -> float | None:
    return None if np.isnan(value) else value

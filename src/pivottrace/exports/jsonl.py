"""The route files as JSON lines."""

from __future__ import annotations

import json
from pathlib import Path

from pivottrace.exports import ExportFormat, Written
from pivottrace.exports.routed import route_rows
from pivottrace.run.directory import RunDir
from pivottrace.run.storage import write_text


def write(run: RunDir, folder: Path) -> Written:
    """Write `ROUTE.jsonl` per route, a row of schema `ROUTE_ROWS` as an object per line."""
    rows = {}
    for route, table in route_rows(run):
        name = f"{route}.jsonl"
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in table.to_pylist())
        write_text(folder / name, "".join(lines))
        rows[name] = table.num_rows
    return Written(rows)


JSONL = ExportFormat("jsonl", "the route files, a JSONL file per route", write)

"""The route files as parquet."""

from __future__ import annotations

from pathlib import Path

from pivottrace.exports import ExportFormat, Written
from pivottrace.exports.routed import route_rows
from pivottrace.run.directory import RunDir
from pivottrace.run.storage import write_parquet


def write(run: RunDir, folder: Path) -> Written:
    """Write `ROUTE.parquet` per route, of schema `ROUTE_ROWS`."""
    rows = {}
    for route, table in route_rows(run):
        name = f"{route}.parquet"
        write_parquet(folder / name, table)
        rows[name] = table.num_rows
    return Written(rows)


PARQUET = ExportFormat("parquet", "the route files, a parquet file per route", write)

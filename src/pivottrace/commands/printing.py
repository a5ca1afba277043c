"""The output of `plan` and `audit`: tables for a terminal, and the next command."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from pivottrace.commands.audit import Suspect
from pivottrace.commands.status import next_line, quoted
from pivottrace.labels.budget import source_of
from pivottrace.labels.requests import waiting_file
from pivottrace.pipeline import unfinished
from pivottrace.report.texts import field
from pivottrace.routing.routes import ROUTES
from pivottrace.run.choices import most_rows
from pivottrace.run.directory import RunDir
from pivottrace.run.outputs import AUDIT
from pivottrace.run.readings import samples_taken
from pivottrace.stages.unanswered import unanswered_note

PLAN_HEAD = (
    "budget   labels annotate     weak  discard    defer  wrong votes  learning (90 % band)"
    "        tokens    hours"
)
AUDIT_HEAD = "label wrong  vote right  samples  label → the model's answer  (question)"


def plan_lines(run: RunDir, table: pa.Table) -> list[str]:
    """A plan, an explanation of its terms, and the next command."""
    rows, place = table.to_pylist(), quoted(run.path)
    unanswered = unanswered_note(run)
    num_probes = run.stage_facts("calibrate").get("num_probes")
    lines = [PLAN_HEAD, *_plan_rows(rows), ""]
    if num_probes:
        lines += [
            f"labels: the {num_probes} labelled probes, and the annotations beside them",
            "learning is relative to a budget of 100 %, which labels every question worth it",
        ]
        most, is_limited = most_rows(run.config), run.config.triage.mode == "calibrated"
        if is_limited and any(
            row["weak"] and row["annotate"] + row["weak"] >= most for row in rows
        ):
            lines.append(
                f"places: votes are added only up to {most:,} rows (triage.most_rows), so labels "
                f"take places of votes; learning counts a row once, however often it is seen"
            )
        lines.append("to choose another row, continue with --budget SHARE")
        following = f"pivottrace run {place}"
        if not unfinished(run):
            following = f"pivottrace redo {place} calibrate --budget SHARE, or nothing: it is done"
    else:
        lines += [
            "calibration has no probe's label yet, so correctness is unknown: the rows show shares",
            "of the ranking (discard as in the paper), without errors or learning. The probes lie",
            "along the whole ranking, are paid from each budget first, and count as annotated",
        ]
        owned = run.stage_facts("pool")["num_with_answer"] if source_of(run).owns_column else 0
        if owned:
            lines.append(
                f"the pool's own answers ({owned:,}) come in with calibration, at no cost; this "
                f"plan does not count them"
            )
        following = f"{_labels_of_probes(run)}, then plan again"
    if rows[0]["hours"] is None:
        lines.append("this run has no timings, so the plan has no costs")
    else:
        lines.append("tokens and hours: one pass of training, at the rates that this run measured")
    lines.append(f"samples taken of the pool: {samples_taken(run)}")
    if unanswered is not None:
        lines.append(f"note: {unanswered}")
    files = quoted(run.round_path / "plan.parquet")
    return [*lines, f"wrote {files}, .csv, .json and .svg", f"next: {following}"]


def _labels_of_probes(run: RunDir) -> str:
    """How the probes get their labels; people may have been asked already."""
    if waiting_file(run) is not None:
        return next_line(run, "").removeprefix("next: ")
    asks = source_of(run).ask is not None
    what = "asks people for the probes' labels" if asks else "buys the probes' labels"
    return f"pivottrace run {quoted(run.path)} --until calibrate ({what})"


def _plan_rows(rows: list[dict[str, Any]]) -> list[str]:
    """A line per budget. If more labels change nothing, the budgets share a line."""
    most, shown = rows[-1]["learning"], list(rows)
    while len(shown) > 1 and _routed(shown[-2]) == _routed(rows[-1]):
        shown.pop()
    lines = [_plan_line(row, most) for row in shown]
    if len(shown) < len(rows):
        lines.append(f"  up to {100 * rows[-1]['budget']:.0f} % the same: more labels add nothing")
    return lines


def _routed(row: dict[str, Any]) -> list[Any]:
    return [row[name] for name in ("labels", *ROUTES)]


def _plan_line(row: dict[str, Any], most: float | None) -> str:
    def relative(name: str) -> str:
        return f"{100 * row[name] / most:.0f}" if most else "–"

    band = "–"
    if row["learning"] is not None:
        low, high = relative("learning_low"), relative("learning_high")
        band = f"{relative('learning'):>3} % ({low} to {high})"
    wrong = "–" if row["wrong_votes"] is None else f"{100 * row['wrong_votes']:.1f} %"
    tokens = "–" if row["tokens"] is None else f"{row['tokens']:,.0f}"
    hours = "–" if row["hours"] is None else f"{row['hours']:.3g}"
    counts = "".join(f"{row[name]:>9,}" for name in ("annotate", "weak", "discard", "defer"))
    return (
        f"{100 * row['budget']:>4.0f} %{row['labels']:>9,}{counts}{wrong:>13}"
        f"  {band:<20}{tokens:>14}{hours:>9}"
    )


def audit_lines(run: RunDir, suspects: list[Suspect]) -> list[str]:
    """Suspect labels, and the next step."""
    place = quoted(run.path / AUDIT)
    if not suspects:
        return [f"no label is contradicted steadily where votes are reliable; wrote {place}"]
    lines = [
        f"{s.label_wrong:>11.0%} {s.vote_right:>11.0%} {s.vote_share:>8.0%}  "
        f"{field(s.label)} → {field(s.vote)}  ({field(s.question_id)})"
        for s in suspects
    ]
    following = f"wrote {place}; next: look at these labels again, the first ones first"
    return [AUDIT_HEAD, *lines, "", following]

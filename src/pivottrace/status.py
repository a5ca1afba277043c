"""What a run has done and what comes next, as plain lines."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from pivottrace.errors import RunDirError
from pivottrace.pipeline import STAGE_NAMES, is_finished
from pivottrace.rundir import RunDir

PARTS_OF = {"rollout": ("rollouts_greedy", "rollouts_sampled"), "trace": ("signals",)}


def describe(run: RunDir) -> Iterator[str]:
    """One line a stage, what to know of the result, then the next command. Writes nothing."""
    seconds = run.seconds()
    yield f"run {run.path}, round {run.round_index}"
    upcoming = None
    for name in STAGE_NAMES:
        done = is_finished(run, name)
        if not done and upcoming is None and (name != "train" or run.config.train.enabled):
            upcoming = name
        parts = [f"{_num_parts(run, part)} parts of {part}" for part in PARTS_OF.get(name, ())]
        detail = "" if done else ", ".join(part for part in parts if not part.startswith("0 "))
        took = f"{seconds[name]:8.1f} s" if name in seconds else " " * 10
        yield f"  {'done' if done else 'to do':<6}{name:<10}{took}  {detail}".rstrip()
    triage = run.stage_facts("triage")
    if triage:
        counts = ", ".join(f"{route} {n}" for route, n in triage["counts"].items())
        yield f"routes: {counts}"
    labels = run.path / "labels.sqlite"
    if labels.is_file():
        from pivottrace.annotate import sources

        yield f"labels: {_num_labels(labels)} of {sources.allowed_labels(run)} allowed"
    yield from (f"note: {note}" for note in notes(run))
    yield f"next: pivottrace {f'run {run.path}' if upcoming else f'report {run.path}'}"


def notes(run: RunDir) -> Iterator[str]:
    """What a user should know of the result before trusting it, in plain words."""
    overlap = run.stage_facts("pool").get("num_overlap")
    if overlap:
        done = "dropped" if run.config.pool.on_overlap == "drop" else "kept"
        yield f"{overlap} pool questions are also held-out questions ({done}; overlap.parquet)"
    if run.begun_facts("rollout").get("chat_template") is False:
        from pivottrace.stages.rollouts import NO_CHAT_TEMPLATE

        yield NO_CHAT_TEMPLATE
    rollout, calibrate = run.stage_facts("rollout"), run.stage_facts("calibrate")
    failures = rollout.get("failures") or {}
    if failures:
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(failures.items()))
        total = rollout["num_questions"]
        yield f"{sum(failures.values())} of {total} greedy traces gave no answer: {reasons}"
    unscored = run.stage_facts("score").get("num_unscored", 0)
    if unscored and unscored == rollout.get("num_questions"):
        yield (
            "the model answers nothing: no question could be scored, so no label was asked for. "
            "Look at the responses in the report; raise rollouts.max_new_tokens if they are cut"
        )
    elif calibrate.get("num_probes") and calibrate.get("mean_correctness") == 0:
        yield "the model answers nothing right: none of its samples on the probes is correct"
    for stage in ("train", "evaluate"):
        facts = run.stage_facts(stage)
        reason = facts.get("reason") or facts.get("skipped")
        if reason:
            yield f"{stage}: {reason}"


def summary_lines(summary: dict[str, Any]) -> Iterator[str]:
    """The closing lines of a run: counts, labels, accuracy, seconds, the report's path."""
    yield ""
    yield f"questions        {summary['questions']}"
    yield f"probes           {summary['probes']}"
    for route, count in (summary.get("routes") or {}).items():
        yield f"  {route:<14} {count}"
    yield f"labels           {summary['labels_used']} used of {summary['labels_allowed']} allowed"
    for when in ("before", "after"):
        accuracy = summary.get(f"accuracy_{when}")
        if accuracy:
            yield f"accuracy {when:<7} {_share(accuracy)}"
    difference = summary.get("difference")
    if difference:
        yield (
            f"difference       {100 * difference['mean']:+.1f} points "
            f"(95 % interval {100 * difference['low']:+.1f} to {100 * difference['high']:+.1f})"
        )
    seconds = "  ".join(f"{name} {took:.0f}" for name, took in summary["seconds"].items())
    yield f"seconds          {seconds}"
    yield f"report           {summary['report']}"


def _share(accuracy: dict[str, float]) -> str:
    low, high = 100 * accuracy["low"], 100 * accuracy["high"]
    return f"{100 * accuracy['accuracy']:.1f} %  (95 % interval {low:.1f} to {high:.1f})"


def _num_labels(path: Path) -> int:
    """Labels in the store, which is only read: opening it to write would need the permission."""
    # Without SQLite's write-ahead log nobody has it open, and it can be read where it lies.
    in_use = path.with_name(f"{path.name}-wal").exists()
    uri = f"{path.resolve().as_uri()}?{'mode=ro' if in_use else 'immutable=1'}"
    try:
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            return int(connection.execute("SELECT count(*) FROM labels").fetchone()[0])
    except sqlite3.Error as error:
        raise RunDirError(
            f"{path}: label store cannot be read ({error}). Restore a copy of it."
        ) from error


def _num_parts(run: RunDir, name: str) -> int:
    return len(list((run.round_path / name).glob("part-*.parquet")))

"""What a run has done and what comes next, as plain lines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pivottrace.pipeline import STAGE_NAMES
from pivottrace.rundir import RunDir

PARTS_OF = {"rollout": ("rollouts_greedy", "rollouts_sampled"), "trace": ("signals",)}


def describe(run: RunDir) -> Iterator[str]:
    """One line a stage, then the next command."""
    seconds = run.seconds()
    yield f"run {run.path}, round {run.round_index}"
    upcoming = None
    for name in STAGE_NAMES:
        done = _is_done(run, name)
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
    if (run.path / "labels.sqlite").is_file():
        from pivottrace.annotate import sources

        yield f"labels: {sources.store(run).used} of {sources.allowed_labels(run)} allowed"
    yield f"next: pivottrace {f'run {run.path}' if upcoming else f'report {run.path}'}"


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


def _is_done(run: RunDir, name: str) -> bool:
    if name == "evaluate" and run.config.train.enabled and run.is_done("train"):
        return "after" in run.stage_facts("evaluate") or "skipped" in run.stage_facts("evaluate")
    return run.is_done(name)


def _num_parts(run: RunDir, name: str) -> int:
    return len(list((run.round_path / name).glob("part-*.parquet")))

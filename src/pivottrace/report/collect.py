"""The contents of the report, read from a run directory at any stage. Nothing here is markup.

True answers are read from the label store only, so the report has no answer that was not paid for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pivottrace.config import Config
from pivottrace.config.presets import flat_values
from pivottrace.labels.budget import allowed_labels, bought
from pivottrace.refine.alarms import AlarmEvent
from pivottrace.routing.flows import Flow
from pivottrace.run.directory import RunDir
from pivottrace.run.readings import evaluation_facts
from pivottrace.run.records import installed_versions
from pivottrace.run.rounds import all_rounds, steps_before
from pivottrace.run.storage import read_json_lines, read_parquet
from pivottrace.schemas import ALARMS, LEARNING_CURVE, METRICS


@dataclass(frozen=True)
class Spending:
    """Numbers of labels: allowed by the budget, bought for each purpose, and still planned."""

    allowed: int
    probes: int
    annotation: int
    planned: int

    @property
    def used(self) -> int:
        """Labels bought so far."""
        return self.probes + self.annotation

    @property
    def unspent(self) -> int:
        """Labels neither bought nor planned."""
        return max(0, self.allowed - self.used - self.planned)


@dataclass(frozen=True)
class Setting:
    """A setting whose value is not the default."""

    key: str
    value: Any
    default: Any


@dataclass(frozen=True)
class Failure:
    """Questions that one step could not use, for one reason."""

    step: str
    reason: str
    count: int
    first_ids: list[str]


@dataclass(frozen=True)
class Training:
    """Lines of the training's logs; empty before training."""

    metrics: list[dict[str, Any]]
    curve: list[dict[str, Any]]
    alarms: list[AlarmEvent]


def headline(run: RunDir) -> dict[str, Any]:
    """The figures of the tiles. A figure that the run does not have yet is None."""
    pool, evaluate = run.stage_facts("pool"), evaluation_facts(run)
    spent = spending(run)
    return {
        "questions": pool.get("num_questions"),
        "probes": num_probes(run),
        "routes": run.stage_facts("triage").get("counts"),
        "labels_used": spent.used if spent else None,
        "labels_allowed": spent.allowed if spent else None,
        "accuracy_before": evaluate.get("before"),
        "accuracy_after": evaluate.get("after"),
        "difference": evaluate.get("difference"),
        "seconds": stage_seconds(run),
    }


def report_path(run: RunDir) -> Path:
    """The path of the report."""
    return run.path / "report.html"


def stage_seconds(run: RunDir) -> dict[str, float]:
    """Seconds per stage. The report's seconds are left out: they would change with every report."""
    return {name: took for name, took in run.seconds().items() if name != "report"}


def table(run: RunDir, name: str) -> pa.Table | None:
    """A whole table of the run, or None if it is missing.

    Raises:
        RunDirError: The file is torn.
    """
    path = run.table_path(name)
    return read_parquet(path) if path.is_file() else None


def table_rows(
    run: RunDir, name: str, ids: list[str], columns: list[str] | None = None, key: str = ""
) -> dict[str, dict[str, Any]]:
    """Rows of some questions in a whole table, by question id; empty if the table is missing.

    Args:
        run: The run.
        name: The table.
        ids: The questions.
        columns: The columns to read; None reads all.
        key: The column with the id, if it is not `question_id`.

    Raises:
        RunDirError: The file is torn.
    """
    path, key = run.table_path(name), key or "question_id"
    if not path.is_file():
        return {}
    found = read_parquet(path, columns, [(key, "in", ids)]) if ids else None
    return {} if found is None else {row[key]: row for row in found.to_pylist()}


def part_rows(
    run: RunDir, name: str, columns: list[str], ids: list[str] | None = None
) -> list[dict[str, Any]]:
    """Rows of a table in parts: all rows, or the rows of some questions, from finished parts only.

    A question's rows are in one part. So reading ends at the last question that is wanted.

    Raises:
        RunDirError: A part is torn.
    """
    paths = sorted((run.round_path / name).glob("part-*.parquet"))
    if ids is None:
        return [row for path in paths for row in read_parquet(path, columns).to_pylist()]
    rows: list[dict[str, Any]] = []
    missing = set(ids)
    for path in _likely_first(run, paths, ids):
        if not missing:
            break
        found = read_parquet(path, columns, [("question_id", "in", sorted(missing))]).to_pylist()
        missing -= {row["question_id"] for row in found}
        rows += found
    return rows


def _likely_first(run: RunDir, paths: list[Path], ids: list[str]) -> list[Path]:
    """The parts, the likely parts of some questions first: parts follow the order of the pool.

    The parts of a large run have many gigabytes, and a part's checksum takes all its bytes.
    """
    if len(paths) < 2 or not run.table_path("pool").is_file():
        return paths
    pool = read_parquet(run.table_path("pool"), ["id"])["id"]
    places = pc.index_in(pa.array(ids, pa.string()), value_set=pool.combine_chunks()).to_pylist()
    size = run.config.rollouts.part_size
    likely = {f"part-{place // size:05d}.parquet" for place in places if place is not None}
    return sorted(paths, key=lambda path: (path.name not in likely, path.name))


def num_probes(run: RunDir) -> int | None:
    """Number of labelled probes or, before they are labelled, of drawn probes."""
    known = run.stage_facts("calibrate").get("num_probes")
    if known is not None:
        return int(known)
    drawn = table(run, "probes")
    return None if drawn is None else len(drawn)


def spending(run: RunDir) -> Spending | None:
    """Labels bought and planned; None before the pool has been read."""
    if not run.is_done("pool"):
        return None
    allowed = allowed_labels(run)
    purposes = Counter(label.purpose for label in bought(run).values())
    planned = run.stage_facts("triage").get("labels_planned", num_probes(run) or 0)
    used, probes = sum(purposes.values()), purposes["probe"]
    return Spending(allowed, probes, used - probes, max(0, planned - used))


def changed_settings(config: Config) -> list[Setting]:
    """Settings that differ from the default, in the configuration's order, without `output`."""
    defaults = flat_values(Config())
    return [
        Setting(key, value, defaults.get(key))
        for key, value in flat_values(config).items()
        if key != "output" and value != defaults.get(key)
    ]


def training(run: RunDir) -> Training:
    """The lines that training logged so far, round after round. Steps count over all rounds."""
    logs: dict[str, dict[int, dict[str, Any]]] = {METRICS: {}, LEARNING_CURVE: {}}
    alarms: list[AlarmEvent] = []
    for each in all_rounds(run):
        before, folder = steps_before(each), each.round_path / "train"
        for name, rows in logs.items():
            # A round begins with the final model of the round before: the same point of the curve.
            for row in read_json_lines(folder / name):
                rows.setdefault(before + row["step"], row | {"step": before + row["step"]})
        events = [AlarmEvent(**row) for row in read_json_lines(folder / ALARMS)]
        alarms += [replace(event, step=before + event.step) for event in events]
    metrics, curve = (list(rows.values()) for rows in logs.values())
    return Training(metrics, curve, alarms)


def flows(run: RunDir) -> list[tuple[int, list[Flow]]]:
    """The flows into each routed round after the first, with the index of the round."""
    found = [(each.round_index, table(each, "flows")) for each in all_rounds(run)]
    return [
        (index, [Flow(**row) for row in rows.to_pylist()])
        for index, rows in found
        if rows is not None and index <= run.round_index
    ]


def failures(run: RunDir, num_ids: int = 5) -> list[Failure]:
    """Failures of single questions, by step and reason, each with its first few ids in order."""
    found: dict[tuple[str, str], list[str]] = {}
    told: set[tuple[str, str]] = set()
    for step, question_id, reason in _failed_rows(run):
        # Later steps pass on the failure of an earlier step, so we report it once.
        if (question_id, reason) not in told:
            told.add((question_id, reason))
            found.setdefault((step, reason), []).append(question_id)
    return [Failure(*key, len(ids), ids[:num_ids]) for key, ids in found.items()]


def _failed_rows(run: RunDir) -> Iterator[tuple[str, str, str]]:
    """(step, question, reason) of every row with a failure, in the order of the steps."""
    for row in part_rows(run, "rollouts_greedy", ["question_id", "answer", "finish", "failure"]):
        reason = row["failure"]
        if reason is None and row["answer"] is None:
            reason = "truncated" if row["finish"] == "length" else "no_answer"
        if reason is not None:
            yield "greedy response", row["question_id"], reason
    for row in part_rows(run, "signals", ["question_id", "failure"]):
        if row["failure"] is not None:
            yield "attention signal", row["question_id"], row["failure"]
    votes = table(run, "votes")
    for row in [] if votes is None else votes.select(["question_id", "failure"]).to_pylist():
        if row["failure"] is not None:
            yield "vote", row["question_id"], row["failure"]


def digests(run: RunDir) -> dict[str, str]:
    """Every digest that the stages recorded, by "stage: name"."""
    found: dict[str, str] = {}
    for stage in ("pool", "greedy", "train"):
        for name, value in sorted(run.stage_facts(stage).items()):
            if "digest" in name:
                values = value if isinstance(value, dict) else {"": value}
                found |= {
                    f"{stage}: {name.replace('_', ' ')} {key}".rstrip(): str(digest)
                    for key, digest in values.items()
                }
    return found


def versions(run: RunDir) -> dict[str, str]:
    """Versions that the manifest recorded, else the versions of this installation."""
    recorded = run.manifest.get("versions")
    if isinstance(recorded, dict):
        return {str(name): str(value) for name, value in recorded.items()}
    return installed_versions()

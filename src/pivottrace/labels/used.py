"""The stages that have used a label: such a label does not change without them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import pyarrow.compute as pc

from pivottrace.routing.routes import Route
from pivottrace.run.directory import RunDir
from pivottrace.run.rounds import all_rounds
from pivottrace.run.storage import read_parquet


def stages_that_used(run: RunDir, question_ids: Collection[str]) -> tuple[int, str] | None:
    """The first round and command that used the label of one of the questions; None if none did.

    A training that began without a label has used that it was missing. A stage whose table is lost
    may have used any label.

    Raises:
        RunDirError: A table is torn.
    """
    wanted = set(question_ids)
    for each in all_rounds(run):
        # A calibration that has finished once knows its answers, also while `repair` reopens it.
        calibrated = "answers_known" in each.begun_facts("calibrate")
        if calibrated or each.is_done("calibrate"):
            tables = ("evidence", "labelled")
            if _is_lost(each, *tables) or wanted & _ids(each, *tables):
                return each.round_index, "calibrate"
        lost = _is_lost(each, "training_rows")
        if each.begun_facts("train") and (lost or wanted & _trained_or_left_out(each)):
            return each.round_index, "train"
    return None


def _is_lost(run: RunDir, *tables: str) -> bool:
    return not all(run.table_path(name).is_file() for name in tables)


def _trained_or_left_out(run: RunDir) -> set[str]:
    """Ids of the training rows, and of the annotate rows that training began without."""
    chosen = run.read_table("triage", "triage", ["question_id", "route"])
    annotate = chosen.filter(pc.field("route") == Route.ANNOTATE)["question_id"].to_pylist()
    return _ids(run, "training_rows") | set(annotate)


def _ids(run: RunDir, *tables: str) -> set[str]:
    return set(_question_ids(run.table_path(name) for name in tables))


def _question_ids(paths: Iterator[Path]) -> Iterator[str]:
    for path in paths:
        if path.is_file():
            yield from read_parquet(path, ["question_id"])["question_id"].to_pylist()

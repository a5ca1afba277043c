"""The questions that wait for a label, and the order in which to ask for them."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from pivottrace.ingest.prompts import last_user_message
from pivottrace.label_sources import Purpose
from pivottrace.labels.budget import labels_of, source_of
from pivottrace.run.directory import RunDir
from pivottrace.run.readings import earlier_labels


def by_value(triage: pa.Table) -> pa.Table:
    """Rows of `triage` in the order to annotate in: the label that teaches most comes first.

    Equal priorities go to the more uncertain; what has no number comes last.
    """
    return triage.sort_by(
        [("priority", "descending"), ("rank", "descending"), ("question_id", "ascending")]
    )


def to_annotate(run: RunDir) -> list[str]:
    """Questions of the annotate route, labelled probes among them, in order of value.

    Questions whose label was there before are left out, and after the first round the probes too:
    they need no second one.
    """
    triage = run.read_table("triage", made_by="triage")
    rows = triage.filter(pc.field("route") == "annotate")
    earlier = [row["question_id"] for row in earlier_labels(run)]
    rows = rows.filter(~pc.field("question_id").isin(pa.array(earlier, pa.string())))
    if run.round_index:
        rows = rows.filter(~pc.field("is_probe"))
    chosen: list[str] = by_value(rows)["question_id"].to_pylist()
    return chosen


def requested(run: RunDir) -> dict[str, Purpose]:
    """Questions that may get a label by now, with its purpose, in the order of asking.

    Once the probes have been evaluated, unlabelled probes are no probes any more: triage has given
    their share of the budget to annotation.
    """
    probes: list[str] = []
    if run.table_path("probes").is_file():
        probes = run.read_table("probes", made_by="calibrate")["question_id"].to_pylist()
    if run.is_done("calibrate"):
        known = labels_of(run)
        probes = [i for i in probes if i in known]
    chosen = to_annotate(run) if run.table_path("triage").is_file() else []
    asked_as: dict[str, Purpose] = dict.fromkeys(chosen, "annotation")
    return asked_as | dict.fromkeys(probes, "probe")


def missing_labels(run: RunDir) -> list[str]:
    """Questions of the present request that still need an answer, or need to be settled.

    It is empty if the run can go on: with `labels.partial` after the first answer, and always if
    its labels do not come from people.
    """
    if not run.is_done("pool") or source_of(run).ask is None or run.is_done("label"):
        return []
    purpose: Purpose = "annotation" if run.is_done("calibrate") else "probe"
    known, second = labels_of(run), set(second_probes(run)) if purpose == "probe" else set()
    request = [
        i
        for i, asked_as in requested(run).items()
        if asked_as == purpose and (i in second or not second)
    ]
    answered = any(i in known and known[i].purpose == purpose for i in request)
    if run.config.labels.partial and answered:
        return []
    return [i for i in request if i not in known or known[i].disputed]


def second_probes(run: RunDir) -> list[str]:
    """Probes that an adaptive draw has added after the first were labelled."""
    if not run.table_path("probes").is_file():
        return []
    probes = run.read_table("probes", made_by="calibrate")
    chosen: list[str] = probes.filter(pc.field("stage") == 1)["question_id"].to_pylist()
    return chosen


def questions_of(run: RunDir, question_ids: Sequence[str]) -> dict[str, str]:
    """The texts of some questions of the pool, by id."""
    pool = run.read_table("pool", made_by="run").select(["id", "prompt"])
    rows = pool.filter(pc.is_in(pool["id"], value_set=pa.array(question_ids, pa.string())))
    return {row["id"]: last_user_message(row["prompt"]) for row in rows.to_pylist()}

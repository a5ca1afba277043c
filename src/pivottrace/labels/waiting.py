"""The questions that wait for a label, and the order in which to ask for them."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from pivottrace.ingest.prompts import last_user_message
from pivottrace.label_sources import Purpose
from pivottrace.labels.budget import STORE, labels_of, source_of
from pivottrace.labels.remarks import read_remarks
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

    It is empty if the run can go on: if `labels.partial` lets it, and always if its labels do not
    come from people.
    """
    request, purpose = _present_request(run)
    if run.config.labels.partial and is_over(run, request, purpose):
        return []
    known = labels_of(run)
    return [i for i in request if i not in known or known[i].disputed]


def can_go_on(run: RunDir) -> bool:
    """Whether `labels.partial` would let the run go on without the answers that are missing now."""
    return is_over(run, *_present_request(run))


def is_over(run: RunDir, question_ids: Sequence[str], purpose: Purpose) -> bool:
    """Whether `labels.partial` lets a run go on without the open questions of a request.

    It does once one question has an answer, or once people have given all open ones back without
    one.
    """
    known = labels_of(run)
    if any(i in known and known[i].purpose == purpose for i in question_ids):
        return True
    still_open = {i for i in question_ids if i not in known}
    return bool(still_open) and still_open <= given_back(run)


def given_back(run: RunDir) -> set[str]:
    """Questions that people have given back without an answer, in a file or on the page."""
    return {each.question_id for each in read_remarks(run.path / STORE) if each.kind == "skipped"}


def left_open(run: RunDir) -> list[str]:
    """Questions that were chosen for a true answer and stayed without one; none before training.

    Ones that cannot be answered are not among them, and neither are those whose answers differ.
    """
    if not run.is_done("label"):
        return []
    triage = run.read_table("triage", made_by="triage", columns=["question_id", "route"])
    chosen = triage.filter(pc.field("route") == "annotate")["question_id"].to_pylist()
    known = labels_of(run)
    return [i for i in chosen if i not in known]


def _present_request(run: RunDir) -> tuple[list[str], Purpose]:
    """The questions that people are asked for now, and the purpose; none if no one is asked."""
    purpose: Purpose = "annotation" if run.is_done("calibrate") else "probe"
    if not run.is_done("pool") or source_of(run).ask is None or run.is_done("label"):
        return [], purpose
    second = set(second_probes(run)) if purpose == "probe" else set()
    asked_as, known = requested(run), labels_of(run)

    def is_asked(question_id: str) -> bool:
        if not second or question_id in second:
            return True
        # A first probe that lost its label is asked again, unless the run goes on without it.
        label = known.get(question_id)
        return (label is None or label.disputed) and not run.config.labels.partial

    return [i for i in asked_as if asked_as[i] == purpose and is_asked(i)], purpose


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

"""Labelling: get the true answers that the triage chose to buy."""

from __future__ import annotations

import pyarrow.compute as pc

from pivottrace.annotate import sources
from pivottrace.rundir import RunDir


def run(run: RunDir) -> None:
    """Buy or ask for the labels of the annotate route.

    Raises:
        LabelsNeeded: people have to give them; the file to fill in has been written.
    """
    if run.is_done("label"):
        return
    triage = run.read_table("triage", made_by="triage")
    chosen = triage.filter(pc.field("route") == "annotate")["question_id"].to_pylist()
    labels = sources.obtain(run, chosen, "annotation")
    run.mark_done("label", labels_used=sources.store(run).used, num_labelled=len(labels))

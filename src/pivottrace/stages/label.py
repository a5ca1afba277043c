"""Labelling: get the true answers that the triage chose to buy."""

from __future__ import annotations

from pivottrace.labels import buying
from pivottrace.run.directory import RunDir


def run(run: RunDir) -> None:
    """Buy or ask for the labels of the annotate route.

    Raises:
        LabelsNeeded: people have to give them; the file to fill in has been written.
    """
    if run.is_done("label"):
        return
    chosen = buying.to_annotate(run)
    labels = buying.obtain(run, chosen, "annotation")
    run.mark_done(
        "label",
        labels_asked=buying.num_asked(run, chosen, "annotation"),
        labels_used=buying.store(run).used,
        num_labelled=len(labels),
    )

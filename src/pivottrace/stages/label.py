"""Labelling: get the true answers that the triage chose to buy."""

from __future__ import annotations

from pivottrace.labels.budget import bought, labels_of
from pivottrace.labels.buying import num_asked, obtain
from pivottrace.labels.waiting import to_annotate
from pivottrace.run.directory import RunDir


def run(run: RunDir) -> None:
    """Buy or ask for the labels of the annotate route.

    Raises:
        LabelsNeeded: People must give the labels. The file to fill in has been written.
    """
    if run.is_done("label"):
        return
    chosen = to_annotate(run)
    labels = obtain(run, chosen, "annotation")
    run.mark_done(
        "label",
        labels_asked=num_asked(run, chosen, "annotation"),
        labels_used=len(bought(run)),
        labels_owned=len(labels_of(run)) - len(bought(run)),
        num_labelled=len(labels),
    )

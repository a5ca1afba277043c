"""A run that waits for people: it goes on by itself once its stage has the labels it needs."""

from __future__ import annotations

import sys
import time

from pivottrace.errors import LabelsNeeded
from pivottrace.labels.budget import STORE, num_answers
from pivottrace.labels.remarks import read_remarks
from pivottrace.labels.waiting import missing_labels
from pivottrace.pipeline import run_all
from pivottrace.run.directory import RunDir
from pivottrace.run.rounds import current_round
from pivottrace.run.storage import MANIFEST

LOOK_AGAIN_S = 1.0
"""Seconds between two looks at the answers that have arrived."""


def run_and_wait(run: RunDir, until: str | None = None) -> None:
    """Run every stage as `run_all` does, but wait where people have to give labels.

    The run is not locked while it waits, so labels can be imported, and given on the page. A stop
    by Ctrl-C leaves the state that `run` without waiting leaves. Raises as `run_all`, without
    LabelsNeeded.
    """
    said = None
    while True:
        try:
            return run_all(run, until)
        except LabelsNeeded as needed:
            if str(needed) != said:
                said = str(needed)
                print(f"{said}\n{_WAITING}", file=sys.stderr, flush=True)
        wait_for_labels(run)


_WAITING = (
    "waiting: the run goes on by itself once it has these answers. Ctrl-C stops it, and nothing "
    "is lost"
)


def wait_for_labels(run: RunDir) -> None:
    """Return once the present request of the run has the labels that it needs.

    The tables are read again only if an answer or a remark has arrived, or another process has
    changed the run.
    """
    seen = None
    while True:
        time.sleep(LOOK_AGAIN_S)
        arrived = (num_answers(run), len(read_remarks(run.path / STORE)))
        now = (*arrived, (run.path / MANIFEST).stat().st_mtime_ns)
        if now != seen and not missing_labels(current_round(run)):
            return
        seen = now

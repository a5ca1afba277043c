"""Evaluation before training: held-out accuracy (avg@k) of the model that the run starts from."""

from __future__ import annotations

from pivottrace.run.directory import RunDir
from pivottrace.run.rounds import start_model
from pivottrace.stages.evaluation import evaluate


def run(run: RunDir) -> None:
    """Write `evaluation_before`, and its figures to the manifest.

    It records the facts of `stages.evaluation.evaluate`.

    Raises:
        RunDirError: The rollouts came from another model.
    """
    run.mark_done("evaluate_before", **evaluate(run, "before", start_model(run.in_round(0))))

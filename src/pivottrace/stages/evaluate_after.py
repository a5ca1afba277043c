"""Evaluation after training: held-out accuracy of the trained model, and the paired difference."""

from __future__ import annotations

from typing import Any

from pivottrace.errors import RunDirError
from pivottrace.rollouts.held_out import counts_by_set, held_out_questions
from pivottrace.run.directory import RunDir
from pivottrace.run.rounds import all_rounds, last_trained, start_model
from pivottrace.run.storage import read_parquet
from pivottrace.stages.evaluation import DIGITS, evaluate
from pivottrace.stats.accuracy import Interval, mean_over_sets, paired_difference
from pivottrace.training.model_card import write_model_card


def run(run: RunDir) -> None:
    """Write `evaluation_after`, its figures to the manifest, and the model card again.

    It records the facts of `stages.evaluation.evaluate` and `difference` {mean, low, high}. The
    difference is after minus before on the same questions, with a 95 % interval clustered by
    question. With several sets it is the unweighted mean of their differences, which
    `set_differences` has by name. If nothing was trained, the only fact is `skipped`, the reason.

    Raises:
        RunDirError: Training has not finished.
    """
    if run.config.train.enabled and not all(each.is_done("train") for each in all_rounds(run)):
        raise RunDirError(
            f"{run.path}: training has not finished. Finish it with: {run.until('train')}"
        )
    trained = last_trained(run)
    if trained is None:
        run.mark_done(
            "evaluate_after", skipped="there is no trained model to evaluate after training"
        )
        return
    facts = evaluate(run, "after", start_model(run.in_round(run.config.rounds.num)))
    run.mark_done("evaluate_after", **facts, **_difference(run))
    write_model_card(trained, trained.stage_facts("train"))


def _difference(run: RunDir) -> dict[str, Any]:
    """The facts `difference` and `set_differences`, if both evaluations have a table."""
    paths = [run.table_path(f"evaluation_{which}") for which in ("before", "after")]
    if not all(path.is_file() for path in paths):
        return {}
    questions = held_out_questions(run)
    before, after = (counts_by_set(questions, read_parquet(path)) for path in paths)
    found = {name: paired_difference(before[name], after[name]) for name in before}
    return {
        "difference": _rounded(mean_over_sets(list(found.values()))),
        "set_differences": {name: _rounded(interval) for name, interval in found.items()},
    }


def _rounded(interval: Interval) -> dict[str, float]:
    return {name: round(value, DIGITS) for name, value in vars(interval).items()}

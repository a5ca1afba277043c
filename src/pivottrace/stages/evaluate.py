"""Evaluation: held-out accuracy (avg@k) before and after training, and the paired difference."""

from __future__ import annotations

import shutil
from typing import Any, Literal

import pyarrow as pa

from pivottrace.errors import RunDirError
from pivottrace.models.identity import refuse_another_model
from pivottrace.models.sampler import open_sampler
from pivottrace.rollouts.held_out import counts_of, held_out_questions, sample_and_check
from pivottrace.run.directory import RunDir, part_seed, run_parts
from pivottrace.run.progress import progress
from pivottrace.run.rounds import every, last_trained, start_model
from pivottrace.run.storage import read_parquet
from pivottrace.schemas import EVALUATION
from pivottrace.stats.accuracy import (
    Interval,
    QuestionCounts,
    average_accuracy,
    paired_difference,
    pass_at_k,
)
from pivottrace.training.model_card import write_model_card
from pivottrace.verifier import Verifier

Which = Literal["before", "after"]
DIGITS = 6  # of stored figures


def run(run: RunDir, which: Which) -> None:
    """Write `evaluation_before` or `evaluation_after`, and the figures of both to the manifest.

    Call it for `before`, then, once every round has trained, for `after`; a table that is there is
    not made again.
    The facts are `before` and `after`, each {accuracy, low, high, pass_at_k, k, num_questions}, and
    `difference` {mean, low, high}, all with 95 % intervals clustered by question; `unanswered`, the
    evaluation questions that have no answer to check against; and `skipped`, the reason where there
    is nothing to evaluate.

    Raises:
        RunDirError: `after` is asked for before training has finished, or `before` of another
            model than the rollouts came from.
    """
    questions = held_out_questions(run)
    if not questions:
        run.mark_done("evaluate", skipped=_why_not(run))
        return
    facts: dict[str, Any] = {"unanswered": _num_evaluation(run) - len(questions)}
    if which == "after" and not _is_trained(run):
        facts["skipped"] = "there is no trained model to evaluate after training"
    elif not run.table_path(f"evaluation_{which}").is_file():
        _evaluate(run, which, questions)
    run.mark_done("evaluate", **facts, **_figures(run))
    if which == "after" and (trained := last_trained(run)) is not None:
        write_model_card(trained, trained.stage_facts("train"))


def figures(counts: QuestionCounts) -> dict[str, float | int]:
    """Accuracy with its interval, pass@k and what they are made of."""
    k = int(counts.num_samples.min())
    accuracy = average_accuracy(counts)
    return {
        "accuracy": round(accuracy.mean, DIGITS),
        "low": round(accuracy.low, DIGITS),
        "high": round(accuracy.high, DIGITS),
        "pass_at_k": round(pass_at_k(counts, k), DIGITS),
        "k": k,
        "num_questions": len(counts.question_ids),
    }


def _figures(run: RunDir) -> dict[str, Any]:
    """The figures of the tables that there are, and of their difference where both are."""
    paths = {which: run.table_path(f"evaluation_{which}") for which in ("before", "after")}
    counts = {w: counts_of(read_parquet(path)) for w, path in paths.items() if path.is_file()}
    facts: dict[str, Any] = {which: figures(found) for which, found in counts.items()}
    if len(counts) == 2:
        difference: Interval = paired_difference(counts["before"], counts["after"])
        facts["difference"] = {k: round(v, DIGITS) for k, v in vars(difference).items()}
    return facts


def _evaluate(run: RunDir, which: Which, questions: list[dict[str, Any]]) -> None:
    """Sample and check part by part, then join the parts into one table."""
    config, name = run.config, f"evaluation_{which}"
    first, end = run.in_round(0), run.in_round(config.rounds.num)
    sampler = open_sampler(start_model(first if which == "before" else end), config.rollouts)
    if which == "before":
        refuse_another_model(first, sampler.facts())
    size = config.rollouts.part_size
    starts = range(0, len(questions), size)
    with (
        Verifier(config.answers.verifier, config.answers.timeout_s) as verifier,
        progress(which, len(questions)) as update,
    ):

        def make(index: int) -> pa.Table:
            part = questions[starts[index] : starts[index] + size]
            # Before and after draw with the same seeds.
            seed = part_seed(config.seed, "evaluation", index)
            return sample_and_check(sampler, part, config, verifier, seed)

        run_parts(
            run, name, len(starts), make, lambda i: update(min((i + 1) * size, len(questions)))
        )
    parts = [read_parquet(run.part_path(name, index)) for index in range(len(starts))]
    run.write_table(name, pa.concat_tables(parts).cast(EVALUATION))
    shutil.rmtree(run.part_path(name, 0).parent)


def _is_trained(run: RunDir) -> bool:
    """Whether there is a trained model; False where training was off or had nothing to do."""
    rounds = every(run)
    if run.config.train.enabled and not all(r.is_done("train") for r in rounds):
        raise RunDirError(
            f"{run.path}: training has not finished. Finish it with: pivottrace train {run.path}"
        )
    return last_trained(run) is not None


def _num_evaluation(run: RunDir) -> int:
    return run.read_table("evaluation", made_by="run").num_rows


def _why_not(run: RunDir) -> str:
    if not run.table_path("evaluation").is_file():
        return "there are no evaluation questions (pool.evaluation is not set)"
    return "no evaluation question has an answer to check against"

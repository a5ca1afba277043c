"""The shared part of both evaluations: sample held-out questions, check and count the answers.

This module is not a stage. The stages are `evaluate_before` and `evaluate_after`.
"""

from __future__ import annotations

import shutil
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from pivottrace.config import ModelConfig
from pivottrace.models.backends import sampler_for
from pivottrace.models.identity import refuse_another_model
from pivottrace.rollouts.held_out import (
    by_set,
    counts_of,
    held_out_questions,
    render_held_out,
    rows_by_set,
    sample_and_check,
    set_verifiers,
)
from pivottrace.rollouts.prompt_room import refuse_long_prompts
from pivottrace.run.directory import RunDir
from pivottrace.run.part_work import part_seed, run_parts
from pivottrace.run.progress import counted, progress
from pivottrace.run.storage import read_parquet
from pivottrace.schemas import EVALUATION
from pivottrace.stats.accuracy import Interval, average_accuracy, mean_over_sets, pass_at_k

Which = Literal["before", "after"]
DIGITS = 6  # of stored figures
_OF_ONE_SET = ("accuracy", "low", "high", "pass_at_k", "k", "num_questions")


def evaluate(run: RunDir, which: Which, model: ModelConfig) -> dict[str, Any]:
    """Write the table `evaluation_before` or `evaluation_after`. An existing table is kept.

    Args:
        run: The run, with its held-out questions.
        which: The evaluation: "before" or "after" training.
        model: The model to sample from. For `before` it must be the model of the rollouts.

    Returns:
        The facts to record. `figures` {accuracy, low, high, num_questions} has a 95 % interval
        clustered by question, and with one set also its {pass_at_k, k}. With several sets,
        `figures` is their unweighted mean, with their number `num_sets`. `sets` has a dict for each
        set {name, accuracy, low, high, pass_at_k, k, num_questions, cut, no_answer}: `cut` and
        `no_answer` count responses that reached the limit, and responses without an answer.
        `unanswered` is the number of evaluation questions without an answer to check against. If no
        question can be checked, the only fact is `skipped`, the reason.

    Raises:
        ConfigError: A prompt does not fit the model together with the longest response to it.
        RunDirError: `before` was requested, and the rollouts came from another model.
    """
    questions = held_out_questions(run)
    if not questions:
        return {"skipped": _why_not(run)}
    path = run.table_path(f"evaluation_{which}")
    if not path.is_file():
        _write_table(run, which, model, questions)
    num_held_out = run.read_table("evaluation", made_by="run").num_rows
    rows = rows_by_set(questions, read_parquet(path))
    sets = [_figures(name, of_set) for name, of_set in rows.items()]
    return {
        "figures": _overall(sets),
        "sets": sets,
        "unanswered": num_held_out - len(questions),
    }


def _figures(name: str, rows: pa.Table) -> dict[str, Any]:
    """The figures of one set: accuracy with its interval, pass@k, and the numbers behind them."""
    counts = counts_of(rows)
    k = int(counts.num_samples.min())
    return {
        "name": name,
        **_rounded(average_accuracy(counts)),
        "pass_at_k": round(pass_at_k(counts, k), DIGITS),
        "k": k,
        "num_questions": len(counts.question_ids),
        "cut": pc.sum(pc.equal(rows["finish"], "length")).as_py() or 0,
        "no_answer": rows["answer"].null_count,
    }


def _overall(sets: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures of the only set, or the mean over several."""
    if len(sets) == 1:
        return {key: sets[0][key] for key in _OF_ONE_SET}
    intervals = [Interval(each["accuracy"], each["low"], each["high"]) for each in sets]
    return {
        **_rounded(mean_over_sets(intervals)),
        "num_sets": len(sets),
        "num_questions": sum(each["num_questions"] for each in sets),
    }


def _rounded(accuracy: Interval) -> dict[str, float]:
    values = {"accuracy": accuracy.mean, "low": accuracy.low, "high": accuracy.high}
    return {name: round(value, DIGITS) for name, value in values.items()}


def _write_table(
    run: RunDir, which: Which, model_config: ModelConfig, questions: list[dict[str, Any]]
) -> None:
    """Sample and check part by part, then join the parts into one table."""
    config, name = run.config, f"evaluation_{which}"
    sampler = run.crew.open(sampler_for, model_config, config)
    if which == "before":
        refuse_another_model(run.in_round(0), sampler.facts())
    prompts = render_held_out(sampler.tokenizer, questions, config.pool)
    ids = (question["id"] for question in questions)
    refuse_long_prompts(config, sampler.max_positions, {}, dict(zip(ids, prompts, strict=True)))
    size, sets = config.rollouts.part_size, by_set(questions)
    # A part is of one set, which has one number of samples and one verifier.
    parts = [
        (name, of_set[start : start + size])
        for name, of_set in sets.items()
        for start in range(0, len(of_set), size)
    ]
    with (
        set_verifiers(sets, config) as verifiers,
        progress(which, len(questions)) as update,
    ):

        def make(index: int) -> pa.Table:
            name, part = parts[index]
            # Both evaluations draw with the same seeds.
            seed = part_seed(config.seed, "evaluation", index)
            return sample_and_check(sampler, part, config, verifiers[name], seed)

        run_parts(
            run,
            name,
            len(parts),
            make,
            on_parts=counted(update, [len(part) for _, part in parts]),
            is_over=run.table_path(name).is_file,
        )
    with run.turn():
        if not run.table_path(name).is_file():
            made = [read_parquet(run.part_path(name, index)) for index in range(len(parts))]
            run.write_table(name, pa.concat_tables(made).cast(EVALUATION))
        shutil.rmtree(run.part_path(name, 0).parent, ignore_errors=True)


def _why_not(run: RunDir) -> str:
    if not run.table_path("evaluation").is_file():
        return "there are no evaluation questions (pool.evaluation is not set)"
    return "no evaluation question has an answer to check against"

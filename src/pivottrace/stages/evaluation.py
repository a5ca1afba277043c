"""The shared part of both evaluations: sample held-out questions, check and count the answers.

This module is not a stage. The stages are `evaluate_before` and `evaluate_after`.
"""

from __future__ import annotations

import shutil
from typing import Any, Literal

import pyarrow as pa

from pivottrace.config import ModelConfig
from pivottrace.models.backends import sampler_for
from pivottrace.models.identity import refuse_another_model
from pivottrace.models.rendering import render_questions
from pivottrace.rollouts.held_out import counts_of, held_out_questions, sample_and_check
from pivottrace.rollouts.prompt_room import refuse_long_prompts
from pivottrace.run.directory import RunDir
from pivottrace.run.part_work import part_seed, run_parts
from pivottrace.run.progress import counted, progress
from pivottrace.run.storage import read_parquet
from pivottrace.schemas import EVALUATION
from pivottrace.stats.accuracy import QuestionCounts, average_accuracy, pass_at_k
from pivottrace.verifier import Verifier

Which = Literal["before", "after"]
DIGITS = 6  # of stored figures


def evaluate(run: RunDir, which: Which, model: ModelConfig) -> dict[str, Any]:
    """Write the table `evaluation_before` or `evaluation_after`. An existing table is kept.

    Args:
        run: The run, with its held-out questions.
        which: The evaluation: "before" or "after" training.
        model: The model to sample from. For `before` it must be the model of the rollouts.

    Returns:
        The facts to record. `figures` {accuracy, low, high, pass_at_k, k, num_questions} has a 95 %
        interval clustered by question. `unanswered` is the number of evaluation questions without
        an answer to check against. If no question can be checked, the only fact is `skipped`, the
        reason.

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
    return {
        "figures": _figures(counts_of(read_parquet(path))),
        "unanswered": num_held_out - len(questions),
    }


def _figures(counts: QuestionCounts) -> dict[str, float | int]:
    """Accuracy with its interval, pass@k, and the numbers of samples and questions behind them."""
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


def _write_table(
    run: RunDir, which: Which, model_config: ModelConfig, questions: list[dict[str, Any]]
) -> None:
    """Sample and check part by part, then join the parts into one table."""
    config, name = run.config, f"evaluation_{which}"
    sampler = run.crew.open(sampler_for, model_config, config)
    if which == "before":
        refuse_another_model(run.in_round(0), sampler.facts())
    asked = (question["prompt"] for question in questions)
    prompts = render_questions(sampler.tokenizer, asked, config.pool)
    ids = (question["id"] for question in questions)
    refuse_long_prompts(config, sampler.max_positions, {}, dict(zip(ids, prompts, strict=True)))
    size = config.rollouts.part_size
    starts = range(0, len(questions), size)
    with (
        Verifier.of(config.answers) as verifier,
        progress(which, len(questions)) as update,
    ):

        def make(index: int) -> pa.Table:
            part = questions[starts[index] : starts[index] + size]
            # Both evaluations draw with the same seeds.
            seed = part_seed(config.seed, "evaluation", index)
            return sample_and_check(sampler, part, config, verifier, seed)

        run_parts(
            run,
            name,
            len(starts),
            make,
            on_parts=counted(update, size, len(questions)),
            is_over=run.table_path(name).is_file,
        )
    with run.turn():
        if not run.table_path(name).is_file():
            parts = [read_parquet(run.part_path(name, index)) for index in range(len(starts))]
            run.write_table(name, pa.concat_tables(parts).cast(EVALUATION))
        shutil.rmtree(run.part_path(name, 0).parent, ignore_errors=True)


def _why_not(run: RunDir) -> str:
    if not run.table_path("evaluation").is_file():
        return "there are no evaluation questions (pool.evaluation is not set)"
    return "no evaluation question has an answer to check against"

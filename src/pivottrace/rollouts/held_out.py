"""Held-out questions: read, sampled, checked and counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from pivottrace.config import Config
from pivottrace.ingest import format_prompt
from pivottrace.run.directory import RunDir
from pivottrace.schemas import EVALUATION
from pivottrace.stats.accuracy import QuestionCounts, count_by_question
from pivottrace.verifier import Verifier
from pivottrace.verifier.answers import extract_answer


def held_out_questions(run: RunDir) -> list[dict[str, Any]]:
    """The evaluation questions that have an answer, in order; none where there is no such table."""
    if not run.table_path("evaluation").is_file():
        return []
    questions = run.read_table("evaluation", made_by="run").to_pylist()
    return [question for question in questions if question["answer"] is not None]


def counts_of(table: pa.Table) -> QuestionCounts:
    """Right samples of each question of an `EVALUATION` table."""
    return count_by_question(table["question_id"].to_pylist(), table["correct"].to_pylist())


def sample_and_check(
    model: Any,
    tokenizer: Any,
    questions: Sequence[dict[str, Any]],
    config: Config,
    verifier: Verifier,
    seed: int,
) -> pa.Table:
    """Sample `evaluate.num_samples` answers to each question and check them against its answer.

    Args:
        model: In eval mode.
        tokenizer: Its tokenizer.
        questions: Rows of schema `QUESTIONS`, each with an answer.
        config: `[evaluate]` says how to sample, `[pool]` and `[answers]` how to ask and to read.
        verifier: Decides what is right.
        seed: Of the sampling.

    Returns:
        A table of schema `EVALUATION`, question by question. A question whose prompt leaves no room
        for a response in the model counts as wrong, with finish `failed`, so that the denominator
        never depends on the model.
    """
    from pivottrace.models import hf  # heavy

    settings = config.evaluate
    max_new_tokens = settings.max_new_tokens or config.rollouts.max_new_tokens
    prompts = [
        hf.render_prompt(
            tokenizer,
            format_prompt(q["prompt"], config.pool.system_prompt, config.pool.prompt_suffix),
            config.pool,
        )
        for q in questions
    ]
    limit = hf.max_positions(model) or float("inf")
    fitting = [i for i, p in enumerate(prompts) if p and len(p) + max_new_tokens <= limit]
    sampled = hf.generate(
        model,
        tokenizer,
        [prompts[i] for i in fitting],
        num_samples=settings.num_samples,
        temperature=settings.temperature,
        top_p=settings.top_p,
        max_new_tokens=max_new_tokens,
        stop=config.rollouts.stop,
        batch_size=config.rollouts.batch_size,
        seed=seed,
    )
    responses = dict(zip(fitting, sampled, strict=True))
    unanswered = [hf.Generated([], "", "failed")] * settings.num_samples
    rows: list[dict[str, Any]] = []
    truths: list[str] = []
    for index, question in enumerate(questions):
        for sample, response in enumerate(responses.get(index, unanswered)):
            truths.append(question["answer"])
            rows.append(
                {
                    "question_id": question["id"],
                    "sample": sample,
                    "answer": extract_answer(response.text, config.answers.pattern),
                    "num_tokens": len(response.tokens),
                    "finish": response.finish,
                }
            )
    verdicts = verifier.check_many([row["answer"] for row in rows], truths)
    for row, right in zip(rows, verdicts, strict=True):
        row["correct"] = right
    return pa.Table.from_pylist(rows, schema=EVALUATION)

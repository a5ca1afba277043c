"""Held-out questions are read, put to the model, checked and counted."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from pivottrace.config import Config
from pivottrace.models.asking import Asked, ask
from pivottrace.models.rendering import render_questions
from pivottrace.models.sampler import Sampler, Sampling
from pivottrace.rollouts.answer_reader import AnswerReader
from pivottrace.run.directory import RunDir
from pivottrace.run.entries import judged
from pivottrace.schemas import EVALUATION
from pivottrace.stats.accuracy import QuestionCounts, count_by_question
from pivottrace.verifier import Verifier


def held_out_questions(run: RunDir) -> list[dict[str, Any]]:
    """The evaluation questions that have an answer, in order; empty if there is no such table.

    The answer is as `run.entries.judged` writes it.
    """
    if not run.table_path("evaluation").is_file():
        return []
    questions = run.read_table("evaluation", made_by="run").to_pylist()
    answered = [question for question in questions if question["answer"] is not None]
    return [judged(question, run.config) for question in answered]


def counts_of(table: pa.Table) -> QuestionCounts:
    """Number of right samples for each question of an `EVALUATION` table."""
    return count_by_question(table["question_id"].to_pylist(), table["correct"].to_pylist())


def sample_and_check(
    sampler: Sampler,
    questions: Sequence[dict[str, Any]],
    config: Config,
    verifier: Verifier,
    seed: int,
) -> pa.Table:
    """Sample `evaluate.num_samples` answers to each question and check them against its answer.

    Args:
        sampler: The model that responds.
        questions: Rows of schema `QUESTIONS`, each with an answer.
        config: `[evaluate]` says how to sample. `[pool]` says how to ask, and `[answers]` says how
            to read the answers.
        verifier: Decides whether answers are right.
        seed: Seed of the sampling.

    Returns:
        A table of schema `EVALUATION`, question by question. A question whose prompt is empty or
        leaves no room for a response counts as wrong, with finish `failed`. So the denominator
        never depends on the model.
    """
    settings = Sampling(
        num_samples=config.evaluate.num_samples,
        temperature=config.evaluate.temperature,
        top_p=config.evaluate.top_p,
        max_new_tokens=config.evaluate.max_new_tokens or config.rollouts.max_new_tokens,
        stop=tuple(config.rollouts.stop),
        batch_size=config.rollouts.batch_size,
        seed=seed,
    )
    messages = (question["prompt"] for question in questions)
    prompts = render_questions(sampler.tokenizer, messages, config.pool)
    rows: list[dict[str, Any]] = []
    reader, responses = AnswerReader.of(config), ask(sampler, prompts, settings)
    _warn_if_unread(reader, responses, config)
    for question, asked in zip(questions, responses, strict=True):
        if asked.failure is not None:
            rows += _failed_rows(question["id"], settings.num_samples)
        rows += [
            {
                "question_id": question["id"],
                "sample": sample,
                "answer": reader.read(response.text),
                "num_tokens": len(response.tokens),
                "finish": response.finish,
            }
            for sample, response in enumerate(asked.responses)
        ]
    # (questions x samples,) truths, in the order of the rows.
    truths = [question["answer"] for question in questions for _ in range(settings.num_samples)]
    verdicts = verifier.check_many([row["answer"] for row in rows], truths)
    for row, right in zip(rows, verdicts, strict=True):
        row["correct"] = right
    return pa.Table.from_pylist(rows, schema=EVALUATION)


def _warn_if_unread(reader: AnswerReader, asked: Sequence[Asked], config: Config) -> None:
    own = config.evaluate.max_new_tokens
    section = "rollouts" if own is None else "evaluate"
    limit = f"{section}.max_new_tokens = {own or config.rollouts.max_new_tokens}"
    responses = [(r.text, r.finish) for each in asked for r in each.responses]
    if why := reader.why_none(responses, limit):
        print(f"note: held-out questions: {why}", file=sys.stderr, flush=True)


def _failed_rows(question_id: str, num_samples: int) -> list[dict[str, Any]]:
    """As many rows as a question that was asked has, but all without an answer."""
    return [
        {
            "question_id": question_id,
            "sample": sample,
            "answer": None,
            "num_tokens": 0,
            "finish": "failed",
        }
        for sample in range(num_samples)
    ]

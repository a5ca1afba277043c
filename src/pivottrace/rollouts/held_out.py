"""Held-out questions are read, put to the model, checked and counted, set by set."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import groupby
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pivottrace.config import AnswersConfig, Config, PoolConfig
from pivottrace.ingest.prompts import format_prompt
from pivottrace.models.asking import Asked, ask
from pivottrace.models.rendering import render_prompts
from pivottrace.models.sampler import Sampler, Sampling
from pivottrace.rollouts.answer_reader import AnswerReader
from pivottrace.run.directory import RunDir
from pivottrace.run.entries import judged
from pivottrace.schemas import EVALUATION
from pivottrace.stats.accuracy import QuestionCounts, count_by_question
from pivottrace.verifier import Verifier
from pivottrace.verifier.formats import DEFAULT_FORMATS


def held_out_questions(run: RunDir) -> list[dict[str, Any]]:
    """The evaluation questions that have an answer, in order; empty if there is no such table.

    The answer is as `run.entries.judged` writes it.
    """
    if not run.table_path("evaluation").is_file():
        return []
    questions = run.read_table("evaluation", made_by="run").to_pylist()
    answered = [question for question in questions if question["answer"] is not None]
    return [judged(question, run.config) for question in answered]


def by_set(questions: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The questions of each set, in order. An older version has one set, without a name."""
    groups = groupby(questions, key=lambda question: question.get("set") or "")
    return {name: list(group) for name, group in groups}


def prompt_of(question: Mapping[str, Any], pool: PoolConfig) -> list[dict[str, str]]:
    """The messages that the model gets: a benchmark's own prompt, or the prompt of the settings."""
    own: list[dict[str, str]] | None = question.get("asked")
    if own is not None:
        return own
    return format_prompt(question["prompt"], pool.system_prompt, pool.prompt_suffix)


def render_held_out(
    tokenizer: Any, questions: Sequence[Mapping[str, Any]], pool: PoolConfig
) -> list[list[int]]:
    """Token ids of held-out questions. Raises as `models.rendering.render_prompts`."""
    return render_prompts(tokenizer, (prompt_of(each, pool) for each in questions), pool)


def num_samples_of(question: Mapping[str, Any], config: Config) -> int:
    """The samples per question of a question's set: k of its avg@k."""
    return question.get("num_samples") or config.evaluate.num_samples


def answers_of(question: Mapping[str, Any], config: Config) -> AnswersConfig:
    """How the answers to a question of a set are read and compared.

    A benchmark's own prompt asks for a format of its own, so any format is read there. A set's own
    verifier takes the tolerances of its truths, and not `answers.tolerance`.
    """
    found = config.answers
    if question.get("asked") is not None:
        found = found.model_copy(update={"pattern": None, "formats": list(DEFAULT_FORMATS)})
    if question.get("verifier") is not None:
        found = found.model_copy(update={"verifier": question["verifier"], "tolerance": None})
    return found


@contextmanager
def set_verifiers(
    sets: Mapping[str, Sequence[dict[str, Any]]], config: Config
) -> Iterator[dict[str, Verifier]]:
    """A verifier for each set, by name. Sets that compare alike share one."""
    with ExitStack() as stack:
        opened: dict[str, Verifier] = {}
        found = {}
        for name, questions in sets.items():
            settings = answers_of(questions[0], config)
            key = settings.model_dump_json(include={"verifier", "tolerance"})
            if key not in opened:
                opened[key] = stack.enter_context(Verifier.of(settings))
            found[name] = opened[key]
        yield found


def counts_by_set(
    questions: Sequence[dict[str, Any]], table: pa.Table
) -> dict[str, QuestionCounts]:
    """Number of right samples for each question of an `EVALUATION` table, set by set."""
    return {name: counts_of(part) for name, part in rows_by_set(questions, table).items()}


def rows_by_set(questions: Sequence[dict[str, Any]], table: pa.Table) -> dict[str, pa.Table]:
    """The rows of an `EVALUATION` table, set by set."""
    found = {}
    for name, of_set in by_set(questions).items():
        ids = pa.array([question["id"] for question in of_set], pa.string())
        found[name] = table.filter(pc.is_in(table["question_id"], value_set=ids))
    return found


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
    """Sample answers to each question of one set, and check them against its answer.

    Args:
        sampler: The model that responds.
        questions: Rows of schema `HELD_OUT` or `QUESTIONS`, each with an answer. The first one says
            how many samples are taken and how answers are read, because they are of one set.
        config: `[evaluate]` says how to sample. `[pool]` says how to ask, and `[answers]` says how
            to read the answers, where the set has no way of its own.
        verifier: Decides whether answers are right.
        seed: Seed of the sampling.

    Returns:
        A table of schema `EVALUATION`, question by question. A question whose prompt is empty or
        leaves no room for a response counts as wrong, with finish `failed`. So the denominator
        never depends on the model.
    """
    settings = Sampling(
        num_samples=num_samples_of(questions[0], config),
        temperature=config.evaluate.temperature,
        top_p=config.evaluate.top_p,
        max_new_tokens=config.evaluate.max_new_tokens or config.rollouts.max_new_tokens,
        stop=tuple(config.rollouts.stop),
        batch_size=config.rollouts.batch_size,
        seed=seed,
    )
    prompts = render_held_out(sampler.tokenizer, questions, config.pool)
    rows: list[dict[str, Any]] = []
    reader, responses = _reader_of(questions[0], config), ask(sampler, prompts, settings)
    _warn_if_unread(reader, responses, config, questions[0].get("set"))
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


def _reader_of(question: Mapping[str, Any], config: Config) -> AnswerReader:
    """A benchmark's own prompt asks for a format of its own; see `answers_of`."""
    if question.get("asked") is not None:
        return AnswerReader()
    return AnswerReader.of(config.model_copy(update={"answers": answers_of(question, config)}))


def _warn_if_unread(
    reader: AnswerReader, asked: Sequence[Asked], config: Config, name: str | None
) -> None:
    own = config.evaluate.max_new_tokens
    section = "rollouts" if own is None else "evaluate"
    limit = f"{section}.max_new_tokens = {own or config.rollouts.max_new_tokens}"
    responses = [(r.text, r.finish) for each in asked for r in each.responses]
    if why := reader.why_none(responses, limit):
        of_set = "" if name is None else f" ({name})"
        print(f"note: held-out questions{of_set}: {why}", file=sys.stderr, flush=True)


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

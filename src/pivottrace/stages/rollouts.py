"""Rollouts: one greedy trace and G sampled responses a question, part by part.

A part is a run of `part_size` questions in pool order. Its samples are seeded by (run seed, part
index), so that a part made again after a kill is the same.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from pivottrace.core.answers import extract_answer
from pivottrace.ingest import format_prompt
from pivottrace.progress import progress
from pivottrace.rundir import RunDir, part_seed, read_parquet, run_parts
from pivottrace.types import ROLLOUTS

NO_CHAT_TEMPLATE = (
    "the model has no chat template: questions are put to it as plain text, which a chat model "
    "rarely expects"
)


def run(run: RunDir) -> None:
    """Write the parts of `rollouts_greedy` and `rollouts_sampled`; finished ones are kept.

    Raises:
        RunDirError: the model is not the one that finished parts came from.
    """
    if run.is_done("rollout"):
        return
    # Loading takes seconds and the question table is at hand, so look at it first.
    questions = run.read_table("pool", made_by="run").select(["id", "prompt"]).to_pylist()

    from pivottrace.backends import hf
    from pivottrace.backends.identity import refuse_another_model

    model, tokenizer = hf.load_model(run.config.model)
    facts = refuse_another_model(run, model, tokenizer) | {
        "chat_template": tokenizer.chat_template is not None,
        "dtype": str(model.dtype).removeprefix("torch."),
    }
    if tokenizer.chat_template is None:
        print(f"note: {NO_CHAT_TEMPLATE}", file=sys.stderr, flush=True)
    settings, pool = run.config.rollouts, run.config.pool
    prompts = [
        hf.render_prompt(
            tokenizer, format_prompt(q["prompt"], pool.system_prompt, pool.prompt_suffix), pool
        )
        for q in questions
    ]
    limit = hf.max_positions(model)
    starts = range(0, len(questions), settings.part_size)

    for kind, num_samples in (("greedy", 1), ("sampled", settings.num_samples)):

        def make(index: int, kind: str = kind, num_samples: int = num_samples) -> pa.Table:
            chosen = range(starts[index], min(starts[index] + settings.part_size, len(questions)))
            unfit = {i: _unfit(prompts[i], settings.max_new_tokens, limit) for i in chosen}
            fits = [i for i in chosen if unfit[i] is None]
            responses = hf.generate(
                model,
                tokenizer,
                [prompts[i] for i in fits],
                num_samples=num_samples,
                temperature=None if kind == "greedy" else settings.temperature,
                top_p=settings.top_p,
                max_new_tokens=settings.max_new_tokens,
                stop=settings.stop,
                batch_size=settings.batch_size,
                seed=part_seed(run.config.seed, kind, index),
            )
            # Only now: an attempt that fails before it has anything to keep binds nobody.
            run.begin("rollout", **facts)
            by_question = dict(zip(fits, responses, strict=True))
            rows = [
                row
                for i in chosen
                for row in _rows(
                    questions[i]["id"],
                    prompts[i] if kind == "greedy" else None,
                    by_question.get(i, unfit[i]),
                    run.config.answers.pattern,
                )
            ]
            return pa.Table.from_pylist(rows, schema=ROLLOUTS)

        with progress(kind, len(questions)) as update:
            run_parts(
                run,
                f"rollouts_{kind}",
                len(starts),
                make,
                lambda index: update(min((index + 1) * settings.part_size, len(questions))),
            )
    run.mark_done(
        "rollout",
        num_questions=len(questions),
        num_parts=len(starts),
        failures=_count_failures(run, len(starts)),
        **facts,
    )


def _unfit(prompt: Sequence[int], max_new_tokens: int, limit: int | None) -> str | None:
    """Why a prompt cannot be put to the model; None where it can."""
    if not prompt:
        return "empty_prompt"
    if limit is not None and len(prompt) + max_new_tokens > limit:
        return "prompt_too_long_for_the_model"
    return None


def _rows(
    question_id: str, prompt: list[int] | None, responses: Any, pattern: str | None
) -> list[dict[str, Any]]:
    """A row a response; where there is none, `responses` is the reason, and so is the one row."""
    if isinstance(responses, str):
        return [_row(question_id, 0, prompt, [], "", None, "failed", responses)]
    return [
        _row(
            question_id, sample, prompt, r.tokens, r.text, extract_answer(r.text, pattern),
            r.finish, None if r.tokens else "empty_response",
        )
        for sample, r in enumerate(responses)
    ]  # fmt: skip


def _row(question_id: str, sample: int, prompt: Any, tokens: Any, text: str, answer: str | None,
         finish: str, failure: str | None) -> dict[str, Any]:  # fmt: skip
    return {
        "question_id": question_id, "sample": sample, "prompt_tokens": prompt, "tokens": tokens,
        "text": text, "answer": answer, "finish": finish, "failure": failure,
    }  # fmt: skip


def _count_failures(run: RunDir, num_parts: int) -> dict[str, int]:
    """How many greedy traces have no answer, and why; the report lists them."""
    counts: dict[str, int] = {}
    for index in range(num_parts):
        path = run.part_path("rollouts_greedy", index)
        part = read_parquet(path, ["answer", "finish", "failure"])
        for row in part.to_pylist():
            reason = row["failure"] or (None if row["answer"] is not None else _missing(row))
            if reason:
                counts[reason] = counts.get(reason, 0) + 1
    return counts


def _missing(row: dict[str, Any]) -> str:
    return "truncated" if row["finish"] == "length" else "no_answer"

"""Questions in other words, whose answers vote in Co-rewarding: from a column, or by the model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pivottrace.config import Config
from pivottrace.errors import DataError
from pivottrace.ingest import format_prompt
from pivottrace.ingest.prompts import last_user_message

MIRRORED = "/rewritten"
"""Ends the id of a row that trains on a rewritten question."""


def rewrites_from_column(questions: Iterable[Mapping[str, Any]], column: str) -> dict[str, str]:
    """The text of a column of the questions' source, by question id.

    Args:
        questions: rows with `id`, and `extra` as the pool keeps it.
        column: the column, or the way to a nested one ("extra_info.rewrite").

    Raises:
        DataError: A question has no text there.
    """
    rewrites = {}
    for question in questions:
        value: Any = json.loads(question["extra"] or "{}")
        for part in column.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if not isinstance(value, str) or not value.strip():
            raise DataError(
                f"question {question['id']!r} has no text in the column weak.rewrite_column = "
                f"{column!r}: fill it in at its source, or leave the setting out and let the model "
                f"rewrite"
            )
        rewrites[question["id"]] = value.strip()
    return rewrites


def rewrites_by_model(
    questions: Sequence[Mapping[str, Any]], config: Config, model: Any, tokenizer: Any, seed: int
) -> dict[str, str]:
    """Let the model put questions in other words, one sample each, by question id.

    What comes before a closing `</think>` is left out. Where nothing is left, the text was cut at
    the limit (it may be a thought), or the prompt leaves no room, the question stays as it is.

    Args:
        questions: rows with `id` and `prompt`.
        config: `weak.rewrite_prompt`, and how training samples.
        model: The model before training, in eval mode.
        tokenizer: Its tokenizer.
        seed: The round's.
    """
    from pivottrace.models import hf  # heavy

    texts = [last_user_message(question["prompt"]) for question in questions]
    prompts = []
    for text in texts:
        message = {
            "role": "user",
            "content": config.weak.rewrite_prompt.replace("{question}", text),
        }
        prompts.append(hf.render_prompt(tokenizer, [message], config.pool))
    length = config.train.max_new_tokens
    limit = hf.max_positions(model) or float("inf")
    fitting = [i for i, prompt in enumerate(prompts) if len(prompt) + length <= limit]
    responses = hf.generate(
        model,
        tokenizer,
        [prompts[i] for i in fitting],
        num_samples=1,
        temperature=config.train.temperature,
        max_new_tokens=length,
        stop=config.rollouts.stop,
        batch_size=config.rollouts.batch_size,
        seed=seed,
    )
    written = {
        i: sample.text
        for i, (sample,) in zip(fitting, responses, strict=True)
        if sample.finish == "stop"
    }
    return {
        question["id"]: written.get(i, "").rpartition("</think>")[2].strip() or texts[i]
        for i, question in enumerate(questions)
    }


def put_to_model(
    messages: Sequence[Mapping[str, str]], rewrite: str, config: Config
) -> list[dict[str, str]]:
    """A question's messages with its last user message rewritten, as they are put to the model."""
    last = max(i for i, message in enumerate(messages) if message["role"] == "user")
    changed = [{**m, "content": rewrite} if i == last else m for i, m in enumerate(messages)]
    return format_prompt(changed, config.pool.system_prompt, config.pool.prompt_suffix)


def mirrored(row: Mapping[str, Any]) -> dict[str, Any]:
    """The training row the other way round: it trains on the rewriting, and the original votes."""
    return {
        **row,
        "question_id": row["question_id"] + MIRRORED,
        "prompt": row["rewrite"],
        "rewrite": row["prompt"],
    }

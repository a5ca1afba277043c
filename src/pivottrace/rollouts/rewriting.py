"""Rewritten questions for Co-rewarding. They come from a column, or the model writes them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pivottrace.config import Config
from pivottrace.errors import DataError
from pivottrace.ingest import format_prompt
from pivottrace.ingest.prompts import last_user_message
from pivottrace.models.asking import Asked, ask
from pivottrace.models.rendering import render_prompts
from pivottrace.models.sampler import Sampler, Sampling

MIRRORED = "/rewritten"
"""The end of the id of a row that trains on a rewritten question."""


def rewrites_from_column(questions: Iterable[Mapping[str, Any]], column: str) -> dict[str, str]:
    """The texts in a column of the questions' source, by question id.

    Args:
        questions: Rows with `id`, and with `extra` as the pool keeps it.
        column: The column, or the dotted path to a nested column ("extra_info.rewrite").

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
                f"{column!r}. Add the text in the questions' source, or leave the setting out so "
                f"that the model rewrites the questions"
            )
        rewrites[question["id"]] = value.strip()
    return rewrites


def rewrites_by_model(
    questions: Sequence[Mapping[str, Any]], config: Config, sampler: Sampler, seed: int
) -> dict[str, str]:
    """Let the model rewrite questions, with one sample per question. Results are by question id.

    Text before a closing `</think>` is left out. A question keeps its own words if no text remains,
    or if the prompt is empty or leaves no room. The question keeps its words too if the text was
    cut at the limit, because the text may then be a thought.

    Args:
        questions: Rows with `id` and `prompt`.
        config: Holds `weak.rewrite_prompt`, and the sampling of the training.
        sampler: The model before training.
        seed: Seed of the round.
    """
    settings = Sampling(
        num_samples=1,
        temperature=config.train.temperature,
        max_new_tokens=config.longest_in_training,
        stop=tuple(config.rollouts.stop),
        batch_size=config.rollouts.batch_size,
        seed=seed,
    )
    texts = [last_user_message(question["prompt"]) for question in questions]
    requests = (config.weak.rewrite_prompt.replace("{question}", text) for text in texts)
    prompts = render_prompts(
        sampler.tokenizer,
        ([{"role": "user", "content": request}] for request in requests),
        config.pool,
    )
    return {
        question["id"]: _rewritten(asked) or text
        for question, text, asked in zip(
            questions, texts, ask(sampler, prompts, settings), strict=True
        )
    }


def _rewritten(asked: Asked) -> str:
    """The text of the one response after its thought; empty if the response was cut."""
    ended = [response.text for response in asked.responses if response.finish == "stop"]
    return "".join(ended).rpartition("</think>")[2].strip()


def put_to_model(
    messages: Sequence[Mapping[str, str]], rewrite: str, config: Config
) -> list[dict[str, str]]:
    """A question's messages for the model, with `rewrite` in place of the last user message."""
    last = max(i for i, message in enumerate(messages) if message["role"] == "user")
    changed = [{**m, "content": rewrite} if i == last else m for i, m in enumerate(messages)]
    return format_prompt(changed, config.pool.system_prompt, config.pool.prompt_suffix)


def mirrored(row: Mapping[str, Any]) -> dict[str, Any]:
    """The training row with the roles swapped: it trains on the rewrite, and the original votes."""
    return {
        **row,
        "question_id": row["question_id"] + MIRRORED,
        "prompt": row["rewrite"],
        "rewrite": row["prompt"],
    }

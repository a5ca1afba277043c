"""Prompts become tokens, and tokens become responses. This needs a tokenizer, but no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import TemplateError

from pivottrace.config import PoolConfig
from pivottrace.errors import ModelError, first_line
from pivottrace.ingest import format_prompt
from pivottrace.models.sampler import Response, Sampling

Messages = Sequence[Mapping[str, str]]


def render_question(tokenizer: Any, messages: Messages, pool: PoolConfig) -> list[int]:
    """Token ids of a question with the pool's system prompt and suffix. Raises as `render_prompt`.

    Args:
        tokenizer: The tokenizer of the model.
        messages: The question's messages, as the tables `pool` and `evaluation` hold them.
        pool: How questions are put to the model.
    """
    return render_prompt(
        tokenizer, format_prompt(messages, pool.system_prompt, pool.prompt_suffix), pool
    )


def render_prompt(tokenizer: Any, prompt: str | Messages, pool: PoolConfig) -> list[int]:
    """Token ids of one prompt.

    Args:
        tokenizer: The tokenizer of the model.
        prompt: Plain text, or chat messages. Messages go through the chat template if the tokenizer
            has one, and become plain text otherwise.
        pool: Holds the template's arguments, `chat_template_args`.

    Raises:
        ModelError: The chat template refuses the messages or the arguments.
    """
    if not isinstance(prompt, str) and tokenizer.chat_template is None:
        prompt = plain_text(prompt)
    if isinstance(prompt, str):
        return list(tokenizer(prompt)["input_ids"])
    try:
        text = tokenizer.apply_chat_template(
            prompt, add_generation_prompt=True, tokenize=False, **pool.chat_template_args
        )
    except (TypeError, ValueError, TemplateError) as error:
        roles = ", ".join(message["role"] for message in prompt)
        raise ModelError(
            f"the chat template refuses a prompt of roles {roles}: {first_line(error)}. Remove "
            f"pool.system_prompt if the template knows no such role (pool.prompt_suffix can say "
            f"the same), and check the prompt's own messages and pool.chat_template_args."
        ) from error
    # The template has already added every special token.
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def plain_text(messages: Messages) -> str:
    """A prompt for a model without a chat template: the messages' texts, split by blank lines."""
    return "\n\n".join(message["content"] for message in messages) + "\n"


def read_response(tokenizer: Any, tokens: Sequence[int], settings: Sampling) -> Response:
    """Decode one response of a sampler, and say how it ended.

    Args:
        tokenizer: The tokenizer of the model.
        tokens: Token ids, without the token that ended the response.
        settings: The settings that the response was sampled with.
    """
    text = tokenizer.decode(tokens, skip_special_tokens=True)
    stops = [position for s in settings.stop if (position := text.find(s)) >= 0]
    if stops:
        return Response(list(tokens), text[: min(stops)], "stop")
    # `tokens` has no end token, so a response that ended by itself is shorter than the limit.
    return Response(
        list(tokens), text, "length" if len(tokens) == settings.max_new_tokens else "stop"
    )

"""Prompts become tokens, and tokens become responses. This needs a tokenizer, but no model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby, islice
from operator import itemgetter
from typing import Any

from jinja2 import TemplateError

from pivottrace.config import PoolConfig
from pivottrace.errors import ModelError, first_line
from pivottrace.ingest import format_prompt
from pivottrace.models.sampler import Response, Sampling

Messages = Sequence[Mapping[str, str]]
# The errors that a template raises: its own refusals, and errors of its expressions.
REFUSALS = (
    TemplateError,
    TypeError,
    ValueError,
    AttributeError,
    LookupError,
    ArithmeticError,
    RecursionError,
)
BATCH = 1_000  # texts tokenised at once; more need memory and are not faster


def render_questions(
    tokenizer: Any, questions: Iterable[Messages], pool: PoolConfig
) -> list[list[int]]:
    """Token ids of questions with the pool's system prompt and suffix. Raises as `render_prompts`.

    Args:
        tokenizer: The tokenizer of the model.
        questions: The messages of each question, as the tables `pool` and `evaluation` hold them.
        pool: How questions are put to the model.
    """
    prompts = (format_prompt(each, pool.system_prompt, pool.prompt_suffix) for each in questions)
    return render_prompts(tokenizer, prompts, pool)


def render_prompts(
    tokenizer: Any, prompts: Iterable[str | Messages], pool: PoolConfig
) -> list[list[int]]:
    """Token ids of each prompt. They are tokenised in batches.

    Args:
        tokenizer: The tokenizer of the model.
        prompts: Plain texts, or chat messages. Messages go through the chat template if the
            tokenizer has one, and become plain text otherwise.
        pool: Holds the template's arguments, `chat_template_args`.

    Raises:
        ModelError: The chat template refuses the messages or the arguments.
    """
    tokens: list[list[int]] = []
    texts = (_text_of(tokenizer, prompt, pool) for prompt in prompts)
    for is_plain, group in groupby(texts, key=itemgetter(1)):
        while batch := [text for text, _ in islice(group, BATCH)]:
            # A chat template has already added every special token.
            found = tokenizer(batch, add_special_tokens=is_plain, return_attention_mask=False)
            tokens += map(list, found["input_ids"])
    return tokens


def render_prompt(tokenizer: Any, prompt: str | Messages, pool: PoolConfig) -> list[int]:
    """Token ids of one prompt; see `render_prompts`."""
    return render_prompts(tokenizer, [prompt], pool)[0]


def _text_of(tokenizer: Any, prompt: str | Messages, pool: PoolConfig) -> tuple[str, bool]:
    """The text of a prompt, and whether it is plain text."""
    if isinstance(prompt, str):
        return prompt, True
    if tokenizer.chat_template is None:
        return plain_text(prompt), True
    try:
        text: str = tokenizer.apply_chat_template(
            prompt, add_generation_prompt=True, tokenize=False, **pool.chat_template_args
        )
    except REFUSALS as error:
        roles = ", ".join(message["role"] for message in prompt)
        raise ModelError(
            f"the chat template refuses a prompt of roles {roles}: {first_line(error)}. Remove "
            f"pool.system_prompt if the template knows no such role (pool.prompt_suffix can say "
            f"the same), and check the prompt's own messages and pool.chat_template_args."
        ) from error
    return text, False


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

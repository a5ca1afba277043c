"""Prompts put to a sampler: which of them fit, what came back, and why where nothing did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pivottrace.models.rendering import read_response
from pivottrace.models.sampler import Response, Sampler, Sampling

Failure = Literal["empty_prompt", "prompt_too_long_for_the_model"]


@dataclass(frozen=True)
class Asked:
    """A prompt with its responses, or with the reason why it was not put to the model.

    Attributes:
        prompt: Its token ids.
        responses: One per sample; none where there is a failure.
        failure: None where the prompt was put to the model.
    """

    prompt: Sequence[int]
    responses: Sequence[Response] = ()
    failure: Failure | None = None


def ask(sampler: Sampler, prompts: Sequence[Sequence[int]], settings: Sampling) -> list[Asked]:
    """Sample responses to every prompt that has tokens and leaves room for a whole response.

    Args:
        sampler: Responds.
        prompts: (N,) token ids of each. Callers render them before, so that a chat template that
            refuses one does so before anything is spent.
        settings: How to sample.

    Returns:
        (N,) what came of each prompt.

    Raises:
        ModelError: The model cannot respond.
    """
    failures = [_failure(prompt, settings, sampler.max_positions) for prompt in prompts]
    fitting = [i for i, failure in enumerate(failures) if failure is None]
    sampled = sampler.sample([prompts[i] for i in fitting], settings) if fitting else []
    responses = {
        i: [read_response(sampler.tokenizer, tokens, settings) for tokens in of_prompt]
        for i, of_prompt in zip(fitting, sampled, strict=True)
    }
    return [Asked(p, responses.get(i, []), failures[i]) for i, p in enumerate(prompts)]


def _failure(
    prompt: Sequence[int], settings: Sampling, max_positions: int | None
) -> Failure | None:
    """Why a prompt cannot be put to the model; None where it can."""
    if not prompt:
        return "empty_prompt"
    if max_positions is not None and len(prompt) + settings.max_new_tokens > max_positions:
        return "prompt_too_long_for_the_model"
    return None

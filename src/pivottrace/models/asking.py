"""Prompts are put to a sampler. A prompt that does not fit is not asked, and gets a reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pivottrace.errors import ModelError
from pivottrace.models.rendering import read_response
from pivottrace.models.sampler import Response, Sampler, Sampling

Failure = Literal["empty_prompt", "prompt_too_long_for_the_model"]


@dataclass(frozen=True)
class Asked:
    """A prompt with its responses, or with the reason why it was not put to the model.

    Attributes:
        prompt: Token ids of the prompt.
        responses: One per sample; empty if the prompt failed.
        failure: Why the prompt was not put to the model; None if it was put to the model.
    """

    prompt: Sequence[int]
    responses: Sequence[Response] = ()
    failure: Failure | None = None


def ask(sampler: Sampler, prompts: Sequence[Sequence[int]], settings: Sampling) -> list[Asked]:
    """Sample responses to every prompt that has tokens and leaves room for a whole response.

    Args:
        sampler: The model that responds.
        prompts: (N,) token ids of each prompt. Callers render all prompts first. So a chat template
            that refuses a prompt does so before any response is sampled.
        settings: How to sample.

    Returns:
        (N,) each prompt with its responses or its failure.

    Raises:
        ModelError: The model cannot respond, or the sampler gives another number of responses than
            it was asked for.
    """
    # (N,) failures; only prompts without a failure are sampled.
    failures = [_failure(prompt, settings, sampler.max_positions) for prompt in prompts]
    fitting = [i for i, failure in enumerate(failures) if failure is None]
    sampled = sampler.sample([prompts[i] for i in fitting], settings) if fitting else []
    for of_prompt in sampled:
        _refuse_other_number(of_prompt, settings)
    responses = {
        i: [read_response(sampler.tokenizer, tokens, settings) for tokens in of_prompt]
        for i, of_prompt in zip(fitting, sampled, strict=True)
    }
    return [Asked(p, responses.get(i, []), failures[i]) for i, p in enumerate(prompts)]


def _failure(
    prompt: Sequence[int], settings: Sampling, max_positions: int | None
) -> Failure | None:
    """Why a prompt cannot be put to the model; None if it can."""
    if not prompt:
        return "empty_prompt"
    if max_positions is not None and len(prompt) + settings.max_new_tokens > max_positions:
        return "prompt_too_long_for_the_model"
    return None


def _refuse_other_number(of_prompt: Sequence[Sequence[int]], settings: Sampling) -> None:
    # A missing response would pass unseen: votes and avg@k would count fewer samples.
    if len(of_prompt) != settings.num_samples:
        raise ModelError(
            f"the sampler of rollouts.backend gave {len(of_prompt)} responses to a prompt, and "
            f"{settings.num_samples} were asked for. It must return Sampling.num_samples responses"
        )

"""The transformers sampler: the model that responds is in this process."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from transformers import GenerationConfig

from pivottrace.config import ModelConfig, RolloutsConfig
from pivottrace.models.batches import half_of, memory_suffices
from pivottrace.models.compact import generate_refilling
from pivottrace.models.digests import digests
from pivottrace.models.half_products import warn_of_slow_model
from pivottrace.models.load import load_model, max_positions, stop_token_ids
from pivottrace.models.sampler import Sampling
from pivottrace.models.weights import refuse_unknown_tokens


class TransformersSampler:
    """A `Sampler` over a loaded model.

    Args:
        model: A causal language model. `sample` does not change its mode, so the caller must put a
            model in training into eval mode first.
        tokenizer: The tokenizer of the model, padding on the left.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer = model, tokenizer
        self._facts: dict[str, Any] = {}

    @property
    def max_positions(self) -> int | None:
        """The limit in the model's configuration; None if the configuration names no limit."""
        return max_positions(self.model.config)

    def facts(self) -> dict[str, Any]:
        """Digests of the weights and the tokenizer, and the `dtype` of the weights.

        The weights are read at the first call only.
        """
        if not self._facts:
            dtype = str(self.model.dtype).removeprefix("torch.")
            self._facts = {**digests(self.model, self.tokenizer), "dtype": dtype}
        return dict(self._facts)

    def sample(self, prompts: Sequence[Sequence[int]], settings: Sampling) -> list[list[list[int]]]:
        """See `Sampler.sample`. Up to `batch_size` sequences are generated at a time.

        When one ends, a waiting prompt takes its place; prompts go by length. If memory runs out,
        the batch size is halved, down to 1, and all responses begin anew. If the ended ones were
        kept, only long ones would be drawn again. So a call with the smaller size draws the same
        samples.

        Raises:
            ModelError: Memory runs out with a single sequence, or the model has no embedding for a
                token of a prompt.
        """
        refuse_unknown_tokens(self.model, self.tokenizer, prompts)
        # (N,) prompts by length; then each prompt stands once per sample.
        order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), i))
        rows = [index for index in order for _ in range(settings.num_samples)]
        responses: dict[int, list[int]] = {}  # by the place in `rows`
        size = min(settings.batch_size, max(len(rows), 1))
        while not memory_suffices(partial(self._respond, rows, prompts, size, settings, responses)):
            size = half_of(size)
        results: list[list[list[int]]] = [[] for _ in prompts]
        for place, index in enumerate(rows):
            results[index].append(responses[place])
        return results

    @torch.inference_mode()
    def _respond(
        self,
        rows: Sequence[int],
        prompts: Sequence[Sequence[int]],
        size: int,
        settings: Sampling,
        responses: dict[int, list[int]],
    ) -> None:
        """Fill in the response to the prompt of each row, up to its end."""
        ends = stop_token_ids(self.model, self.tokenizer)
        pad = self.tokenizer.pad_token_id
        torch.manual_seed(settings.seed)
        for place, tokens in generate_refilling(
            self.model,
            [prompts[index] for index in rows],
            _generation_config(settings, ends, pad),
            places=size,
            tokenizer=self.tokenizer if settings.stop else None,
        ):
            responses[place] = _up_to_the_end(tokens, {*ends, pad})


def open_transformers(model: ModelConfig, rollouts: RolloutsConfig) -> TransformersSampler:
    """Load a model as a sampler. No setting of the rollouts matters. Raises as `load_model`."""
    loaded, tokenizer = load_model(model)
    warn_of_slow_model(loaded)
    return TransformersSampler(loaded, tokenizer)


def _generation_config(settings: Sampling, ends: Sequence[int], pad: int) -> GenerationConfig:
    sampling: dict[str, Any] = {"do_sample": False}
    if settings.temperature is not None:
        sampling = {
            "do_sample": True,
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "top_k": 0,
        }
    return GenerationConfig(
        max_new_tokens=settings.max_new_tokens,
        eos_token_id=list(ends) or None,
        pad_token_id=pad,
        stop_strings=list(settings.stop) or None,
        # With NaN logits, generation must not crash: the trace records a failure of the question.
        remove_invalid_values=True,
        **sampling,
    )


def _up_to_the_end(row: list[int], ends: set[int]) -> list[int]:
    """The tokens of a generated row before its first end-of-sequence or padding token."""
    return row[: next((i for i, token in enumerate(row) if token in ends), len(row))]

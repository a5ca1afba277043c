"""The transformers sampler: the model that responds is in this process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import GenerationConfig

from pivottrace.config import ModelConfig, RolloutsConfig
from pivottrace.models.batches import in_batches
from pivottrace.models.compact import generate_compacting
from pivottrace.models.digests import digests
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
        """See `Sampler.sample`. Prompts of similar length are batched together.

        Each batch is seeded by the seed plus the number of rows before it. If memory runs out, the
        batch size is halved, down to 1. The same samples then come only from a call in which memory
        runs out at the same places.

        Raises:
            ModelError: Memory runs out with a single sequence, or the model has no embedding for a
                token of a prompt.
        """
        refuse_unknown_tokens(self.model, self.tokenizer, prompts)
        # (N,) prompts by length; then each prompt stands once per sample.
        order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), i))
        rows = [index for index in order for _ in range(settings.num_samples)]

        def work(start: int, batch: Sequence[int]) -> list[list[int]]:
            torch.manual_seed(settings.seed + start)
            return self._generate([prompts[i] for i in batch], settings)

        results: list[list[list[int]]] = [[] for _ in prompts]
        for index, tokens in zip(rows, in_batches(rows, settings.batch_size, work), strict=True):
            results[index].append(tokens)
        return results

    @torch.inference_mode()
    def _generate(self, prompts: Sequence[Sequence[int]], settings: Sampling) -> list[list[int]]:
        """Token ids of one response to each of B prompts, up to the end of the response."""
        ends = stop_token_ids(self.model, self.tokenizer)
        pad = self.tokenizer.pad_token_id
        # Pad on the left, so that every response begins in the same column: (B, S).
        width = max(len(prompt) for prompt in prompts)
        input_ids = torch.full((len(prompts), width), pad)
        attention_mask = torch.zeros_like(input_ids)
        for row, prompt in enumerate(prompts):
            input_ids[row, width - len(prompt) :] = torch.tensor(list(prompt))
            attention_mask[row, width - len(prompt) :] = 1
        output = generate_compacting(
            self.model,
            input_ids.to(self.model.device),
            attention_mask.to(self.model.device),
            _generation_config(settings, ends, pad),
            tokenizer=self.tokenizer if settings.stop else None,
        )[:, width:].tolist()  # (B, T)
        return [_up_to_the_end(row, {*ends, pad}) for row in output]


def open_transformers(model: ModelConfig, rollouts: RolloutsConfig) -> TransformersSampler:
    """Load a model as a sampler. No setting of the rollouts matters. Raises as `load_model`."""
    return TransformersSampler(*load_model(model))


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

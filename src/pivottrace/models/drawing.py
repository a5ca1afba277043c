"""Sampled tokens at the price of one random number per row.

`generate` of transformers draws with `torch.multinomial`, which takes one random number per token
of the vocabulary. On a CPU that was a fifth of the time of sampling, with 1,024 tokens and 512 rows
as with the 49,152 tokens of SmolLM2 and 64 rows (docs/results/training.md). Here the token is found
on the running sum of the probabilities.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from transformers import LogitsProcessor, LogitsProcessorList


def quick_drawing(model: Any) -> dict[str, Any]:
    """Arguments for `model.generate` that draw tokens by `draw` where that is quicker: on a CPU.

    Samples come from the same distribution, by other random numbers. Greedy tokens are the same.
    `generate` then gives neither a tokenizer nor a streamer to its loop, so it cannot stop at
    strings.
    """
    return {"custom_generate": _decode} if model.device.type == "cpu" else {}


def draw(scores: torch.Tensor) -> torch.Tensor:
    """Draw one token per row, by its probability.

    The running sum is float32: chances are off by about 2^-23, and rarer tokens may never come.

    Args:
        scores: (B, V) logits; -inf for a token that cannot come.

    Returns:
        (B,) tokens. If a row has a score that is not a number, its token is one of the vocabulary.
    """
    reached = scores.softmax(-1).cumsum(-1)
    total = reached[:, -1:]
    # Rounding must not reach the total: past it, tokens of probability 0 may stand.
    below = torch.nextafter(total, torch.zeros_like(total))
    aim = torch.minimum(torch.rand_like(total) * total, below)
    tokens = torch.searchsorted(reached, aim, right=True)[:, 0]
    return tokens.clamp(max=scores.size(1) - 1)


class _Drawn(LogitsProcessor):
    """Leaves one token per row, drawn from the processed scores."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """(B, V) with 0 for the drawn token and -inf for all others."""
        return torch.full_like(scores, -torch.inf).scatter_(1, draw(scores)[:, None], 0.0)


def _decode(
    model: Any,
    input_ids: torch.Tensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria: Any,
    generation_config: Any,
    **more: Any,
) -> Any:
    """The loop of transformers; what `generate` has prepared ends with the draw, if it samples."""
    settings = copy.copy(generation_config)
    if settings.do_sample:
        settings.do_sample = False  # the loop takes the highest score: the drawn token
        logits_processor = LogitsProcessorList([*logits_processor, _Drawn()])
    return model._sample(input_ids, logits_processor, stopping_criteria, settings, **more)

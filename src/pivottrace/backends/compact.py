"""Generation that drops finished rows: a few long responses no longer make all the others wait.

`generate` of transformers decodes every row of a batch until the last one ends. Responses that are much
shorter than the longest then cost as much as it. Here the batch is decoded in spells of a few tokens,
and rows that have ended leave it, cache and all, between two spells.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

# Tokens between two looks at what has ended; a spell costs a few milliseconds of its own.
SPELL = 24


def generate_compacting(
    model: Any,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    generation_config: Any,
    *,
    spell: int = SPELL,
    generate: Any = None,
    **more: Any,
) -> torch.Tensor:
    """Generate like `model.generate`, in less time where responses differ in length.

    Greedy tokens are the same up to rounding (which depends on the batch's shape in any case). Samples
    are drawn from the same distribution; within the first spell they are the very same.

    Args:
        model: A causal language model.
        input_ids: (B, S) prompts, padded on the left.
        attention_mask: (B, S), 0 on the padding.
        generation_config: Needs `max_new_tokens`, `eos_token_id` and `pad_token_id`.
        spell: Tokens a spell.
        generate: The model's own `generate`; by default `model.generate`.
        **more: Passed on to it.

    Returns:
        (B, S + T) prompts and responses, padded on the right after their end, with T the length of the
        longest response. Stop strings, which may end a row without a trace in its tokens, and caches
        that cannot give up rows are decoded in one go.
    """
    generate = generate or model.generate
    limit, ends = generation_config.max_new_tokens, _ends(generation_config, input_ids.device)
    whole = partial(generate, input_ids=input_ids, attention_mask=attention_mask, **more)
    if limit is None or limit <= spell or ends is None or generation_config.stop_strings:
        return whole(generation_config=generation_config)
    width, device = input_ids.size(1), input_ids.device
    done = torch.full((input_ids.size(0), width + limit), generation_config.pad_token_id).to(device)
    done[:, :width] = input_ids
    rows = torch.arange(input_ids.size(0), device=device)  # rows still in the batch
    cache = None
    while rows.numel() and input_ids.size(1) < width + limit:
        start = input_ids.size(1)
        settings = copy.copy(generation_config)
        settings.max_new_tokens = min(spell, width + limit - start)
        settings.return_dict_in_generate = True
        output = generate(
            input_ids=input_ids,
            attention_mask=attention_mask,
            past_key_values=cache,
            generation_config=settings,
            **more,
        )
        cache = output.past_key_values
        if not hasattr(cache, "batch_select_indices"):
            return whole(generation_config=generation_config)
        input_ids = output.sequences
        done[rows, start : input_ids.size(1)] = input_ids[:, start:]
        going_on = ~torch.isin(input_ids[:, start:], ends).any(dim=1)
        added = attention_mask.new_ones(input_ids.size(0), input_ids.size(1) - start)
        attention_mask = torch.cat([attention_mask, added], dim=1)
        if not going_on.all():
            kept = going_on.nonzero()[:, 0]
            input_ids, attention_mask, rows = input_ids[kept], attention_mask[kept], rows[kept]
            cache.batch_select_indices(kept)
    return (
        done[:, : max(start + settings.max_new_tokens, width)]
        if rows.numel()
        else _trim(done, width, ends)
    )


def _trim(done: torch.Tensor, width: int, ends: torch.Tensor) -> torch.Tensor:
    """Drop columns beyond the last row's end, every row having one."""
    last = torch.isin(done[:, width:], ends).int().argmax(dim=1).max().item()
    return done[:, : width + int(last) + 1]


def _ends(generation_config: Any, device: torch.device) -> torch.Tensor | None:
    ends = generation_config.eos_token_id
    if ends is None or generation_config.pad_token_id is None:
        return None
    return torch.tensor(ends, device=device).flatten()


@contextmanager
def compacting(model: Any) -> Iterator[None]:
    """Let `model.generate` drop finished rows, for callers that we don't write, such as TRL."""
    own = model.generate
    model.generate = partial(generate_compacting, model, generate=own)
    try:
        yield
    finally:
        del model.generate  # the instance's; the class's is there again

"""Generation that drops finished rows, so that a few long responses do not make all others wait.

`generate` of transformers decodes every row of a batch until the last one ends, so that short
responses cost as much as the longest. Here the batch is decoded in spells of a few tokens. Ended
rows leave it between two spells, with their cache. And the cache of transformers copies all keys
and values for every token. Here it has room for the next tokens after the first spell. Figures:
bench/generation.py.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from pivottrace.attention.engine import current_tracer

# Tokens between two looks for ended rows; a spell costs a few milliseconds of its own.
SPELL = 24
# Multiplications per decoded token (rows times weights) below which one thread is as fast as two:
# threads wait for one another after each operation, and these are then over in some 0.1 ms. Beside
# other work that waiting is what takes long (figures: docs/training-runs.md).
ONE_THREAD_BELOW = 200_000_000


class RoomyLayer(DynamicLayer):
    """A cache layer that adds a token without a copy of all tokens before it.

    Keys and values are the beginning of buffers (B, H, S + room, D). When the room is used up, the
    layer makes new buffers with room for `SPELL` tokens.
    """

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self, layer: DynamicLayer) -> None:
        """Take over the keys and values of a layer, which must hold some."""
        super().__init__()
        self.__dict__.update(layer.__dict__)
        self._buffers = [self.keys, self.values]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append keys and values (B, H, T, D), and return all of them, as `DynamicLayer` does."""
        self.keys, self._buffers[0] = _appended(self.keys, key_states, self._buffers[0])
        self.values, self._buffers[1] = _appended(self.values, value_states, self._buffers[1])
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep these rows, and release the buffers that held all rows."""
        super().batch_select_indices(indices)
        self._buffers = [self.keys, self.values]


def _appended(
    held: torch.Tensor, added: torch.Tensor, buffer: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Join `added` to the end of `held` along the tokens; also return the buffer of the result."""
    start, end = held.size(-2), held.size(-2) + added.size(-2)
    # Reordered keys are in a tensor of their own.
    if buffer.data_ptr() != held.data_ptr() or buffer.size(-2) < end:
        buffer = held.new_empty(*held.shape[:-2], end + SPELL, held.size(-1))
        buffer[..., :start, :] = held
    buffer[..., start:end, :] = added
    return buffer[..., :end, :], buffer


# Cache layers that keep nothing but the keys and values of each row, so that rows can leave them.
ROW_LAYERS = (DynamicLayer, DynamicSlidingWindowLayer, RoomyLayer)


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
    """Generate like `model.generate`, in less time if responses differ in length.

    Greedy tokens are the same up to rounding (which depends on the batch's shape in any case).
    Samples are drawn from the same distribution. Within the first spell they are identical.

    Two kinds of calls are decoded as one whole, without spells. One kind has stop strings, because
    a stop string may end a row without a trace in its tokens. The other kind has a model whose
    cache cannot give up rows, for example because it holds a recurrent state.

    Args:
        model: A causal language model.
        input_ids: (B, S) prompts, padded on the left.
        attention_mask: (B, S), 0 on the padding.
        generation_config: Needs `max_new_tokens`, `eos_token_id` and `pad_token_id`.
        spell: Tokens per spell.
        generate: The model's own `generate`; by default `model.generate`.
        **more: Further arguments of `generate`.

    Returns:
        (B, S + T) prompts and responses, padded on the right after their end. T is the length of
        the longest response.
    """
    generate = generate or model.generate
    limit, ends = generation_config.max_new_tokens, _ends(generation_config, input_ids.device)
    whole = partial(generate, input_ids=input_ids, attention_mask=attention_mask, **more)
    if limit is None or limit <= spell or ends is None or generation_config.stop_strings:
        return whole(generation_config=generation_config)
    tracer = current_tracer()
    if tracer is not None and not _can_drop_rows(DynamicCache(config=model.config)):
        # We test the cache before the first spell, so that no token is traced twice.
        return whole(generation_config=generation_config)
    width, device = input_ids.size(1), input_ids.device
    # (B, S + limit) prompts and responses; columns after a response stay padding.
    done = torch.full((input_ids.size(0), width + limit), generation_config.pad_token_id).to(device)
    done[:, :width] = input_ids
    rows = torch.arange(input_ids.size(0), device=device)  # rows still in the batch
    settings = copy.copy(generation_config)
    settings.return_dict_in_generate = True
    cache, reached = None, width
    while rows.numel() and reached < width + limit:
        start = reached
        settings.max_new_tokens = min(spell, width + limit - start)
        with _threads_for(model, rows.numel()):
            output = generate(
                input_ids=input_ids,
                attention_mask=attention_mask,
                past_key_values=cache,
                generation_config=settings,
                **more,
            )
        cache = output.past_key_values
        if not _can_drop_rows(cache):
            return whole(generation_config=generation_config)
        _make_room(cache)
        input_ids = output.sequences
        reached = input_ids.size(1)  # a spell ends early if its last row ends
        done[rows, start:reached] = input_ids[:, start:]
        added = attention_mask.new_ones(input_ids.size(0), reached - start)
        attention_mask = torch.cat([attention_mask, added], dim=1)
        # (rows in the batch, columns of this spell) -> indices of the rows that have not ended.
        kept = (~torch.isin(input_ids[:, start:], ends).any(dim=1)).nonzero()[:, 0]
        if kept.numel() < rows.numel():
            input_ids, attention_mask, rows = input_ids[kept], attention_mask[kept], rows[kept]
            cache.batch_select_indices(kept)
            if tracer is not None:
                tracer.select_rows(kept)
    return done[:, :reached]


@contextmanager
def _threads_for(model: Any, num_rows: int) -> Iterator[None]:
    """Decode with one thread inside the block, where the rows are too little work for more."""
    threads = torch.get_num_threads()
    if threads == 1 or model.device.type != "cpu":
        yield
        return
    if num_rows * sum(weight.numel() for weight in model.parameters()) < ONE_THREAD_BELOW:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _ends(generation_config: Any, device: torch.device) -> torch.Tensor | None:
    ends = generation_config.eos_token_id
    if ends is None or generation_config.pad_token_id is None:
        return None
    return torch.tensor(ends, device=device).flatten()


def _can_drop_rows(cache: Any) -> bool:
    """Whether every layer can drop rows. A subclass counts as no, as it may hold more than keys."""
    layers = getattr(cache, "layers", ())
    return bool(layers) and all(type(layer) in ROW_LAYERS for layer in layers)


def _make_room(cache: Any) -> None:
    """Give room to the layers that grow. Layers with a sliding window drop old tokens instead."""
    for index, layer in enumerate(cache.layers):
        if type(layer) is DynamicLayer and layer.get_seq_length():
            cache.layers[index] = RoomyLayer(layer)


@contextmanager
def compacting(model: Any) -> Iterator[None]:
    """Let `model.generate` drop finished rows inside the block, for callers such as TRL."""
    own = model.generate
    model.generate = partial(generate_compacting, model, generate=own)
    try:
        yield
    finally:
        # This is the instance's attribute only: the method of the class is visible again.
        del model.generate

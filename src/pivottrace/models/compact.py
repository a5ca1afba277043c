"""Generation in which ended rows leave, so that a few long responses do not make all others wait.

`generate` of transformers decodes every row of a batch until the last one ends, so that short
responses cost as much as the longest. Here the batch is decoded in spells of a few tokens. Between
two spells, a waiting prompt takes the place of an ended row. If none waits, the row leaves the
batch with its cache. A prompt of several rows that begin together is read once. And the cache of
transformers copies all keys and values for every token. Here it has room for the next tokens.
Figures: bench/generation.py.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.nn.functional import pad
from transformers import StoppingCriteria
from transformers.cache_utils import DynamicCache
from transformers.integrations import is_deepspeed_zero3_enabled, is_fsdp_managed_module

from pivottrace.attention.engine import current_tracer
from pivottrace.models.cache_layers import can_drop_rows, can_refill, make_room
from pivottrace.models.drawing import quick_drawing

# Tokens between two looks for ended rows, at most; a spell costs a few milliseconds of its own.
SPELL = 24
# A spell is over when this share of its rows has ended.
ENOUGH = 1 / 8
# Multiplications per decoded token (rows times weights) below which one thread is as fast as two:
# threads wait for one another after each operation, and these are then over in some 0.1 ms. Beside
# other work that waiting is what takes long (figures: docs/training-runs.md).
ONE_THREAD_BELOW = 200_000_000

# Settings of `generate` that count tokens from its call on, or the tokens of the prompt too.
OF_WHOLE_RESPONSES = (
    "min_length",
    "min_new_tokens",
    "begin_suppress_tokens",
    "forced_eos_token_id",
    "exponential_decay_length_penalty",
)
# Numbered prompts.
Waiting = deque[tuple[int, Sequence[int]]]


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
    Samples are drawn from the same distribution, by other random numbers (`drawing`, `_read_once`).

    Two kinds of calls are decoded as one whole, without spells. One kind has stop strings, because
    a stop string may end a row without a trace in its tokens. The other kind has a model whose
    cache cannot give up rows, for example because it holds a recurrent state.

    Args:
        model: A causal language model.
        input_ids: (B, S) prompts, padded on the left.
        attention_mask: (B, S), 0 on the padding.
        generation_config: Needs `max_new_tokens`, `eos_token_id` and `pad_token_id`.
        spell: Tokens per spell, at most.
        generate: The model's own `generate`; by default `model.generate`.
        **more: Further arguments of `generate`.

    Returns:
        (B, S + T) prompts and responses, padded on the right after their end. T is the length of
        the longest response.
    """
    own = partial(generate or model.generate, **more)
    batch = _Batch.of(input_ids, attention_mask, generation_config.pad_token_id)
    if not _has_spells(model, generation_config, spell):
        return _whole(own, batch, generation_config)
    width = input_ids.size(1)
    # (B, S + limit) prompts and responses; columns after a response stay padding.
    done = input_ids.new_full(
        (input_ids.size(0), width + generation_config.max_new_tokens),
        generation_config.pad_token_id,
    )
    done[:, :width] = input_ids
    reached = width
    for row, response in _decode(model, own, batch, generation_config, spell, deque()):
        done[row, width : width + response.numel()] = response
        reached = max(reached, width + response.numel())
    return done[:, :reached]


def generate_refilling(
    model: Any,
    prompts: Sequence[Sequence[int]],
    generation_config: Any,
    *,
    places: int,
    spell: int = SPELL,
    **more: Any,
) -> Iterator[tuple[int, list[int]]]:
    """Respond to any number of prompts, `places` of them at a time.

    A prompt that waits takes the place of a response that has ended. If `generate_compacting` would
    decode as a whole, or if a layer has a sliding window, the prompts go batch after batch.

    Args:
        model: A causal language model.
        prompts: N prompts. The sooner like lengths follow one another, the less is padded.
        generation_config: As for `generate_compacting`.
        places: Rows of a batch.
        spell: Tokens per spell, at most.
        **more: Further arguments of `generate`.

    Yields:
        The index of a prompt, and the tokens of its response, as responses end. Whatever follows an
        end token means nothing.
    """
    own, pad_id = partial(model.generate, **more), generation_config.pad_token_id
    waiting: Waiting = deque(enumerate(prompts))
    refills = _has_spells(model, generation_config, spell) and can_refill(model)
    while waiting:
        batch = _next_batch(waiting, places, pad_id, model.device)
        if refills:
            for row, tokens in _decode(model, own, batch, generation_config, spell, waiting):
                yield row, tokens.tolist()
        else:
            output = generate_compacting(
                model, batch.ids, batch.mask, generation_config, spell=spell, **more
            )
            responses = output[:, batch.ids.size(1) :].tolist()
            yield from zip(batch.rows.tolist(), responses, strict=True)


@dataclass
class _Batch:
    """B rows that are being decoded, W tokens wide.

    Attributes:
        ids: (B, W) tokens, padded on the left.
        mask: (B, W), 0 on the padding.
        rows: (B,) the number of the prompt in each row.
        begins: (B,) the column in which each row's response begins.
        ended: (B,) whether a row has ended.
        pad_id: The token of the padding.
        cache: Keys and values of all columns but the last; None before the prompts are read.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    rows: torch.Tensor
    begins: torch.Tensor
    ended: torch.Tensor
    pad_id: int
    cache: Any = None

    @classmethod
    def of(cls, ids: torch.Tensor, mask: torch.Tensor, pad_id: int) -> _Batch:
        """Prompts (B, S) before their first token."""
        begins = ids.new_full((ids.size(0),), ids.size(1))
        return cls(ids, mask, torch.arange(ids.size(0)), begins, begins < 0, pad_id)

    def advance(self, sequences: torch.Tensor, ends: torch.Tensor, limit: int) -> None:
        """Take over the tokens of a spell: (B, W + T)."""
        new = sequences[:, self.ids.size(1) :]
        self.ids, self.mask = sequences, torch.cat([self.mask, torch.ones_like(new)], dim=1)
        self.ended = self.ended | torch.isin(new, ends).any(dim=1)
        self.ended |= self.ids.size(1) - self.begins >= limit

    def keep(self, kept: torch.Tensor) -> None:
        """Drop all rows but these (K,)."""
        self.rows = self.rows[kept.cpu()]
        self.ids, self.mask, self.begins, self.ended = (
            each[kept] for each in (self.ids, self.mask, self.begins, self.ended)
        )
        self.cache.batch_select_indices(kept)

    def fill(self, places: torch.Tensor, new: _Batch) -> None:
        """Put the rows of another batch at these places (K,)."""
        more = new.ids.size(1) - self.ids.size(1)
        if more > 0:
            self.set_width(new.ids.size(1))
        start = self.ids.size(1) - new.ids.size(1)
        # Rules such as no_repeat_ngram_size read all ids of a row, so the old ones must go too.
        self.ids[places, :start], self.mask[places, :start] = self.pad_id, 0
        self.ids[places, start:], self.mask[places, start:] = new.ids, new.mask
        self.rows[places.cpu()] = new.rows
        self.begins[places] = start + new.begins
        self.ended[places] = new.ended
        for layer, of_new in zip(self.cache.layers, new.cache.layers, strict=True):
            layer.fill(places, of_new)

    def trim(self) -> None:
        """Drop the first columns if no row uses them any more."""
        unused = int(self.mask.any(dim=0).int().argmax()) if self.rows.numel() else 0
        if unused:
            self.set_width(self.ids.size(1) - unused)

    def set_width(self, width: int) -> None:
        """Drop the first columns, or put padding before them."""
        more = width - self.ids.size(1)
        self.ids = pad(self.ids, (more, 0), value=self.pad_id)
        self.mask = pad(self.mask, (more, 0))
        self.begins = self.begins + more
        for layer in self.cache.layers:
            layer.set_width(width - 1)


class _Enough(StoppingCriteria):
    """Ends a spell when enough of its rows have ended."""

    def __init__(self, batch: _Batch, ends: torch.Tensor) -> None:
        self._ended, self._ends = batch.ended.clone(), ends

    def __call__(self, input_ids: torch.Tensor, scores: Any, **more: Any) -> torch.Tensor:
        """(B,) True for all rows or for none."""
        self._ended |= torch.isin(input_ids[:, -1], self._ends)
        return (self._ended.float().mean() >= ENOUGH).expand_as(self._ended)


def _decode(
    model: Any,
    generate: Any,
    batch: _Batch,
    generation_config: Any,
    spell: int,
    waiting: Waiting,
) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield the number of each prompt and its response (T,), as responses end.

    Prompts that wait are taken as places fall free. All are taken, unless the model decodes as a
    whole after all: then the batch alone.
    """
    limit, pad_id = generation_config.max_new_tokens, generation_config.pad_token_id
    ends = torch.tensor(generation_config.eos_token_id, device=batch.ids.device).flatten()
    tracer, refills = current_tracer(), bool(waiting)
    while batch.rows.numel():
        left = limit - int((batch.ids.size(1) - batch.begins).max())
        with _threads_for(model, batch.rows.numel()):
            output = _spell(model, generate, batch, generation_config, min(spell, left), ends)
        if not can_drop_rows(output.past_key_values):  # the model has chosen another cache
            output = _whole(generate, batch, generation_config)
            yield from zip(batch.rows.tolist(), output[:, batch.ids.size(1) :], strict=True)
            return
        batch.cache = output.past_key_values
        make_room(batch.cache)
        batch.advance(output.sequences, ends, limit)
        gone = batch.ended.nonzero()[:, 0]
        for place in gone.tolist():
            yield int(batch.rows[place]), batch.ids[place, batch.begins[place] :]
        if waiting and gone.numel():
            new = _next_batch(waiting, gone.numel(), pad_id, batch.ids.device)
            first = _spell(model, generate, new, generation_config, 1, ends)
            new.cache = first.past_key_values
            new.advance(first.sequences, ends, limit)
            entered, gone = gone[: new.rows.numel()], gone[new.rows.numel() :]
            batch.fill(entered, new)
        if gone.numel():
            stays = torch.ones_like(batch.ended)
            stays[gone] = False
            kept = stays.nonzero()[:, 0]
            batch.keep(kept)
            if tracer is not None:
                tracer.select_rows(kept)
        if refills:
            batch.trim()


def _spell(
    model: Any,
    generate: Any,
    batch: _Batch,
    generation_config: Any,
    num_tokens: int,
    ends: torch.Tensor,
) -> Any:
    """Generate some tokens more for every row."""
    if batch.cache is None:
        batch.cache = _read_once(model, generate, batch, generation_config)
    return generate(
        input_ids=batch.ids,
        attention_mask=batch.mask,
        past_key_values=batch.cache,
        generation_config=_settings_of_spell(generation_config, num_tokens),
        stopping_criteria=[_Enough(batch, ends)],
        **quick_drawing(model),
    )


def _read_once(model: Any, generate: Any, batch: _Batch, generation_config: Any) -> Any:
    """The cache of all prompt tokens but the last, if rows share their prompts, else None.

    Each prompt is read once, and its keys and values are copied to its rows. The token that
    `generate` adds is not used.
    """
    prompts, row_of = torch.cat([batch.ids, batch.mask], dim=1).unique(dim=0, return_inverse=True)
    ids, mask = prompts.chunk(2, dim=1)
    few = 2 * len(ids) <= len(batch.ids)  # else the further call costs what it saves
    if not few or mask.sum(dim=1).min() < 2 or current_tracer() is not None:
        return None
    cache = generate(
        input_ids=ids[:, :-1],
        attention_mask=mask[:, :-1],
        generation_config=_settings_of_spell(generation_config, 1),
        **quick_drawing(model),  # it takes numbers that are not finite too
    ).past_key_values
    if not can_drop_rows(cache):
        return None
    cache.batch_select_indices(row_of)
    make_room(cache)
    return cache


def _settings_of_spell(generation_config: Any, num_tokens: int) -> Any:
    settings = copy.copy(generation_config)
    settings.return_dict_in_generate, settings.max_new_tokens = True, num_tokens
    return settings


def _whole(generate: Any, batch: _Batch, generation_config: Any) -> torch.Tensor:
    """Generate without spells."""
    output: torch.Tensor = generate(
        input_ids=batch.ids, attention_mask=batch.mask, generation_config=generation_config
    )
    return output


def _next_batch(waiting: Waiting, places: int, pad_id: int, device: torch.device) -> _Batch:
    """The prompts that wait longest, at most `places`, padded on the left."""
    taken = [waiting.popleft() for _ in range(min(places, len(waiting)))]
    width = max(len(prompt) for _, prompt in taken)
    ids = torch.full((len(taken), width), pad_id)
    mask = torch.zeros_like(ids)
    for place, (_, prompt) in enumerate(taken):
        ids[place, width - len(prompt) :] = torch.tensor(list(prompt))
        mask[place, width - len(prompt) :] = 1
    batch = _Batch.of(ids.to(device), mask.to(device), pad_id)
    batch.rows = torch.tensor([row for row, _ in taken])
    return batch


def _has_spells(model: Any, generation_config: Any, spell: int) -> bool:
    """Whether rows may leave before the last one has ended."""
    limit, tracer = generation_config.max_new_tokens, current_tracer()
    if limit is None or limit <= spell or generation_config.stop_strings:
        return False
    if generation_config.eos_token_id is None or generation_config.pad_token_id is None:
        return False
    if any(_setting(model, generation_config, name) for name in OF_WHOLE_RESPONSES):
        return False
    if is_deepspeed_zero3_enabled() or is_fsdp_managed_module(model):
        return False  # all processes must take the same steps
    # We test the cache before the first spell, so that no token is traced twice.
    return tracer is None or can_drop_rows(DynamicCache(config=model.config))


def _setting(model: Any, generation_config: Any, name: str) -> Any:
    """A setting of `generate`, which the model's own configuration fills in."""
    given = getattr(generation_config, name, None)
    return getattr(model.generation_config, name, None) if given is None else given


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


@contextmanager
def compacting(model: Any, sampler: Any = None) -> Iterator[None]:
    """Let `model.generate` drop finished rows inside the block, for callers such as TRL.

    Args:
        model: A causal language model.
        sampler: The model that generates in its place, for instance a copy of it; None is itself.
    """
    sampler = model if sampler is None else sampler
    model.generate = partial(generate_compacting, sampler, generate=sampler.generate)
    try:
        yield
    finally:
        # This is the instance's attribute only: the method of the class is visible again.
        del model.generate

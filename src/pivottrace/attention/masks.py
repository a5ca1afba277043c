"""Descriptions of a model's attention mask, without a T x T tensor.

`transformers` asks a mask function for the mask once per forward and hands the answer to every
layer. Ours answers with a small tensor of (B, 1, 1, S) integers, which holds the number of a
`MaskSpec` at real keys. The values carry the number, because hooks may move or copy the tensor on
its way to a layer. It has four dimensions, because `generate` hands it to the model, which takes
such a mask unchanged.

Axes: B batch, S keys, n queries, R runs of a row. Without a cache the queries are the keys.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from transformers import masking_utils
from transformers.masking_utils import causal_mask_function, prepare_padding_mask, sdpa_mask

Runs = tuple[tuple[tuple[int, int], ...], ...]

# Before transformers 5.23 the chunks of a packed row (Llama 4) are counted from the row's start.
CHUNKS_PACK = hasattr(masking_utils, "packed_sequence_compatibility_function")


@dataclass(frozen=True)
class MaskSpec:
    """One mask of one forward.

    Attributes:
        key_valid: (B, S) True at real tokens.
        rows: `rows(start, stop)` is the mask of these queries, (B, 1 or H, n, S). It is boolean
            with True for "sees", or a float to add to the scores.
        runs: For each row of the batch its sequences, (first, last + 1) each. A row that is one
            sequence has one, a packed row has several. The mask is plain causal inside each
            sequence, and no token sees another sequence. None for any other mask, or with a cache.
        sequence_ids: (B, S) number of the sequence of its row that a key belongs to, from 1; 0 at
            padding. None if the mask cannot tell, because its own borders look like the borders of
            sequences.
        first_query: Key at which the first query stands; above 0 with a cache.
        first_key: Position in the sequence of key 0; above 0 if a cache has dropped keys.
        sees_all_before: Whether there is one query that sees every real key up to itself.
    """

    key_valid: torch.Tensor
    rows: Callable[[int, int], torch.Tensor]
    runs: Runs | None = None
    sequence_ids: torch.Tensor | None = None
    first_query: int = 0
    first_key: int = 0
    sees_all_before: bool = False

    @cached_property
    def bias(self) -> torch.Tensor | None:
        """(B, 1, 1, S) float32 to add to a single query's scores; None if every key is real."""
        if bool(self.key_valid.all()):
            return None
        bias = torch.zeros(self.key_valid.shape, device=self.key_valid.device)
        return bias.masked_fill_(~self.key_valid, -torch.inf)[:, None, None]


def describe_mask(arguments: dict[str, Any]) -> MaskSpec:
    """Build a `MaskSpec` from the arguments that `transformers` passes to a mask function."""
    batch, keys = arguments["batch_size"], arguments["kv_length"]
    queries = arguments["q_length"]
    query_offset, key_offset = (int(arguments.get(n, 0)) for n in ("q_offset", "kv_offset"))
    device = arguments.get("device", "cpu")
    padding = prepare_padding_mask(arguments.get("attention_mask"), keys, key_offset)
    first_query = query_offset - key_offset
    if padding is None:
        key_valid = torch.ones(batch, keys, dtype=torch.bool, device=device)
    else:
        # The padding covers dropped keys too.
        kept = padding[:, key_offset : key_offset + keys]
        key_valid = kept.to(device=device, dtype=torch.bool)
    if first_query + queries < keys:  # a static cache has room for later tokens
        key_valid = key_valid & (torch.arange(keys, device=device) < first_query + queries)

    def rows(start: int, stop: int) -> torch.Tensor:
        part = {**arguments, "q_length": stop - start, "q_offset": query_offset + start}
        part |= {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}
        return sdpa_mask(**part)

    local_size = arguments.get("local_size")
    bidirectional = arguments.get("allow_is_bidirectional_skip", False)
    # The conditions under which `sdpa_mask` relies on `is_causal`, padding apart.
    is_causal = arguments.get("mask_function", causal_mask_function) is causal_mask_function
    is_causal |= arguments.get("allow_is_causal_skip", True) and (
        local_size is None or keys + key_offset < local_size
    )
    is_causal &= not bidirectional
    ids = key_valid.long()
    if queries < keys or first_query:
        sees_all = is_causal and queries == 1 and not key_offset
        return MaskSpec(key_valid, rows, None, ids, first_query, key_offset, sees_all)
    if is_causal:
        return MaskSpec(key_valid, rows, _single_runs(key_valid), ids)
    if bidirectional or arguments.get("use_vmap", False):
        return MaskSpec(key_valid, rows, None, ids)
    if _is_chunked(arguments):
        return MaskSpec(key_valid, rows, None, None)
    runs, ids = _packed(arguments["mask_function"], key_valid)
    return MaskSpec(key_valid, rows, runs, ids)


def dense_mask(mask: torch.Tensor) -> MaskSpec:
    """Wrap a ready-made (B, 1 or H, n, S) mask, boolean or additive, of the last n keys."""
    sees = mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2
    first_query = mask.shape[-1] - mask.shape[-2]
    key_valid = sees.any(dim=1).any(dim=1)
    return MaskSpec(
        key_valid,
        lambda start, stop: mask[:, :, start:stop],
        sequence_ids=key_valid.long(),
        first_query=first_query,
    )


def causal_mask(batch: int, queries: int, keys: int, device: torch.device) -> MaskSpec:
    """Describe plain causal attention without padding, for layers that get no mask."""
    return describe_mask(
        {"batch_size": batch, "q_length": queries, "kv_length": keys}
        | {"q_offset": keys - queries, "device": device}
    )


def _is_chunked(arguments: dict[str, Any]) -> bool:
    """Whether a mask has borders of its own (Llama 4), not only the borders of packed sequences."""
    local_size = arguments.get("local_size")
    if local_size is None:
        return False
    chunk = getattr(arguments.get("config"), "attention_chunk_size", None)
    return local_size < 2 or local_size == chunk


def _single_runs(key_valid: torch.Tensor) -> Runs | None:
    """Find each row's (first, last + 1) real token; None if padding lies in between."""
    length = key_valid.shape[1]
    count = key_valid.sum(dim=-1)
    first = key_valid.int().argmax(dim=-1)
    last = length - 1 - key_valid.flip(-1).int().argmax(dim=-1)
    if bool(((count > 0) & (last - first + 1 != count)).any()):
        return None
    pairs = zip(first.tolist(), count.tolist(), strict=True)
    return tuple(((start, start + n),) if n else () for start, n in pairs)


def _packed(
    mask_function: Callable[..., torch.Tensor], key_valid: torch.Tensor
) -> tuple[Runs | None, torch.Tensor]:
    """Find the sequences of packed rows, and their runs if the mask is causal inside each.

    A mask function answers for single (query, key) pairs, so this costs O(T). A sequence goes on at
    a token that sees the token before it. It is a run under three conditions: its last token sees
    its first, its first does not see the row's first, and no token sees the next one.
    """
    batch, length = key_valid.shape
    row_ids = torch.arange(batch, device=key_valid.device)[:, None]
    tokens = torch.arange(length, device=key_valid.device)[None]

    def sees(row: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        answer = mask_function(row, torch.zeros_like(query), query, key)
        return answer.expand(torch.broadcast_shapes(row.shape, query.shape))

    # (B, T) True at tokens where the mask itself begins anew. Padding inside a sequence does not
    # end it.
    begins = ~sees(row_ids, tokens, (tokens - 1).clamp(min=0)) & (tokens > 0)
    ids = (begins.long().cumsum(dim=1) + 1) * key_valid
    # First and last token of each piece, as (row, position) pairs in the same order.
    goes_on = key_valid & F.pad(ids[:, 1:] == ids[:, :-1], (1, 0))
    starts = key_valid & ~goes_on
    ends = key_valid & ~F.pad(goes_on[:, 1:], (0, 1))
    row, first = starts.nonzero().unbind(dim=1)
    last = ends.nonzero()[:, 1]
    has_holes = len(torch.stack([row, ids[row, first]], dim=1).unique(dim=0)) < len(row)
    # The three conditions: no token sees the next one, no run sees the row's first, each is whole.
    ahead = sees(row_ids, tokens, (tokens + 1).clamp(max=length - 1))
    ahead = ahead & key_valid & key_valid.roll(-1, dims=1) & (tokens < length - 1)
    row_first = key_valid.int().argmax(dim=1)[row]
    leaks = sees(row, first, row_first) & (first != row_first)
    is_whole = not has_holes and bool(sees(row, last, first).all())
    if bool(ahead.any()) or bool(leaks.any()) or not is_whole:
        return None, ids
    runs: list[list[tuple[int, int]]] = [[] for _ in range(batch)]
    for index, start, end in zip(row.tolist(), first.tolist(), last.tolist(), strict=True):
        runs[index].append((start, end + 1))
    return tuple(map(tuple, runs)), ids

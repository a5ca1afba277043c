"""What a model's attention mask says, without a T x T tensor.

`transformers` asks a mask function for the mask once a forward and hands the answer to every layer.
Ours answers with a small tensor: (B, S) integers, the number of a `MaskSpec` in every entry. The
number travels in the values because hooks may move or copy the tensor on its way to a layer.

Axes: B batch, S keys, n queries, R runs of a row. Without a cache the queries are the keys.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from transformers.masking_utils import causal_mask_function, prepare_padding_mask, sdpa_mask


@dataclass(frozen=True)
class MaskSpec:
    """One mask of one forward.

    Attributes:
        key_valid: (B, S) True at real tokens.
        runs: For each sequence of the batch its runs of tokens, (first, last + 1) each, where the
            mask is plain causal inside each run and lets nothing be seen of another; one run where
            a row is one sequence, several where it is packed. None where the mask is anything
            else, or where there is a cache.
        rows: `rows(start, stop)` is the mask of these queries, (B, 1 or H, n, S): boolean with True
            for "sees", or a float to add to the scores.
        first_query: Key that the first query stands at; above 0 where there is a cache.
        first_key: Position in the sequence of key 0; above 0 where a cache has dropped keys.
        sees_all_before: There is one query, and it sees every real key up to itself.
    """

    key_valid: torch.Tensor
    runs: tuple[tuple[tuple[int, int], ...], ...] | None
    rows: Callable[[int, int], torch.Tensor]
    first_query: int = 0
    first_key: int = 0
    sees_all_before: bool = False

    @cached_property
    def run_ids(self) -> torch.Tensor:
        """(B, S) which run a key belongs to, from 1; 0 at padding."""
        if self.runs is None or all(len(row) < 2 for row in self.runs):
            return self.key_valid.long()
        ids = torch.zeros_like(self.key_valid, dtype=torch.long)
        for row, runs in enumerate(self.runs):
            for number, (start, stop) in enumerate(runs, start=1):
                ids[row, start:stop] = number
        return ids


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
        key_valid = padding[:, :keys].to(device=device, dtype=torch.bool)
    if first_query + queries < keys:  # a static cache has room for what is still to come
        key_valid = key_valid & (torch.arange(keys, device=device) < first_query + queries)

    def rows(start: int, stop: int) -> torch.Tensor:
        part = {**arguments, "q_length": stop - start, "q_offset": query_offset + start}
        part |= {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}
        return sdpa_mask(**part)

    local_size = arguments.get("local_size")
    short = local_size is None or keys + key_offset < local_size
    is_causal = arguments.get("mask_function", causal_mask_function) is causal_mask_function
    bidirectional = arguments.get("allow_is_bidirectional_skip", False)
    if queries < keys or first_query:
        plain = not bidirectional and queries == 1 and not key_offset
        sees_all = plain and (is_causal or (short and _skips(arguments)))
        return MaskSpec(key_valid, None, rows, first_query, key_offset, sees_all)
    runs = None
    if not bidirectional:
        if is_causal or (short and _skips(arguments)):
            runs = _single_runs(key_valid)
        elif not arguments.get("use_vmap", False):
            runs = _packed_runs(arguments["mask_function"], key_valid)
    return MaskSpec(key_valid, runs, rows)


def dense_mask(mask: torch.Tensor) -> MaskSpec:
    """Wrap a ready-made (B, 1 or H, n, S) mask, boolean or additive; the queries end the keys."""
    sees = mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2
    first_query = mask.shape[-1] - mask.shape[-2]
    key_valid = sees.any(dim=1).any(dim=1)
    return MaskSpec(key_valid, None, lambda start, stop: mask[:, :, start:stop], first_query)


def causal_mask(batch: int, queries: int, keys: int, device: torch.device) -> MaskSpec:
    """Describe plain causal attention without padding, for layers that get no mask."""
    return describe_mask(
        {"batch_size": batch, "q_length": queries, "kv_length": keys}
        | {"q_offset": keys - queries, "device": device}
    )


def _skips(arguments: dict[str, Any]) -> bool:
    """Whether `transformers` itself would say that the mask is causal, padding apart."""
    return bool(arguments.get("allow_is_causal_skip", True))


def _single_runs(key_valid: torch.Tensor) -> tuple[tuple[tuple[int, int], ...], ...] | None:
    """Each row's (first, last + 1) real token; None if padding lies in between."""
    length = key_valid.shape[1]
    count = key_valid.sum(dim=-1)
    first = key_valid.int().argmax(dim=-1)
    last = length - 1 - key_valid.flip(-1).int().argmax(dim=-1)
    if bool(((count > 0) & (last - first + 1 != count)).any()):
        return None
    pairs = zip(first.tolist(), count.tolist(), strict=True)
    return tuple(((start, start + n),) if n else () for start, n in pairs)


def _packed_runs(
    mask_function: Callable[..., torch.Tensor], key_valid: torch.Tensor
) -> tuple[tuple[tuple[int, int], ...], ...] | None:
    """The runs of a block-causal mask (packed sequences, chunked attention); None if it is not one.

    A mask function is asked about single (query, key) pairs, so this costs O(T): a run goes on
    where a token sees the one before it; its last token must see its first, its first must not see
    the row's first run, and nothing may see the next token.
    """
    batch, length = key_valid.shape
    device = key_valid.device
    rows = torch.arange(batch, device=device)[:, None]
    tokens = torch.arange(length, device=device)[None]

    def sees(row: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        head = torch.zeros_like(query)
        return mask_function(row, head, query, key).expand(torch.broadcast_shapes(
            row.shape, query.shape
        ))  # fmt: skip

    after = (tokens + 1).clamp(max=length - 1)
    both_valid = key_valid & key_valid.roll(-1, dims=1)
    if bool((sees(rows, tokens, after) & both_valid)[:, : length - 1].any()):
        return None
    goes_on = sees(rows, tokens, (tokens - 1).clamp(min=0)) & key_valid & key_valid.roll(1, dims=1)
    goes_on[:, 0] = False
    starts = (key_valid & ~goes_on).nonzero()  # (R, 2) of (row, first)
    ends_here = key_valid & ~torch.cat([goes_on[:, 1:], goes_on[:, :1] & False], dim=1)
    ends = ends_here.nonzero()
    if not torch.equal(starts[:, 0], ends[:, 0]):
        return None
    row, first, last = starts[:, 0], starts[:, 1], ends[:, 1]
    row_first = key_valid.int().argmax(dim=1)[row]
    whole = sees(row, last, first)
    leaks = sees(row, first, row_first) & (first != row_first)
    if not bool(whole.all()) or bool(leaks.any()):
        return None
    runs: list[list[tuple[int, int]]] = [[] for _ in range(batch)]
    for index, start, stop in zip(row.tolist(), first.tolist(), last.tolist(), strict=True):
        runs[index].append((start, stop + 1))
    return tuple(tuple(one) for one in runs)

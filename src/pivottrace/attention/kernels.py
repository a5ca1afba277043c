"""Two ways to attend that keep the input of the statistics: a fused kernel, exact rows in chunks.

Axes: B batch, H query heads, K key heads (H = K * groups), T tokens, S keys, n queries, D head
width, E value width.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F

from pivottrace.attention.masks import MaskSpec
from pivottrace.attention.reading import QUERY_BLOCK

# The greatest number of scores that the chunked path holds at once (256 MiB in float32), and of
# queries. A CPU is fastest with few, which fit its cache. A GPU is fastest with many, because each
# operation costs a launch, but not with so many that they see every key.
MAX_CHUNK_SCORES = 1 << 26
MAX_CHUNK_QUERIES = {"cpu": QUERY_BLOCK, "cuda": 512}

HALF = (torch.bfloat16, torch.float16)
FUSED_DTYPES = {"cpu": (torch.float32, torch.float64, *HALF), "cuda": (torch.float32, *HALF)}


@dataclass(frozen=True)
class ScoreRule:
    """The way a layer turns q . k into attention, apart from its mask.

    Attributes:
        scaling: Factor on the scores.
        softcap: Scores become `softcap * tanh(score / softcap)` (Gemma 2). None for no cap.
        learned_sinks: (H,) score of a key that is not in any sequence and has no value (gpt-oss).
            None for no such key.
    """

    scaling: float
    softcap: float | None = None
    learned_sinks: torch.Tensor | None = None


def why_not_fused(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: MaskSpec, rule: ScoreRule
) -> str | None:
    """Say why the fused kernel cannot serve this layer, or None if it can."""
    if rule.softcap is not None:
        return "soft-capped scores"
    if rule.learned_sinks is not None:
        return "learned sinks"
    if mask.runs is None and not mask.sees_all_before:
        return "a mask other than causal with padding at the ends"
    if value.shape[-1] > key.shape[-1]:
        return "values wider than keys"
    if query.device.type not in FUSED_DTYPES:
        return f"no fused kernel that returns the log-sum-exp is wired up on {query.device.type}"
    if query.dtype not in FUSED_DTYPES[query.device.type]:
        return f"data type {query.dtype}"
    return None


def fused_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: MaskSpec,
    rule: ScoreRule,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attend with the device's flash kernel, which returns each row's log-sum-exp.

    Each run of tokens is sliced out of its padding or pack. So the kernel's own causal flag
    suffices, padding costs nothing, and the rest of the batch does not influence a sequence. (The
    CPU kernel refuses boolean masks, and gives a fully masked row LSE 0.)

    Args:
        query: (B, H, T, D), or (B, H, 1, D) if the mask `sees_all_before`.
        key: (B, K, S, D).
        value: (B, K, S, E), E <= D.
        mask: A mask that has `runs`, or that sees all keys before a single query.
        rule: Only its scaling is used.

    Returns:
        (B, T, H, E) output, 0 at padding, and (B, H, T) log-sum-exp, float32 at least.
    """
    width = value.shape[-1]
    if width < key.shape[-1]:  # latent attention: the kernels want values as wide as keys
        value = F.pad(value, (0, key.shape[-1] - width))
    flash = _KERNELS[query.device.type]
    batch, heads, length, _ = query.shape
    if mask.runs is None:
        bias = None if mask.bias is None else mask.bias.to(query.dtype)
        output, lse = flash(query, key, value, False, rule.scaling, bias)
        return output.transpose(1, 2)[..., :width], lse
    if all(row == ((0, length),) for row in mask.runs):
        output, lse = flash(query, key, value, True, rule.scaling, None)
        return output.transpose(1, 2)[..., :width], lse
    output = query.new_zeros(batch, length, heads, width)
    lse = torch.zeros(
        batch,
        heads,
        length,
        dtype=torch.promote_types(query.dtype, torch.float32),
        device=query.device,
    )
    # Attend run by run: (1, H, run, D) queries in, (run, H, E) outputs back in place.
    for row, runs in enumerate(mask.runs):
        for start, stop in runs:
            part = (slice(row, row + 1), slice(None), slice(start, stop))
            run_output, run_lse = flash(
                query[part], key[part], value[part], True, rule.scaling, None
            )
            output[row, start:stop] = run_output[0].transpose(0, 1)[..., :width]
            lse[row, :, start:stop] = run_lse[0]
    return output, lse


def chunked_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: MaskSpec,
    rule: ScoreRule,
    read: Callable[[int, int, torch.Tensor], None] | None,
) -> torch.Tensor:
    """Attend exactly in chunks of complete rows, with any mask, soft-capping and learned sinks.

    Memory is O(chunk * S) per head, and `MAX_CHUNK_SCORES` in total. Keys that no row of a chunk
    sees cost nothing, so work is O(T * (window + chunk)) under a sliding window. Softmax is in
    float32 at least. Rows that see no key give output 0, and rows of padding too.

    Args:
        query: (B, H, n, D).
        key: (B, K, S, D).
        value: (B, K, S, E).
        mask: Any mask.
        rule: How scores become attention.
        read: It is called with each chunk's first query (among the n), its first key and its (B, H,
            chunk, keys) rows. Keys before and after these weigh 0.

    Returns:
        (B, n, H, E) output.
    """
    batch, heads, count, width = query.shape
    length = key.shape[2]
    dtype = torch.promote_types(query.dtype, torch.float32)
    most = MAX_CHUNK_QUERIES.get(query.device.type, QUERY_BLOCK)
    chunk = max(1, min(most, MAX_CHUNK_SCORES // (batch * heads * length)))
    keys = key.to(dtype).transpose(-1, -2)
    # Masked keys weigh 0, but 0 * NaN is NaN. Values at padding become 0, so that padding cannot
    # spoil a sequence.
    values = value.masked_fill(~mask.key_valid[:, None, :, None], 0.0)
    real = mask.key_valid[:, mask.first_query : mask.first_query + count]

    output = query.new_zeros(batch, count, heads, value.shape[-1])
    for start, stop, low, high in _blocks(mask, count, length, chunk):
        # Scores and softmax of one chunk: (B, H, chunk, keys).
        seen, low, high = _visible(mask.rows(start, stop), low, high)
        block = query[:, :, start:stop].to(dtype) * rule.scaling
        scores = block.reshape(batch, key.shape[1], -1, width) @ keys[..., low:high]
        rows = _softmax_rows(scores.view(batch, heads, stop - start, -1), seen, rule)
        is_padding = ~real[:, None, start:stop, None]
        if bool(is_padding.any()):
            rows = rows.masked_fill(is_padding, 0.0)
        # Weighted values, (B, H, chunk, E), with grouped-query keys as they are.
        weights = rows.to(value.dtype).view(batch, key.shape[1], -1, high - low)
        attended = (weights @ values[:, :, low:high]).view(batch, heads, stop - start, -1)
        output[:, start:stop] = attended.transpose(1, 2)
        if read is not None:
            read(start, low, rows)
    return output


def _blocks(
    mask: MaskSpec, count: int, length: int, chunk: int
) -> Iterator[tuple[int, int, int, int]]:
    """Yield chunks of queries (first, last + 1), and of the keys that they might see.

    The sequences of a packed row are taken one by one, so that a NaN in one cannot reach another (0
    * NaN is NaN).
    """
    borders = [0, count]
    ids = mask.sequence_ids
    if ids is not None and len(ids) == 1 and count == length and int(ids.max()) > 1:
        borders = [0, *((ids[0, 1:] != ids[0, :-1]).nonzero()[:, 0] + 1).tolist(), count]
    for first, last in pairwise(borders):
        low, high = (first, last) if len(borders) > 2 else (0, length)
        for start in range(first, last, chunk):
            yield start, min(start + chunk, last), low, high


def _visible(rows: torch.Tensor, low: int, high: int) -> tuple[torch.Tensor, int, int]:
    """Cut (B, 1 or H, n, S) mask rows to the keys in low ... high - 1 that some row sees."""
    rows = rows[..., low:high]
    sees = rows if rows.dtype == torch.bool else rows > -torch.inf
    columns = sees.flatten(0, 2).any(dim=0).nonzero()
    if not columns.numel():
        return rows[..., :1], low, low + 1
    first, last = int(columns[0]), int(columns[-1]) + 1
    return rows[..., first:last], low + first, low + last


def _softmax_rows(scores: torch.Tensor, mask: torch.Tensor, rule: ScoreRule) -> torch.Tensor:
    """Return (B, H, n, S) attention of real keys, from scores that it may overwrite.

    Rows without any visible key are 0. Tensors that autograd still needs are not overwritten.
    """
    if rule.softcap is not None:
        scores = torch.tanh(scores / rule.softcap) * rule.softcap
    if mask.dtype == torch.bool:
        scores.masked_fill_(~mask, -torch.inf)
        sees_nothing = ~mask.any(dim=-1, keepdim=True)
    else:
        scores += mask
        sees_nothing = (mask == -torch.inf).all(dim=-1, keepdim=True)
    rows = scores.softmax(dim=-1)
    if rule.learned_sinks is not None:
        sink = rule.learned_sinks.to(scores.dtype).reshape(1, -1, 1, 1)
        rows = rows * (scores.logsumexp(dim=-1, keepdim=True) - sink).sigmoid()
    return rows.masked_fill(sees_nothing, 0.0) if bool(sees_nothing.any()) else rows


def _flash_cpu(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    is_causal: bool,
    scale: float,
    bias: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Call PyTorch's flash kernel for the CPU, which takes grouped-query keys; LSE is (B, H, n)."""
    output, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, is_causal=is_causal, attn_mask=bias, scale=scale
    )
    return output, lse


def _flash_cuda(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    is_causal: bool,
    scale: float,
    bias: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Call flash attention in half precision; memory-efficient for float32 or a bias."""
    batch, heads, count, width = query.shape
    keys = key.shape[2]
    # Both kernels read 16 bytes at once, so heads and rows of a bias must be multiples of that.
    query, key, value = (F.pad(x, (0, -width % 8)) if width % 8 else x for x in (query, key, value))
    is_flash = width <= 256 and torch.cuda.get_device_capability(query.device) >= (8, 0)
    if query.dtype in HALF and bias is None and is_flash:
        # This kernel takes (B, n, H, D), and grouped-query keys as they are.
        output, lse, *_ = torch.ops.aten._flash_attention_forward(
            *(x.transpose(1, 2) for x in (query, key, value)),
            None,
            None,
            count,
            keys,
            0.0,
            is_causal,
            False,
            scale=scale,
        )
        return output.transpose(1, 2)[..., :width], lse[:, :, :count]
    # This kernel has no grouped-query keys. With a single query per head, the heads of a group
    # serve as the queries of one key head. Several queries would meet the causal mask, so keys are
    # copied (float32 only).
    if count == 1:
        query = query.reshape(batch, key.shape[1], -1, query.shape[-1])
    else:
        groups = heads // key.shape[1]
        key, value = (x.repeat_interleave(groups, dim=1) for x in (key, value))
    if bias is not None:
        bias = F.pad(bias, (0, -keys % 8))[..., :keys].expand(*query.shape[:3], keys)
    output, lse, *_ = torch.ops.aten._scaled_dot_product_efficient_attention(
        query, key, value, bias, True, 0.0, is_causal, scale=scale
    )
    lse = lse[:, :, : query.shape[2]]  # the kernel pads its rows
    output = output[..., :width].reshape(batch, heads, count, width)
    return output, lse.reshape(batch, heads, count)


_KERNELS = {"cpu": _flash_cpu, "cuda": _flash_cuda}

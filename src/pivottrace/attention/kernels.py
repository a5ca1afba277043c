"""Two ways to attend and keep what the statistics need: a fused kernel, and exact rows in chunks.

Axes: B batch, H query heads, K key heads (H = K * groups), T tokens, D head width, E value width.
"""

from dataclasses import dataclass

import torch

from pivottrace.attention.masks import MaskSpec
from pivottrace.attention.statistics import (
    QUERY_BLOCK,
    LocalAttention,
    SignalSpec,
    local_attention,
    local_attention_from_rows,
    sink_positions,
)

# The greatest number of scores held at once by the chunked path (256 MiB in float32).
MAX_CHUNK_SCORES = 1 << 26

_FUSED_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class ScoreRule:
    """How a layer turns q . k into attention, beside its mask.

    Attributes:
        scaling: Factor on the scores.
        softcap: Scores become `softcap * tanh(score / softcap)` (Gemma 2), or None.
        learned_sinks: (H,) score of a key that exists in no sequence and has no value (gpt-oss), or
            None.
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
    if mask.spans is None:
        return "a mask other than causal with padding at the ends"
    if value.shape[-1] != key.shape[-1]:
        return "values of another width than keys"
    if query.device.type != "cpu":
        return f"no fused kernel that returns the log-sum-exp is wired up on {query.device.type}"
    if query.dtype not in _FUSED_DTYPES:
        return f"data type {query.dtype}"
    return None


def fused_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: MaskSpec,
    rule: ScoreRule,
    spec: SignalSpec,
) -> tuple[torch.Tensor, LocalAttention]:
    """Attend with PyTorch's flash kernel for the CPU, which returns each row's log-sum-exp.

    Each sequence is sliced out of its padding, so that the kernel's own causal flag serves (it
    refuses boolean masks, and gives a fully masked row LSE 0), padding costs nothing, and a
    sequence cannot feel what it is batched with.

    Args:
        query: (B, H, T, D).
        key: (B, K, T, D).
        value: (B, K, T, D).
        mask: A mask that has `spans`.
        rule: Scaling alone.
        spec: How far back from the diagonal to read, and how many sinks.

    Returns:
        (B, T, H, D) output, 0 at padding, and the attention near the diagonal.
    """
    batch, heads, length, _ = query.shape
    spans = mask.spans or ()
    flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    if all(span == (0, length) for span in spans):
        output, lse = flash(query, key, value, is_causal=True, scale=rule.scaling)
        output = output.transpose(1, 2)
    else:
        output = query.new_zeros(batch, length, heads, value.shape[-1])
        lse = torch.zeros(
            batch, heads, length, dtype=torch.promote_types(query.dtype, torch.float32)
        )
        for row, (start, stop) in enumerate(spans):
            part = (slice(row, row + 1), slice(None), slice(start, stop))
            if start < stop:
                row_output, row_lse = flash(
                    query[part], key[part], value[part], is_causal=True, scale=rule.scaling
                )
                output[row, start:stop] = row_output[0].transpose(0, 1)
                lse[row, :, start:stop] = row_lse[0]
    sinks = sink_positions(mask.key_valid, spec.num_sinks)
    local = local_attention(query, key, lse, rule.scaling, mask.key_valid, sinks, spec.width)
    return output, local


def chunked_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: MaskSpec,
    rule: ScoreRule,
    spec: SignalSpec,
) -> tuple[torch.Tensor, LocalAttention]:
    """Attend exactly, a chunk of complete rows at a time: any mask, soft-capping, learned sinks.

    Memory is O(chunk * T) a head, never T x T. Softmax is in float32 at least. Rows that see no
    key give output 0, as do rows of padding. Arguments and result as in `fused_attention`, value
    (B, K, T, E).
    """
    batch, heads, length, _ = query.shape
    dtype = torch.promote_types(query.dtype, torch.float32)
    chunk = max(1, min(QUERY_BLOCK, MAX_CHUNK_SCORES // (batch * heads * length)))
    sinks = sink_positions(mask.key_valid, spec.num_sinks)
    keys = key.to(dtype).transpose(-1, -2)
    # Masked keys weigh 0, but 0 * NaN is NaN: padding must not be able to spoil a sequence.
    values = value.masked_fill(~mask.key_valid[:, None, :, None], 0.0)

    output = query.new_zeros(batch, length, heads, value.shape[-1])
    parts: list[LocalAttention] = []
    for start in range(0, length, chunk):
        stop = min(start + chunk, length)
        grouped = (
            query[:, :, start:stop].to(dtype).reshape(batch, key.shape[1], -1, query.shape[-1])
        )
        scores = (grouped @ keys * rule.scaling).view(batch, heads, stop - start, length)
        rows = _softmax_rows(scores, mask.rows(start, stop), rule)
        rows = rows.masked_fill(~mask.key_valid[:, None, start:stop, None], 0.0)
        weights = rows.to(value.dtype).view(batch, key.shape[1], -1, length)
        attended = (weights @ values).view(batch, heads, stop - start, -1)
        output[:, start:stop] = attended.transpose(1, 2)
        parts.append(local_attention_from_rows(rows, start, sinks, spec.width))
    window, sink_mass, total = (torch.cat([part[i] for part in parts], dim=2) for i in range(3))
    return output, LocalAttention(window, sink_mass, total, sinks)


def _softmax_rows(scores: torch.Tensor, mask: torch.Tensor, rule: ScoreRule) -> torch.Tensor:
    """(B, H, n, T) attention of real keys; rows without any visible key are 0."""
    if rule.softcap is not None:
        scores = torch.tanh(scores / rule.softcap) * rule.softcap
    is_boolean = mask.dtype == torch.bool
    scores = scores.masked_fill(~mask, -torch.inf) if is_boolean else scores + mask
    log_sum_exp = scores.logsumexp(dim=-1, keepdim=True)
    if rule.learned_sinks is not None:
        sink = rule.learned_sinks.to(scores.dtype).reshape(1, -1, 1, 1)
        log_sum_exp = torch.logaddexp(log_sum_exp, sink)
    sees_nothing = log_sum_exp == -torch.inf
    return (scores - log_sum_exp).exp().masked_fill(sees_nothing, 0.0)

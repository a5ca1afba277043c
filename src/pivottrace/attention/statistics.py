"""Statistics of attention that need a band of the matrix, never the matrix.

Axes: B batch, H query heads, K key heads (H = K * groups), T tokens, W window width, S sinks, D
head width. `A[t, s]` is the share of its attention that row t gives to key s; distances in tokens.

Every fused kernel knows each row's log-sum-exp, and `A[t, s] = exp(q_t . k_s * scaling - LSE_t)`,
so the mass within W tokens of the diagonal costs O(T * W). It is computed in blocks: 64 queries
against their 64 + W - 1 keys are one small product, whose diagonal band is a strided view.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F

from pivottrace.errors import ConfigError

# Queries in one block of the band: DESIGN, "Attention: exact, and nearly free".
QUERY_BLOCK = 64


@dataclass(frozen=True)
class SignalSpec:
    """Which statistics to read.

    Attributes:
        window: D of far mass, tokens.
        waad_window: w of the windowed average attention distance, tokens.
        num_sinks: First real tokens of a sequence that count as sinks.
    """

    window: int = 10
    waad_window: int = 10
    num_sinks: int = 1

    @property
    def width(self) -> int:
        """How many keys back from the diagonal these statistics read."""
        return max(self.window, self.waad_window)

    def __post_init__(self) -> None:
        """Refuse windows below one token and a negative number of sinks."""
        if self.window < 1 or self.waad_window < 1 or self.num_sinks < 0:
            raise ConfigError(
                f"window={self.window} and waad_window={self.waad_window} must be at least 1 "
                f"token, and num_sinks={self.num_sinks} at least 0."
            )


class LayerSignals(NamedTuple):
    """One layer's (B, H, T) far mass in [0, 1] and WAAD in tokens; both 0 at padding."""

    far_mass: torch.Tensor
    waad: torch.Tensor


class LocalAttention(NamedTuple):
    """The part of the attention matrix that the statistics read.

    Attributes:
        window: (B, H, T, W) `A[t, t - d]` at index d; 0 where there is no such key.
        sinks: (B, H, T, S) `A[t, sink s]`, whatever its distance; 0 for a sink after t.
        total: (B, H, T) mass on real keys: 1, or less where the model has learned sinks; 0 in rows
            that see no key.
        sink_positions: (B, S) from `sink_positions`.
    """

    window: torch.Tensor
    sinks: torch.Tensor
    total: torch.Tensor
    sink_positions: torch.Tensor


def layer_signals(local: LocalAttention, spec: SignalSpec) -> LayerSignals:
    """Compute the statistics that `spec` asks for."""
    return LayerSignals(far_mass(local, spec.window), windowed_distance(local, spec.waad_window))


def sink_positions(key_valid: torch.Tensor, num_sinks: int) -> torch.Tensor:
    """Return the index of the first `num_sinks` real tokens of each sequence, left-padded or not.

    Args:
        key_valid: (B, T) True at real tokens, False at padding.
        num_sinks: How many leading tokens count as sinks, >= 0.

    Returns:
        (B, S) indices; T, which is after every query, where a sequence has fewer tokens than sinks.
    """
    batch, length = key_valid.shape
    positions = torch.arange(length, device=key_valid.device).expand(batch, length)
    ordered = positions.masked_fill(~key_valid, length).sort(dim=-1).values
    return F.pad(ordered[:, :num_sinks], (0, max(0, num_sinks - length)), value=length)


def local_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    log_sum_exp: torch.Tensor,
    scaling: float,
    key_valid: torch.Tensor,
    sinks: torch.Tensor,
    width: int,
) -> LocalAttention:
    """Read the band and the sink columns of plain causal attention off its log-sum-exp.

    Grouped-query keys are used as they are, and scores are float32 at least, as in the fused
    kernels.

    Args:
        query: (B, H, T, D), positions encoded.
        key: (B, K, T, D), positions encoded; K divides H.
        log_sum_exp: (B, H, T) natural log of each row's sum of exponentiated scores.
        scaling: Factor on the scores.
        key_valid: (B, T) True at real tokens; padding gets no mass, as key and as query.
        sinks: (B, S) from `sink_positions`.
        width: W >= 1, how many keys back from the diagonal to read, itself included.
    """
    batch, heads, length, _ = query.shape
    num_sinks = sinks.shape[1]
    dtype = torch.promote_types(query.dtype, torch.float32)
    window = torch.zeros(batch, heads, length, width, dtype=dtype, device=query.device)
    sink_mass = torch.zeros(batch, heads, length, num_sinks, dtype=dtype, device=query.device)

    in_window = _window_valid(key_valid, width)  # (B, T, W)
    queries = torch.arange(length, device=query.device)
    sees_sink = sinks[:, None, :] <= queries[:, None]  # (B, T, S)
    sees_sink = sees_sink & key_valid[:, :, None]
    sink_keys = _take_keys(key, sinks).to(dtype)  # (B, K, S, D)

    for start in range(0, length, QUERY_BLOCK):
        rows = slice(start, min(start + QUERY_BLOCK, length))
        block = query[:, :, rows].to(dtype) * scaling
        lse = log_sum_exp[:, :, rows, None].to(dtype)
        band = _band(_grouped_scores(block, _keys_before(key, rows, width).to(dtype)), width)
        window[:, :, rows] = _masked_exp(band - lse, in_window[:, None, rows])
        scores = _grouped_scores(block, sink_keys)
        sink_mass[:, :, rows] = _masked_exp(scores - lse, sees_sink[:, None, rows])
    total = key_valid[:, None].to(dtype).expand(batch, heads, length)
    return LocalAttention(window, sink_mass, total, sinks)


def local_attention_from_rows(
    rows: torch.Tensor, first_query: int, sinks: torch.Tensor, width: int
) -> LocalAttention:
    """Read the same quantities off complete rows of the matrix, for `n` consecutive queries.

    Args:
        rows: (B, H, n, T) attention of queries `first_query` to `first_query + n - 1`, masked.
        first_query: Position of the first row.
        sinks: (B, S) from `sink_positions`.
        width: W >= 1.
    """
    batch, heads, count, length = rows.shape
    queries = torch.arange(first_query, first_query + count, device=rows.device)
    keys = queries[:, None] - torch.arange(width, device=rows.device)  # (n, W)
    window = rows.gather(-1, keys.clamp(min=0).expand(batch, heads, count, width))
    columns = sinks.clamp(max=length - 1)[:, None, None, :].expand(batch, heads, count, -1)
    sees_sink = sinks[:, None, :] <= queries[:, None]
    return LocalAttention(
        window=window * (keys >= 0),
        sinks=rows.gather(-1, columns) * sees_sink[:, None],
        total=rows.sum(dim=-1),
        sink_positions=sinks,
    )


def far_mass(local: LocalAttention, window: int) -> torch.Tensor:
    """Share of each row's attention that goes further back than `window` tokens, sinks left out.

    `F_t = total_t - sum_{0 <= d < D, d <= t} A[t, t - d] - sum_{sinks s <= t - D} A[t, s]`, with D
    the window (DESIGN, "Definitions"; the paper's own formula is not known). A sink inside the
    window counts as near, once.

    Args:
        local: Attention near the diagonal, at least `window` wide.
        window: D >= 1, in tokens.

    Returns:
        (B, H, T) in [0, 1]; higher means further back; 0 at padding.
    """
    length = local.window.shape[2]
    queries = torch.arange(length, device=local.window.device)
    is_far = local.sink_positions[:, None, :] <= queries[:, None] - window  # (B, T, S)
    near = local.window[..., :window].sum(dim=-1)
    far_sinks = (local.sinks * is_far[:, None]).sum(dim=-1)
    # Rounding takes a row that has no far key a hair below zero.
    return (local.total - near - far_sinks).clamp(min=0.0)


def windowed_distance(local: LocalAttention, window: int) -> torch.Tensor:
    """Windowed average attention distance: the mean of min(distance, window), sinks included.

    `WAAD_t = sum_d A[t, t - d] * d + w * (total_t - sum_d A[t, t - d])`, both sums over
    0 <= d < w, d <= t (DESIGN, "Attention: exact, and nearly free").

    Args:
        local: Attention near the diagonal, at least `window` wide.
        window: w >= 1, in tokens.

    Returns:
        (B, H, T) tokens in [0, window]; higher means further back; 0 at padding.
    """
    near = local.window[..., :window]
    distances = torch.arange(window, device=near.device, dtype=near.dtype)
    beyond = (local.total - near.sum(dim=-1)).clamp(min=0.0)
    return (near * distances).sum(dim=-1) + window * beyond


def _window_valid(key_valid: torch.Tensor, width: int) -> torch.Tensor:
    """(B, T, W): whether query t and its key t - d are both real tokens."""
    earlier = F.pad(key_valid, (width - 1, 0)).unfold(1, width, 1).flip(-1)
    return earlier & key_valid[:, :, None]


def _take_keys(key: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """(B, K, S, D): the keys at (B, S) positions; a position past the end takes the last key."""
    index = positions.clamp(max=key.shape[2] - 1)[:, None, :, None]
    return key.gather(2, index.expand(-1, key.shape[1], -1, key.shape[3]))


def _keys_before(key: torch.Tensor, rows: slice, width: int) -> torch.Tensor:
    """(B, K, n + W - 1, D): the keys of a block of rows and W - 1 before it, zeros if none."""
    first = rows.start - (width - 1)
    return F.pad(key[:, :, max(first, 0) : rows.stop], (0, 0, max(-first, 0), 0))


def _grouped_scores(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """(B, H, n, R) scores of (B, H, n, D) queries on (B, K, R, D) keys, keys not copied."""
    batch, heads, count, width = query.shape
    grouped = query.reshape(batch, key.shape[1], -1, width)  # (B, K, groups * n, D)
    return (grouped @ key.transpose(-1, -2)).view(batch, heads, count, key.shape[2])


def _band(scores: torch.Tensor, width: int) -> torch.Tensor:
    """(B, H, n, W): at [i, d] the score of key i - d, of contiguous (B, H, n, n + W - 1)."""
    batch, heads, count, columns = scores.shape
    head_stride = count * columns
    strides = (heads * head_stride, head_stride, columns + 1, 1)
    return scores.as_strided((batch, heads, count, width), strides).flip(-1)


def _masked_exp(exponent: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    """Exponentiate where `keep`, 0 elsewhere, so that NaN and overflow in padding stay there."""
    return exponent.masked_fill(~keep, -torch.inf).exp()

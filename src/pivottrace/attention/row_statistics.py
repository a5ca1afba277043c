"""Statistics of attention, each with its formula, read off a part of the matrix.

Axes: B batch, H query heads, n consecutive queries, W window width, S sinks. `A[t, s]` is the share
of its attention that row t gives to key s; distances and windows are in tokens. `attention.reading`
makes their input. The formulas are from docs/attention.md, because the paper's own formulas are not
known.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
import torch.nn.functional as F

from pivottrace.errors import ConfigError


class LocalAttention(NamedTuple):
    """The part of n rows of the attention matrix that statistics read.

    Attributes:
        window: (B, H, n, W) `A[t, t - d]` at index d; 0 if there is no such key.
        sinks: (B, H, n, S) `A[t, sink s]` at any distance; 0 for a sink after t.
        sink_distances: (B, n, S) distance back to each sink; -1 for no such sink.
        question: (B, H, n) mass on the keys of the question; None if no statistic reads it.
        total: (B, H, n) mass on real keys. It is 1, or less if the model has learned sinks, and 0
            in rows that see no key.
    """

    window: torch.Tensor
    sinks: torch.Tensor
    sink_distances: torch.Tensor
    question: torch.Tensor | None
    total: torch.Tensor


@runtime_checkable
class Statistic(Protocol):
    """One number per head and token, from the part of the matrix that the statistic asks for.

    Attributes:
        width: W that it needs, at least 1.
        num_sinks: S that it needs.
        reads_question: Whether it needs `LocalAttention.question`.
        reach: Number of tokens before the first query at which its numbers begin. It is 0 for a
            statistic of rows, and the horizon for a statistic of columns. The caller adds up the
            numbers of successive calls.
    """

    @property
    def width(self) -> int: ...  # noqa: D102
    @property
    def num_sinks(self) -> int: ...  # noqa: D102
    @property
    def reads_question(self) -> bool: ...  # noqa: D102
    @property
    def reach(self) -> int: ...  # noqa: D102
    def __call__(self, rows: LocalAttention) -> torch.Tensor:
        """Return (B, H, reach + n), float32 at least; 0 at padding."""
        ...


@dataclass(frozen=True)
class _OfRows:
    """The needs that most statistics share."""

    reads_question: ClassVar[bool] = False
    reach: ClassVar[int] = 0

    @property
    def width(self) -> int:
        """Number of keys back from the diagonal that are read; the diagonal counts."""
        return getattr(self, "window", 1)

    @property
    def num_sinks(self) -> int:
        """Number of leading tokens that are read as sinks."""
        return getattr(self, "sinks", 0)

    def __post_init__(self) -> None:
        """Refuse windows below one token and a negative number of sinks."""
        if min(self.width, getattr(self, "horizon", 1)) < 1 or self.num_sinks < 0:
            raise ConfigError(
                f"{self}: a window or horizon is at least 1 token, the number of sinks at least 0."
            )


@dataclass(frozen=True)
class FarMass(_OfRows):
    """Share of a row's attention that goes further back than a window, without sinks.

    `F_t = total_t - sum_{0 <= d < D, d <= t} A[t, t - d] - sum_{sinks s <= t - D} A[t, s]`. A sink
    inside the window counts as near, once. The range is [0, 1]; higher looks further back.

    Attributes:
        window: D >= 1, tokens.
        sinks: First real tokens of a sequence that count as sinks.
    """

    window: int = 10
    sinks: int = 1

    def __call__(self, rows: LocalAttention) -> torch.Tensor:
        """(B, H, n)."""
        is_far = rows.sink_distances[..., : self.sinks] >= self.window  # (B, n, S)
        near = rows.window[..., : self.window].sum(dim=-1)
        far_sinks = (rows.sinks[..., : self.sinks] * is_far[:, None]).sum(dim=-1)
        # Rounding can take a row without a far key slightly below zero.
        return (rows.total - near - far_sinks).clamp(min=0.0)


@dataclass(frozen=True)
class AttentionDistance(_OfRows):
    """Windowed average attention distance (WAAD): the mean of min(distance, window), with sinks.

    `WAAD_t = sum_{0 <= d < w, d <= t} A[t, t - d] d + w (total_t - sum_{0 <= d < w} A[t, t - d])`.
    The range is [0, window] tokens; higher looks further back.

    Attributes:
        window: Window w >= 1, tokens.
    """

    window: int = 10

    def __call__(self, rows: LocalAttention) -> torch.Tensor:
        """(B, H, n)."""
        near = rows.window[..., : self.window]
        distances = torch.arange(self.window, device=near.device, dtype=near.dtype)
        beyond = (rows.total - near.sum(dim=-1)).clamp(min=0.0)
        return (near * distances).sum(dim=-1) + self.window * beyond


@dataclass(frozen=True)
class SinkMass(_OfRows):
    """Share of a row's attention on the sequence's first tokens: `sum_{sinks s <= t} A[t, s]`.

    The range is [0, 1]. A learned sink (gpt-oss) is no token; its share is missing from `total`.

    Attributes:
        sinks: Number of leading tokens that count, >= 1.
    """

    sinks: int = 1

    def __call__(self, rows: LocalAttention) -> torch.Tensor:
        """(B, H, n)."""
        return rows.sinks[..., : self.sinks].sum(dim=-1)


@dataclass(frozen=True)
class QuestionMass(_OfRows):
    """Share of a row's attention on the question: `sum_{sinks <= s < P, s <= t} A[t, s]`.

    The range is [0, 1]. P is the number of prompt tokens, at least `sinks`. The cost is O(T P) per
    head.

    Attributes:
        sinks: Number of first tokens of the question that are left out; 0 counts all.
    """

    reads_question: ClassVar[bool] = True
    sinks: int = 0

    def __call__(self, rows: LocalAttention) -> torch.Tensor:
        """(B, H, n)."""
        if rows.question is None:
            raise ConfigError("QuestionMass needs to know where the question ends: prompt_lengths.")
        if not self.sinks:
            return rows.question
        return (rows.question - rows.sinks[..., : self.sinks].sum(dim=-1)).clamp(min=0.0)


@dataclass(frozen=True)
class LocalEntropy(_OfRows):
    """Entropy of attention inside the window: `-sum_d p_d ln p_d`, `p_d = A[t, t - d] / sum`.

    The range is [0, ln window] nats; higher is spread more evenly over the neighbourhood.

    Attributes:
        window: D >= 1, tokens.
    """

    window: int = 10

    def __call__(self, rows: LocalAttention) -> torch.Tensor:
        """(B, H, n)."""
        near = rows.window[..., : self.window]
        total = near.sum(dim=-1, keepdim=True)
        share = near / total.clamp(min=torch.finfo(near.dtype).tiny)
        return torch.special.entr(share).sum(dim=-1)


@dataclass(frozen=True)
class FutureInfluence(_OfRows):
    """Attention that a token gets from the h tokens after it: `sum_{1 <= d <= h} A[t + d, t]`.

    The range is [0, h]; a token with a higher value is read more by its near future. The last h
    tokens of a sequence have fewer rows after them, so their values are lower by construction.

    Attributes:
        horizon: Horizon h >= 1, tokens.
    """

    horizon: int = 10

    @property
    def width(self) -> int:
        """Width of the band from distance 0 to the horizon."""
        return self.horizon + 1

    @property
    def reach(self) -> int:  # type: ignore[override]
        """Number of tokens before the first query that it reads."""
        return self.horizon

    def __call__(self, rows: LocalAttention) -> torch.Tensor:
        """Return (B, H, horizon + n), the attention that each token gets from these n rows."""
        count = rows.window.shape[2]
        # Column d of the band, shifted to the key that it belongs to: (B, H, horizon + n).
        parts = [
            F.pad(rows.window[..., d], (self.horizon - d, d)) for d in range(1, self.horizon + 1)
        ]
        return torch.stack(parts).sum(dim=0)[..., : self.horizon + count]


@dataclass(frozen=True)
class Needs:
    """The needs of a set of statistics together, so that one pass serves all of them."""

    width: int = 1
    num_sinks: int = 0
    question: bool = False

    @classmethod
    def of(cls, stats: Sequence[Statistic]) -> "Needs":
        """Return the union of the needs of `stats`; raise ConfigError if `stats` is empty."""
        if not stats:
            raise ConfigError("no statistic is asked for: give at least one, such as FarMass().")
        return cls(
            width=max(stat.width for stat in stats),
            num_sinks=max(stat.num_sinks for stat in stats),
            question=any(stat.reads_question for stat in stats),
        )

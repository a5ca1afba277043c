"""The record of `trace_attention`: statistics summed over heads layer by layer, or per head.

Axes: B batch, H heads that are read, T tokens seen so far, n tokens of one call.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import torch

from pivottrace.attention.row_statistics import Statistic
from pivottrace.errors import ConfigError

Heads = Mapping[int, Sequence[int]]


class Recorder(Protocol):
    """An object that takes in each layer's statistics during a forward.

    Attributes:
        stats: The statistics to read.
        heads: Heads to read, by layer index; None for all. Layers without a chosen head are not
            read.
    """

    @property
    def stats(self) -> Sequence[Statistic]: ...  # noqa: D102
    @property
    def heads(self) -> Heads | None: ...  # noqa: D102

    def add(
        self, layer: int, first: int, signals: Sequence[torch.Tensor], rows: torch.Tensor | None
    ) -> None:
        """Take in one layer's (B', H, reach + n) tensors, one per statistic.

        Args:
            layer: The model's layer index.
            first: Position of the first query in its row of the batch; padding counts.
            signals: The tensors in the order of `stats`.
            rows: (B',) indices of these sequences in the batch; None for all, in order.
        """
        ...


class AttentionTrace:
    """The statistics of the forwards that ran inside a `trace_attention` block.

    `trace[FarMass()]` is (B, T) float32 on the CPU, the mean over the heads that were read.
    Positions are positions in the rows of the batch as the model saw them, so padding counts, with
    value 0. Under `generate` T grows with the tokens that were fed back, so the last generated
    token has no row.

    Args:
        stats: The statistics to read.
        heads: Heads to read, by layer index; None for all.
        per_head: Keep each head's values too, for `per_head`.
    """

    def __init__(
        self, stats: Sequence[Statistic], heads: Heads | None = None, per_head: bool = False
    ) -> None:
        self.stats = tuple(dict.fromkeys(stats))
        self.heads = clean_heads(heads)
        self._keep = per_head
        self._sums: dict[Statistic, torch.Tensor] = {}  # (B, T) each
        self._layers: dict[Statistic, dict[int, torch.Tensor]] = {}  # (B, H, T) each
        self._head_counts: dict[int, int] = {}
        self._length = 0

    def add(
        self, layer: int, first: int, signals: Sequence[torch.Tensor], rows: torch.Tensor | None
    ) -> None:
        """Add one layer's statistics to the sums (`Recorder.add`)."""
        self._head_counts[layer] = signals[0].shape[1]
        for stat, signal in zip(self.stats, signals, strict=True):
            start = first - stat.reach
            signal = signal[..., max(-start, 0) :]
            start = max(start, 0)
            whole = self._sums.get(stat)
            self._sums[stat] = _added(whole, signal.sum(dim=1, dtype=torch.float64), start, rows)
            self._length = max(self._length, start + signal.shape[-1])
            if self._keep:
                layers = self._layers.setdefault(stat, {})
                layers[layer] = _added(layers.get(layer), signal, start, rows)

    def __getitem__(self, stat: Statistic) -> torch.Tensor:
        """Return the mean over the heads that were read, (B, T)."""
        self._refuse_untraced(stat)
        return (self._sums[stat][:, : self._length].cpu() / self.num_heads).float()

    def per_head(self, stat: Statistic) -> dict[int, torch.Tensor]:
        """Return each layer's (B, H, T), chosen heads ascending; needs `per_head=True`."""
        if not self._keep:
            raise ConfigError("heads were not kept: trace with per_head=True.")
        self._refuse_untraced(stat)
        layers = sorted(self._layers[stat].items())
        return {layer: values[..., : self._length].cpu() for layer, values in layers}

    def check_layers(self) -> None:
        """Raise ConfigError after a forward if heads of layers without attention are chosen."""
        check_layers(self.heads, self._head_counts)

    def clear(self, is_real: torch.Tensor) -> None:
        """Set the values at padding to 0; `is_real` is (B, T), False at padding."""
        keep = is_real[:, : self._length]
        for stat, values in self._sums.items():
            self._sums[stat] = values[:, : self._length] * keep.to(values.device)
        for layers in self._layers.values():
            for layer, values in layers.items():
                kept = keep[:, None].to(values.device)
                layers[layer] = values[..., : self._length] * kept

    def _refuse_untraced(self, stat: Statistic) -> None:
        if stat not in self._sums:
            known = ", ".join(map(str, self.stats))
            raise ConfigError(f"{stat} was not traced; this trace has {known}, after a forward.")

    @property
    def layers(self) -> list[int]:
        """Layers that were read."""
        return sorted(self._head_counts)

    @property
    def num_heads(self) -> int:
        """Number of heads that were read, over all layers."""
        return sum(self._head_counts.values())


def clean_heads(heads: Heads | None) -> dict[int, list[int]] | None:
    """Return heads by layer, each once and ascending; raise ConfigError if no head is left."""
    if heads is None:
        return None
    chosen = {int(layer): sorted(set(map(int, some))) for layer, some in heads.items() if some}
    if not chosen:
        raise ConfigError("no head is chosen: give at least one, or None for all heads.")
    return chosen


def check_layers(heads: Heads | None, layers: Collection[int]) -> None:
    """Raise ConfigError if heads of layers without attention are chosen."""
    missing = sorted(set(heads or ()) - set(layers))
    if missing:
        raise ConfigError(
            f"heads are chosen in layers {missing}, but attention layers are {sorted(layers)}: "
            "profile the heads of this model again."
        )


def _added(
    whole: torch.Tensor | None, part: torch.Tensor, start: int, rows: torch.Tensor | None
) -> torch.Tensor:
    """Add `part` (B', ..., m) to `whole` (B, ..., T) at position `start`, which may lie past T."""
    stop = start + part.shape[-1]
    if whole is None:
        whole = part.new_zeros(*part.shape[:-1], stop)
    elif whole.shape[-1] < stop:
        room = max(stop, 2 * whole.shape[-1]) if start else stop
        grown = whole.new_zeros(*whole.shape[:-1], room)
        grown[..., : whole.shape[-1]] = whole
        whole = grown
    if rows is None:
        whole[..., start:stop] += part
    else:
        whole[rows, ..., start:stop] += part
    return whole

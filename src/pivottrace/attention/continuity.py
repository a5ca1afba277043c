"""Refuse a forward of a `trace_attention` block that does not go on where the last one ended.

Three things would put rows of attention in the places of other rows without notice: a second whole
sequence, a cache that was rolled back (assisted decoding), and a cache with reordered rows (beam
search).
"""

import torch

from pivottrace.attention.masks import MaskSpec
from pivottrace.errors import ModelError


class Continuity:
    """The position at which each layer's next query must stand, and the newest key seen so far."""

    def __init__(self, model_name: str) -> None:
        self._model_name = model_name
        self._next: dict[int, int] = {}
        self._layer: int | None = None  # the first layer that is read; its keys are compared
        self._newest: torch.Tensor | None = None  # (B, K, D)

    def check(self, layer: int, queries: int, key: torch.Tensor, mask: MaskSpec) -> None:
        """Check n queries of a layer and its (B, K, S, D) keys; ModelError if they do not fit."""
        first = mask.first_key + mask.first_query
        if first < self._next.get(layer, 0):
            raise ModelError(
                f"{self._model_name}: a forward starts at position {first}, but positions up to "
                f"{self._next[layer] - 1} are traced already. Trace a new sequence in a block of "
                "its own; generation without a cache, and assisted decoding, which takes tokens "
                "back, cannot be traced while they decode: trace what they wrote afterwards."
            )
        self._next[layer] = first + queries
        self._layer = layer if self._layer is None else self._layer
        if layer != self._layer:
            return
        at = mask.first_query
        # The newest key (B, K, D) of the last forward must still be in the cache.
        if self._newest is not None and at:
            same = key[:, :, at - 1].shape == self._newest.shape and torch.equal(
                key[:, :, at - 1].nan_to_num(), self._newest.nan_to_num()
            )
            if not same:
                raise ModelError(
                    f"{self._model_name}: the cache does not hold the rows of the step before "
                    "(beam search reorders them): trace what it wrote afterwards."
                )
        # This is a copy, because a static cache is written in place and a view would keep a dynamic
        # cache alive.
        self._newest = key[:, :, at + queries - 1].detach().clone()

    def select_rows(self, kept: torch.Tensor) -> None:
        """Keep only these rows of the batch from now on."""
        if self._newest is not None:
            self._newest = self._newest[kept]

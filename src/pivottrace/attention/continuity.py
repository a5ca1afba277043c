"""Refuses forwards of one `trace_attention` block that do not go on where the last one ended.

A second whole sequence, a cache that was rolled back (assisted decoding) or whose rows were
reordered (beam search): each would put rows of attention where others stand, silently.
"""

import torch

from pivottrace.attention.masks import MaskSpec
from pivottrace.errors import ModelError


class Continuity:
    """Where each layer's next query must stand, and what the last one's key was."""

    def __init__(self, model_name: str) -> None:
        self._model_name = model_name
        self._next: dict[int, int] = {}
        self._layer: int | None = None  # whose keys are compared: the first that is read
        self._newest: torch.Tensor | None = None  # (B, K, D)

    def check(self, layer: int, queries: int, key: torch.Tensor, mask: MaskSpec) -> None:
        """Look at n queries of a layer and its (B, K, S, D) keys. Raises ModelError."""
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
        if self._newest is not None and at:
            same = key[:, :, at - 1].shape == self._newest.shape and torch.equal(
                key[:, :, at - 1].nan_to_num(), self._newest.nan_to_num()
            )
            if not same:
                raise ModelError(
                    f"{self._model_name}: the cache's rows are not those of the step before (beam "
                    "search reorders them): trace what it wrote afterwards."
                )
        # A copy: a static cache is written in place, and a view would keep a dynamic one alive.
        self._newest = key[:, :, at + queries - 1].detach().clone()

    def select_rows(self, kept: torch.Tensor) -> None:
        """Go on with these rows of the batch only."""
        if self._newest is not None:
            self._newest = self._newest[kept]

"""Caches whose rows can leave, and take other sequences, while a batch is decoded."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import pad
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

# Tokens that a layer has room for.
ROOM = 24


class RoomyLayer(DynamicLayer):
    """A cache layer that adds a token without a copy of all tokens before it.

    Keys and values are the beginning of buffers (B, H, S + room, D). When the room is used up, the
    layer makes new buffers with room for `ROOM` tokens.
    """

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self, layer: DynamicLayer) -> None:
        """Take over the keys and values of a layer, which must hold some."""
        super().__init__()
        self.__dict__.update(layer.__dict__)
        self._buffers = self._held()

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append keys and values (B, H, T, D), and return all of them, as `DynamicLayer` does."""
        self.keys, self._buffers[0] = _appended(self.keys, key_states, self._buffers[0])
        self.values, self._buffers[1] = _appended(self.values, value_states, self._buffers[1])
        return self.keys, self.values

    def fill(self, rows: torch.Tensor, layer: DynamicLayer) -> None:
        """Give rows another sequence each, whose last token comes last.

        Args:
            rows: (K,) indices of the rows.
            layer: Holds the keys and values of the new sequences (K, H, S, D), S at most ours.
        """
        start = self.keys.size(-2) - layer.keys.size(-2)
        for held, new in ((self.keys, layer.keys), (self.values, layer.values)):
            held[rows, :, :start] = 0  # a NaN of the old sequence would spread through the mask
            held[rows, :, start:] = new

    def set_width(self, width: int) -> None:
        """Drop the oldest tokens of every row, or put zeros before them."""
        more = width - self.keys.size(-2)
        if more > 0:
            self.keys, self.values = (pad(held, (0, 0, more, 0)) for held in self._held())
            self._buffers = self._held()
        else:
            self.keys, self.values = (held[..., -more:, :] for held in self._held())
            self._buffers = [buffer[..., -more:, :] for buffer in self._buffers]

    def _held(self) -> list[torch.Tensor]:
        return [self.keys, self.values]

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep these rows, and release the buffers that held all rows."""
        super().batch_select_indices(indices)
        self._buffers = self._held()


def _appended(
    held: torch.Tensor, added: torch.Tensor, buffer: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Join `added` to the end of `held` along the tokens; also return the buffer of the result."""
    start, end = held.size(-2), held.size(-2) + added.size(-2)
    # Reordered keys are in a tensor of their own.
    if buffer.data_ptr() != held.data_ptr() or buffer.size(-2) < end:
        buffer = held.new_empty(*held.shape[:-2], end + ROOM, held.size(-1))
        buffer[..., :start, :] = held
    buffer[..., start:end, :] = added
    return buffer[..., :end, :], buffer


# Cache layers that keep nothing but the keys and values of each row, so that rows can leave them.
ROW_LAYERS = (DynamicLayer, DynamicSlidingWindowLayer, RoomyLayer)


def can_drop_rows(cache: Any) -> bool:
    """Whether every layer can drop rows. A subclass counts as no, as it may hold more than keys."""
    layers = getattr(cache, "layers", ())
    return bool(layers) and all(type(layer) in ROW_LAYERS for layer in layers)


def make_room(cache: Any) -> None:
    """Give room to the layers that grow. Layers with a sliding window drop old tokens instead."""
    for index, layer in enumerate(cache.layers):
        if type(layer) is DynamicLayer and layer.get_seq_length():
            cache.layers[index] = RoomyLayer(layer)


def can_refill(model: Any) -> bool:
    """Whether every layer keeps all tokens: a window has no room for a prompt in an old place."""
    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=model.config).layers)

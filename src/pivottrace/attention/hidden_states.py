"""Follow responses through the layers of a decoder, with a few vectors per sequence in memory.

`output_hidden_states` would keep (L + 1, B, T, hidden). Here each layer's input is reduced at once
to one mean per sequence, and compared with the mean of the layer before. Axes: B batch, T tokens, N
sequences, L layers.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from pivottrace.attention.batch import Batch
from pivottrace.attention.next_token import decoder_of
from pivottrace.signals.layer_path import LayerPath

_log = logging.getLogger(__name__)


class PathRecorder:
    """Take in hidden states layer by layer. Means are float64, so that batching does not matter."""

    def __init__(self, places: Sequence[tuple[int, slice]]) -> None:
        self._places = places
        self._first: torch.Tensor | None = None  # (N, hidden), like the two below
        self._last: torch.Tensor | None = None
        self._step: torch.Tensor | None = None
        self._lengths: list[torch.Tensor] = []  # (N,) per layer, like the two below
        self._angles: list[torch.Tensor] = []
        self._turns: list[torch.Tensor] = []
        self._is_whole = True

    def add(self, states: torch.Tensor) -> None:
        """Take in (B, T, hidden) states: the next layer's input, or the last layer's output."""
        if states.dim() != 3:  # several streams at once, as in Gemma 3n
            self._is_whole = False
            return
        # One mean per response over its rows, (N, hidden).
        means = [
            states[row, span].mean(dim=0, dtype=torch.float64).cpu() for row, span in self._places
        ]
        state = torch.stack(means)
        if self._last is None:
            self._first = state
        else:
            # (N,) length and angle of this step, and its turn from the step before.
            step = state - self._last
            self._lengths.append(step.norm(dim=-1))
            self._angles.append(_angle(self._last, state))
            if self._step is not None:
                self._turns.append(_angle(self._step, step))
            self._step = step
        self._last = state

    def results(self) -> list[LayerPath | None]:
        """Return each sequence's path; None if the states did not have the expected form."""
        if not self._is_whole or not self._lengths or self._first is None or self._last is None:
            return [None] * len(self._places)
        whole = (self._last - self._first).norm(dim=-1)  # (N,)
        spans = torch.stack([whole, _angle(self._first, self._last)])  # (2, N)
        lengths, angles = torch.stack(self._lengths), torch.stack(self._angles)  # (L, N)
        turns = torch.stack(self._turns) if self._turns else lengths[:0]
        return [
            LayerPath(
                lengths[:, i].numpy(),
                angles[:, i].numpy(),
                turns[:, i].numpy(),
                float(spans[0, i]),
                float(spans[1, i]),
            )
            for i in range(len(self._places))
        ]


@contextmanager
def following(model: Any, batch: Batch) -> Iterator[PathRecorder]:
    """Record the input of each layer of a model's decoder inside the block.

    Args:
        model: A causal language model.
        batch: The input of the decoder; its `places` are the rows that are averaged.

    Yields:
        The recorder. The caller still has to add the decoder's output to it.
    """
    recorder = PathRecorder(batch.places)

    def hook(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        recorder.add(args[0] if args else kwargs["hidden_states"])

    layers = _layers_of(model)
    handles = [layer.register_forward_pre_hook(hook, with_kwargs=True) for layer in layers]
    try:
        yield recorder
    finally:
        for handle in handles:
            handle.remove()


def _layers_of(model: Any) -> Sequence[torch.nn.Module]:
    """Find the decoder's layers: its outermost module list as long as the model has layers."""
    count = model.config.get_text_config().num_hidden_layers
    for module in decoder_of(model).modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == count:
            return list(module)
    _log.warning(
        "%s: no list of %d layers was found, so estimators of hidden states (CoE, CoT-kinetics) "
        "have no value.",
        type(model).__name__,
        count,
    )
    return []


def _angle(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return the (N,) angle between the rows of (N, hidden), radians; NaN if one is zero.

    It uses atan2, because arccos loses half its digits near 0 and rounding can leave [-1, 1].
    """
    a, b = a / a.norm(dim=-1, keepdim=True), b / b.norm(dim=-1, keepdim=True)
    return 2.0 * torch.atan2((a - b).norm(dim=-1), (a + b).norm(dim=-1))

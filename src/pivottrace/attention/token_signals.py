"""The signals that remain of a traced response's layers, heads and logits.

Axes: B batch, T tokens, n response tokens, L layers, H heads.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from pivottrace.attention.batch import Batch
from pivottrace.attention.next_token import NextTokenSignals
from pivottrace.attention.recorder import check_layers
from pivottrace.attention.row_statistics import AttentionDistance, FarMass, QuestionMass
from pivottrace.errors import ConfigError
from pivottrace.signals.layer_path import LayerPath


@dataclass(frozen=True)
class TokenSignals:
    """One traced response: float32 arrays (n,) over its tokens; all NaN if the pass was not finite.

    Attributes:
        far_mass: Mean far mass of the chosen heads, [0, 1].
        far_mass_all: Mean far mass of all heads, [0, 1].
        waad: Mean windowed average attention distance of all heads, tokens, [0, waad_window].
        entropy: Entropy of the next-token distribution that produced the token, nats.
        log_prob: Log-probability of the token, nats, <= 0.
        self_certainty: KL divergence from uniform to the distribution that produced it, nats, >= 0.
        question_mass: Mean mass on the question without its sinks, over all heads, [0, 1].
        head_far_mass: (L, H) each head's mean over the response, with rows by the model's layer
            index. NaN if a layer has no such head (no softmax attention), and for an empty
            response.
        head_deviation: (L, H) the standard deviation of each head's far mass over the response.
        layer_path: The path of the response's mean hidden state through the layers; None if the
            model's layers could not be followed.
        top2_margin: Smallest difference of the two largest logits over the response. It tells how
            far the greedy choice is from rounding. +inf for an empty response, NaN for a failed
            one.
    """

    far_mass: np.ndarray
    far_mass_all: np.ndarray
    waad: np.ndarray
    entropy: np.ndarray
    log_prob: np.ndarray
    self_certainty: np.ndarray
    question_mass: np.ndarray
    head_far_mass: np.ndarray
    head_deviation: np.ndarray
    layer_path: LayerPath | None
    top2_margin: float


class TracedStatistics(NamedTuple):
    """The statistics of attention that `TokenSignals` is made of, by its names."""

    far_mass: FarMass
    waad: AttentionDistance
    question_mass: QuestionMass


class ResponseRecorder:
    """Reduce each layer during the forward, so that no array of size L x H x T is held."""

    heads = None  # all heads are read, for the mean of the chosen heads and the mean of all

    def __init__(
        self, batch: Batch, stats: TracedStatistics, chosen: dict[int, list[int]] | None
    ) -> None:
        self.stats = stats
        self._batch, self._chosen_heads = batch, chosen
        shape = batch.input_ids.shape  # (B, T)
        self._sums = {name: torch.zeros(shape, dtype=torch.float64) for name in stats._fields}
        self._chosen = torch.zeros(shape, dtype=torch.float64)  # far mass of the chosen heads
        self._head_sums: dict[int, torch.Tensor] = {}  # layer: (2, sequences, H), squares second

    def add(
        self, layer: int, first: int, signals: Sequence[torch.Tensor], rows: torch.Tensor | None
    ) -> None:
        """Take in one layer's (B, H, n) statistics from `first` on (`Recorder.add`)."""
        named = dict(zip(self.stats._fields, signals, strict=True))
        far = named["far_mass"]
        part = (slice(None), slice(first, first + far.shape[-1]))
        head_sums = {name: _sum_heads(values) for name, values in named.items()}
        for name, head_sum in head_sums.items():
            self._sums[name][part] += head_sum
        chosen = None if self._chosen_heads is None else self._chosen_heads.get(layer)
        if self._chosen_heads is None:
            self._chosen[part] += head_sums["far_mass"]
        elif chosen:
            if not 0 <= chosen[0] <= chosen[-1] < far.shape[1]:
                last = far.shape[1] - 1
                raise ConfigError(
                    f"heads of layer {layer} are {chosen}, but it has heads 0 to {last}: "
                    "profile the heads of this model again."
                )
            self._chosen[part] += _sum_heads(far[:, chosen])
        # Sum and sum of squares of far mass over each response: (2, sequences, H).
        before = self._head_sums.get(layer, 0.0)
        parts = [
            far[row, :, max(span.start - first, 0) : max(span.stop - first, 0)].double()
            for row, span in self._batch.places
        ]
        sums = [torch.stack([values.sum(-1), (values * values).sum(-1)]) for values in parts]
        self._head_sums[layer] = before + torch.stack(sums, dim=1).cpu()

    def results(
        self, tokens: NextTokenSignals, paths: Sequence[LayerPath | None]
    ) -> list[TokenSignals]:
        """Assemble each sequence's signals; `tokens` has the concatenated response rows."""
        head_counts = {layer: sums.shape[-1] for layer, sums in self._head_sums.items()}
        num_all = sum(head_counts.values())
        num_chosen = num_all
        if self._chosen_heads is not None:
            check_layers(self._chosen_heads, head_counts)
            num_chosen = sum(len(chosen) for chosen in self._chosen_heads.values())
        columns = NextTokenSignals(*(column.double().cpu() for column in tokens))
        results, start = [], 0
        for index, response in enumerate(self._batch.responses):
            rows, start = slice(start, start + len(response)), start + len(response)
            place = self._batch.places[index]
            arrays = {
                "far_mass": self._chosen[place].numpy() / num_chosen,
                "far_mass_all": self._sums["far_mass"][place].numpy() / num_all,
                "waad": self._sums["waad"][place].numpy() / num_all,
                "entropy": columns.entropy[rows].numpy(),
                "log_prob": columns.log_prob[rows].numpy(),
                "self_certainty": columns.self_certainty[rows].numpy(),
                "question_mass": self._sums["question_mass"][place].numpy() / num_all,
            }
            # Mean and deviation of each head's far mass: (2, L, H).
            heads = np.full((2, max(head_counts) + 1, max(head_counts.values())), np.nan)
            for layer, sums in self._head_sums.items():
                if response:
                    mean, square = sums[:, index].numpy() / len(response)
                    deviation = np.sqrt(np.maximum(square - mean**2, 0.0))
                    heads[:, layer, : head_counts[layer]] = mean, deviation
            margin = columns.margin[rows].numpy().min(initial=math.inf)
            results.append(_finish(arrays, heads, paths[index], float(margin)))
        return results


def _finish(
    arrays: dict[str, np.ndarray], heads: np.ndarray, path: LayerPath | None, margin: float
) -> TokenSignals:
    """Make the result. It is all NaN if any signal is not finite, because half a trace misleads."""
    if not all(np.isfinite(array).all() for array in arrays.values()):
        arrays = {name: np.full_like(array, np.nan) for name, array in arrays.items()}
        heads, margin = np.full_like(heads, np.nan), math.nan
        path = None if path is None else path.failed()
    signals = {name: array.astype(np.float32) for name, array in arrays.items()}
    mean, deviation = heads.astype(np.float32)
    return TokenSignals(
        **signals,
        head_far_mass=mean,
        head_deviation=deviation,
        layer_path=path,
        top2_margin=margin,
    )


def _sum_heads(signal: torch.Tensor) -> torch.Tensor:
    """Sum a (B, H, n) signal over its heads to (B, n), in float64 on the CPU."""
    return signal.sum(dim=1, dtype=torch.float64).cpu()

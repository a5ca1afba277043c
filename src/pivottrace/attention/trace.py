"""Traces responses by one teacher-forced pass: far mass, WAAD, entropy and log-probability a token.

Axes: B batch, T tokens, P prompt tokens, n response tokens, L layers, H heads, R reference traces.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pivottrace.attention.batch import Batch, decoder_inputs, make_batch, response_rows
from pivottrace.attention.engine import trace_attention
from pivottrace.attention.next_token import NextTokenSignals, decoder_of, signals_from_hidden
from pivottrace.attention.statistics import LayerSignals, SignalSpec
from pivottrace.errors import ConfigError, DataError


@dataclass(frozen=True)
class TokenSignals:
    """One traced response: float32 arrays (n,) over its tokens; all NaN if the pass was not finite.

    Attributes:
        far_mass: Mean far mass of the chosen heads, [0, 1].
        far_mass_all: Mean far mass of all heads, [0, 1].
        waad: Mean windowed average attention distance of all heads, tokens, [0, waad_window].
        entropy: Entropy of the next-token distribution that produced the token, nats.
        log_prob: Log-probability of the token, nats, <= 0.
        head_far_mass: (L, H) each head's mean over the response, rows by the model's layer index;
            NaN where a layer has no such head (no softmax attention), and for an empty response.
        top2_margin: Smallest difference of the two largest logits over the response: how far
            the greedy choice is from rounding. +inf for an empty response, NaN for a failed one.
    """

    far_mass: np.ndarray
    far_mass_all: np.ndarray
    waad: np.ndarray
    entropy: np.ndarray
    log_prob: np.ndarray
    head_far_mass: np.ndarray
    top2_margin: float


@torch.no_grad()
def trace(
    model: Any,
    sequences: Sequence[tuple[Sequence[int], Sequence[int]]],
    *,
    window: int = 10,
    waad_window: int = 10,
    num_sinks: int = 1,
    heads: Mapping[int, Sequence[int]] | None = None,
    padding_side: str = "left",
    pad_token_id: int = 0,
) -> list[TokenSignals]:
    """Trace a batch of (prompt, response) token lists in one forward.

    Signal t belongs to the query row that *produced* response token t, at positions P - 1 to
    P + n - 2 (DESIGN, "Definitions"). Results do not depend on batch size or padding beyond
    rounding, and a sequence whose pass is not finite spoils no other. Far mass and WAAD are defined
    in `attention.statistics`.

    Args:
        model: A causal language model from `transformers`, on any device; put in evaluation mode
            meanwhile.
        sequences: Prompts (at least one token each) and responses (possibly empty), without the
            end-of-sequence token.
        window: D of far mass, tokens; the paper's 10.
        waad_window: w of WAAD, tokens; our choice is the same 10.
        num_sinks: First tokens of a sequence left out of far mass.
        heads: Heads that `far_mass` averages, by layer index, as from `profile_heads`; None for
            all.
        padding_side: "left" or "right".
        pad_token_id: Token in padding; it carries no mass.

    Returns:
        One `TokenSignals` a sequence, in order.

    Raises:
        ConfigError: A window, `padding_side` or `heads` is impossible for this model.
        DataError: An empty prompt, or a token outside the vocabulary.
        ModelError: The model cannot be traced, or a sequence is longer than its positions.
    """
    spec = SignalSpec(window, waad_window, num_sinks)
    if not sequences:
        return []
    if hasattr(model, "get_base_model"):  # adapters (PEFT) act inside the model that they wrap
        model = model.get_base_model()
    batch = make_batch(model, sequences, padding_side, pad_token_id)
    reduction = _Reduction(batch, heads)

    was_training = model.training
    model.eval()
    try:
        with trace_attention(model, spec, reduction.add):
            output = decoder_of(model)(**decoder_inputs(model, batch))
        tokens = signals_from_hidden(model, output, *response_rows(batch))
    finally:
        model.train(was_training)
    return reduction.results(tokens)


def profile_heads(head_far_mass: np.ndarray, percentile: float) -> dict[int, list[int]]:
    """Choose the long-range heads: those whose mean over reference traces reaches a percentile.

    Args:
        head_far_mass: (R, L, H) from `TokenSignals`; NaN entries (failed traces, missing heads) do
            not count.
        percentile: In [0, 100], among the heads; 95 keeps about the top 5 %, and at least one head.

    Returns:
        Layer index to its heads, both ascending, in the form that `trace` takes.

    Raises:
        ConfigError: The percentile is outside [0, 100].
        DataError: The shape is wrong, or no reference trace has a finite value.
    """
    if not 0.0 <= percentile <= 100.0:
        raise ConfigError(f"head percentile {percentile} must lie between 0 and 100.")
    values = np.asarray(head_far_mass, dtype=np.float64)
    if values.ndim != 3:
        raise DataError(f"head far mass must be (traces, layers, heads), not shape {values.shape}.")
    finite = np.isfinite(values)
    count = finite.sum(axis=0)
    if not count.any():
        raise DataError(
            f"none of {len(values)} reference traces has a finite head far mass: trace non-empty "
            "responses of a model that gives finite logits."
        )
    total = np.where(finite, values, 0.0).sum(axis=0)
    mean = np.where(count > 0, total / np.maximum(count, 1), -np.inf)  # (L, H)
    threshold = np.percentile(mean[count > 0], percentile)
    chosen: dict[int, list[int]] = {}
    for layer, head in zip(*np.nonzero(mean >= threshold), strict=True):
        chosen.setdefault(int(layer), []).append(int(head))
    return chosen


class _Reduction:
    """Reduces each layer as it runs, so that nothing of size L x H x T is ever held."""

    def __init__(self, batch: Batch, heads: Mapping[int, Sequence[int]] | None) -> None:
        self._batch = batch
        self._heads = None if heads is None else {k: sorted(set(v)) for k, v in heads.items() if v}
        if self._heads == {}:
            raise ConfigError("no head is chosen: give at least one, or None for all heads.")
        shape = batch.input_ids.shape
        self._far, self._chosen, self._waad = (np.zeros(shape) for _ in range(3))  # (B, T)
        self._head_means: dict[int, np.ndarray] = {}  # layer: (B, H)

    def add(self, layer: int, signals: LayerSignals) -> None:
        """Take in one layer's (B, H, T) statistics."""
        far = signals.far_mass
        spans = [self._batch.span(index) for index in range(far.shape[0])]
        means = [far[index, :, span].double().mean(dim=-1) for index, span in enumerate(spans)]
        self._head_means[layer] = torch.stack(means).cpu().numpy()
        far_sum = _sum_heads(far)
        self._far += far_sum
        self._waad += _sum_heads(signals.waad)
        if self._heads is None:
            self._chosen += far_sum
        elif layer in self._heads:
            chosen = self._heads[layer]
            if not 0 <= chosen[0] <= chosen[-1] < far.shape[1]:
                last = far.shape[1] - 1
                raise ConfigError(
                    f"heads of layer {layer} are {chosen}, but it has heads 0 to {last}: "
                    "profile the heads of this model again."
                )
            self._chosen += _sum_heads(far[:, chosen])

    def results(self, tokens: NextTokenSignals) -> list[TokenSignals]:
        """Assemble each sequence's signals; `tokens` has the responses' rows, concatenated."""
        head_counts = {layer: means.shape[1] for layer, means in self._head_means.items()}
        num_all = sum(head_counts.values())
        num_chosen = num_all
        if self._heads is not None:
            missing = sorted(set(self._heads) - set(head_counts))
            if missing:
                raise ConfigError(
                    f"heads are chosen in layers {missing}, but attention layers are "
                    f"{sorted(head_counts)}: profile the heads of this model again."
                )
            num_chosen = sum(len(chosen) for chosen in self._heads.values())
        entropy, log_prob, margin = (column.double().cpu().numpy() for column in tokens)
        results, start = [], 0
        for index, response in enumerate(self._batch.responses):
            rows, start = slice(start, start + len(response)), start + len(response)
            columns = (index, self._batch.span(index))
            arrays = (
                self._chosen[columns] / num_chosen,
                self._far[columns] / num_all,
                self._waad[columns] / num_all,
                entropy[rows],
                log_prob[rows],
            )
            heads = np.full((max(head_counts) + 1, max(head_counts.values())), np.nan)
            for layer, means in self._head_means.items():
                heads[layer, : head_counts[layer]] = means[index]
            results.append(_finish(arrays, heads, margin[rows].min(initial=math.inf)))
        return results


def _finish(arrays: tuple[np.ndarray, ...], heads: np.ndarray, margin: float) -> TokenSignals:
    """Make the result, all NaN if any signal is not finite: half a trace is no trace."""
    if not all(np.isfinite(array).all() for array in arrays):
        arrays = tuple(np.full_like(array, np.nan) for array in arrays)
        heads, margin = np.full_like(heads, np.nan), math.nan
    far, far_all, waad, entropy, log_prob = (array.astype(np.float32) for array in arrays)
    return TokenSignals(
        far, far_all, waad, entropy, log_prob, heads.astype(np.float32), float(margin)
    )


def _sum_heads(signal: torch.Tensor) -> np.ndarray:
    """(B, T) sum over the heads of a (B, H, T) signal, in float64."""
    return signal.sum(dim=1, dtype=torch.float64).cpu().numpy()

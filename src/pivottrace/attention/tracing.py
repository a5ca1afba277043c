"""Traces whole sequences in one pass, and responses with the entropy and log-probability of tokens.

Axes: B batch, T tokens, P prompt tokens, n response tokens, L layers, H heads, R reference traces.
"""

import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pivottrace.attention.batch import (
    Batch,
    decoder_inputs,
    make_batch,
    response_rows,
    takes_positions,
)
from pivottrace.attention.engine import recording
from pivottrace.attention.next_token import NextTokenSignals, decoder_of, signals_from_hidden
from pivottrace.attention.recorder import AttentionTrace, Heads, clean_heads
from pivottrace.attention.statistics import AttentionDistance, FarMass, Statistic
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
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    *,
    stats: Sequence[Statistic] = (FarMass(),),
    heads: Heads | None = None,
    per_head: bool = False,
    position_ids: torch.Tensor | None = None,
    prompt_lengths: Sequence[int] | torch.Tensor | None = None,
) -> AttentionTrace:
    """Trace whole sequences in one forward of the decoder, without logits.

    Only layers that hold a chosen head are read, and nothing beyond the last of them runs.

    Args:
        model: A causal language model from `transformers`, on any device; put in evaluation mode
            meanwhile.
        input_ids: (B, T).
        attention_mask: (B, T) 1 at real tokens, padded on either side; None where all are real.
        stats: Statistics to read, from `pivottrace.attention`.
        heads: Heads to read, by layer index, as from `profile_heads`; None for all.
        per_head: Keep each head's values, not only their mean.
        position_ids: (B, T); by default they count real tokens. Where they start again at 0 (and
            there is no `attention_mask`) a new sequence is packed, which sees nothing of the one
            before.
        prompt_lengths: For `QuestionMass`, tokens of each question: (B,), or (B, R) where packed.

    Returns:
        The trace: `trace(...)[stat]` is (B, T).

    Raises:
        ConfigError: No statistic or no head is asked for, or a head that the model has not.
        ModelError: The model cannot be traced.
    """
    model = _without_adapter_wrapper(model)
    recorder = AttentionTrace(stats, heads, per_head)
    inputs: dict[str, Any] = {"input_ids": input_ids.to(model.device), "use_cache": False}
    if attention_mask is not None and position_ids is None and takes_positions(model):
        position_ids = (attention_mask.cumsum(dim=-1) - 1).clamp(min=0)
    for name, given in (("attention_mask", attention_mask), ("position_ids", position_ids)):
        if given is not None:
            inputs[name] = given.to(model.device)
    lengths = None if prompt_lengths is None else torch.as_tensor(prompt_lengths)
    packed = 1
    if position_ids is not None and attention_mask is None:
        packed = int((position_ids[:, 1:] == 0).sum(dim=1).max()) + 1
    stop_after = None if recorder.heads is None else max(recorder.heads)
    with _evaluating(model), recording(model, recorder, lengths, stop_after, packed):
        decoder_of(model)(**inputs)
    _check_layers(recorder.heads, recorder.layers)
    return recorder


@torch.no_grad()
def trace_responses(
    model: Any,
    sequences: Sequence[tuple[Sequence[int], Sequence[int]]],
    *,
    window: int = 10,
    waad_window: int = 10,
    num_sinks: int = 1,
    heads: Heads | None = None,
    layout: str = "left",
    pad_token_id: int = 0,
) -> list[TokenSignals]:
    """Trace a batch of (prompt, response) token lists in one forward.

    Signal t belongs to the query row that *produced* response token t, at positions P - 1 to
    P + n - 2 (DESIGN, "Definitions"). Results do not depend on batch size or layout beyond
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
        layout: "left" or "right" padding, or "packed" in one row, which pads nothing.
        pad_token_id: Token in padding; it carries no mass.

    Returns:
        One `TokenSignals` a sequence, in order.

    Raises:
        ConfigError: A window, `layout` or `heads` is impossible for this model.
        DataError: An empty prompt, or a token outside the vocabulary.
        ModelError: The model cannot be traced, or a sequence is longer than its positions.
    """
    stats = (FarMass(window, num_sinks), AttentionDistance(waad_window))
    if not sequences:
        return []
    model = _without_adapter_wrapper(model)
    batch = make_batch(model, sequences, layout, pad_token_id)
    recorder = _ResponseRecorder(batch, stats, clean_heads(heads))
    with _evaluating(model):
        packed = len(sequences) if layout == "packed" else 1
        with recording(model, recorder, batch.prompt_lengths, packed=packed):
            output = decoder_of(model)(**decoder_inputs(model, batch))
        tokens = signals_from_hidden(model, output, *response_rows(batch))
    return recorder.results(tokens)


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


class _ResponseRecorder:
    """Reduces each layer as it runs, so that nothing of size L x H x T is ever held."""

    heads = None  # all are read: the chosen ones' mean and everybody's are both wanted

    def __init__(
        self, batch: Batch, stats: Sequence[Statistic], chosen: dict[int, list[int]] | None
    ) -> None:
        self.stats = stats
        self._batch, self._chosen_heads = batch, chosen
        shape = batch.input_ids.shape
        self._far, self._chosen, self._waad = (
            torch.zeros(shape, dtype=torch.float64) for _ in range(3)
        )  # (B, T) each
        self._head_sums: dict[int, torch.Tensor] = {}  # layer: (sequences, H)

    def add(
        self, layer: int, first: int, signals: Sequence[torch.Tensor], rows: torch.Tensor | None
    ) -> None:
        """Take in one layer's (B, H, n) far mass and WAAD of the queries from `first` on."""
        far, waad = signals
        count = far.shape[-1]
        part = (slice(None), slice(first, first + count))
        far_sum = _sum_heads(far)
        self._far[part] += far_sum
        self._waad[part] += _sum_heads(waad)
        chosen = None if self._chosen_heads is None else self._chosen_heads.get(layer)
        if self._chosen_heads is None:
            self._chosen[part] += far_sum
        elif chosen:
            if not 0 <= chosen[0] <= chosen[-1] < far.shape[1]:
                last = far.shape[1] - 1
                raise ConfigError(
                    f"heads of layer {layer} are {chosen}, but it has heads 0 to {last}: "
                    "profile the heads of this model again."
                )
            self._chosen[part] += _sum_heads(far[:, chosen])
        sums = [
            far[row, :, max(span.start - first, 0) : max(span.stop - first, 0)]
            .double().sum(dim=-1) for row, span in self._batch.places
        ]  # fmt: skip
        before = self._head_sums.get(layer, 0.0)
        self._head_sums[layer] = before + torch.stack(sums).cpu()

    def results(self, tokens: NextTokenSignals) -> list[TokenSignals]:
        """Assemble each sequence's signals; `tokens` has the responses' rows, concatenated."""
        head_counts = {layer: sums.shape[1] for layer, sums in self._head_sums.items()}
        num_all = sum(head_counts.values())
        num_chosen = num_all
        if self._chosen_heads is not None:
            _check_layers(self._chosen_heads, head_counts)
            num_chosen = sum(len(chosen) for chosen in self._chosen_heads.values())
        entropy, log_prob, margin = (column.double().cpu().numpy() for column in tokens)
        results, start = [], 0
        for index, response in enumerate(self._batch.responses):
            rows, start = slice(start, start + len(response)), start + len(response)
            place = self._batch.places[index]
            arrays = (
                self._chosen[place].numpy() / num_chosen,
                self._far[place].numpy() / num_all,
                self._waad[place].numpy() / num_all,
                entropy[rows],
                log_prob[rows],
            )
            heads = np.full((max(head_counts) + 1, max(head_counts.values())), np.nan)
            for layer, sums in self._head_sums.items():
                means = sums[index].numpy() / max(len(response), 1)
                heads[layer, : head_counts[layer]] = means if response else np.nan
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


def _sum_heads(signal: torch.Tensor) -> torch.Tensor:
    """(B, n) sum over the heads of a (B, H, n) signal, in float64 on the CPU."""
    return signal.sum(dim=1, dtype=torch.float64).cpu()


def _check_layers(heads: Heads | None, layers: Collection[int]) -> None:
    missing = sorted(set(heads or ()) - set(layers))
    if missing:
        raise ConfigError(
            f"heads are chosen in layers {missing}, but attention layers are {sorted(layers)}: "
            "profile the heads of this model again."
        )


def _without_adapter_wrapper(model: Any) -> Any:
    """Adapters (PEFT) act inside the model that they wrap."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)

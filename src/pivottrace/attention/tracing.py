"""Trace whole sequences in one pass, and responses together with logits and hidden states.

Axes: B batch, T tokens, P prompt tokens, n response tokens, L layers, H heads, R reference traces.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from pivottrace.attention.batch import decoder_inputs, make_batch, response_rows, takes_positions
from pivottrace.attention.engine import recording
from pivottrace.attention.hidden_states import following
from pivottrace.attention.next_token import decoder_of, signals_from_hidden
from pivottrace.attention.recorder import AttentionTrace, Heads, clean_heads
from pivottrace.attention.row_statistics import AttentionDistance, FarMass, QuestionMass, Statistic
from pivottrace.attention.token_signals import ResponseRecorder, TokenSignals, TracedStatistics
from pivottrace.errors import ConfigError, DataError


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

    Only layers with a chosen head are read, and later layers do not run.

    Args:
        model: A causal language model from `transformers`, on one device (CPU or CUDA). It is in
            evaluation mode during the call.
        input_ids: (B, T).
        attention_mask: (B, T) 1 at real tokens, padded on either side; None if all are real. A
            ready-made mask, (B, 1 or H, T, T), counts as one sequence per row, with one set of
            sinks.
        stats: Statistics to read, from `pivottrace.attention`.
        heads: Heads to read, by layer index, as from `profile_heads`; None for all.
        per_head: Keep each head's values, not only their mean.
        position_ids: (B, T); by default they count real tokens. If they start again at 0 (and there
            is no `attention_mask`), a new packed sequence begins, which does not see the one
            before.
        prompt_lengths: For `QuestionMass`, tokens of each question: (B,), or (B, R) if packed.

    Returns:
        The trace: `trace(...)[stat]` is (B, T).

    Raises:
        ConfigError: No statistic or no head is asked for, or a head that the model does not have.
        DataError: The attention mask does not have the shape of the tokens.
        ModelError: The model cannot be traced.
    """
    model = _without_adapter_wrapper(model)
    recorder = AttentionTrace(stats, heads, per_head)
    inputs: dict[str, Any] = {"input_ids": input_ids.to(model.device), "use_cache": False}
    if attention_mask is not None:
        _check_mask(model, attention_mask, input_ids)
        if attention_mask.dim() == 2 and position_ids is None and takes_positions(model):
            position_ids = (attention_mask.cumsum(dim=-1) - 1).clamp(min=0)
    if prompt_lengths is None and any(stat.reads_question for stat in recorder.stats):
        raise ConfigError("QuestionMass needs to know where the question ends: prompt_lengths.")
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
    recorder.check_layers()
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
    """Trace a batch of (prompt, response) token lists in one forward: attention, logits, states.

    Signal t belongs to the query row that *produced* response token t, at positions P - 1 to P + n
    - 2 (docs/method.md). Results do not depend on batch size or layout beyond rounding. A sequence
    with a pass that is not finite does not spoil the others. `attention.row_statistics` defines the
    statistics of attention, `attention.next_token` the statistics of logits, and
    `signals.layer_path` the path of the hidden states. Question mass costs O(T Q). Q is the number
    of columns from the batch's first question token to its last, which is small with layout
    "right", because all questions start alike there.

    Args:
        model: A causal language model from `transformers`, on any device. It is in evaluation mode
            during the call.
        sequences: Prompts (at least one token each) and responses (possibly empty), without the
            end-of-sequence token.
        window: Window D of far mass, tokens; 10 in the paper.
        waad_window: Window w of WAAD, tokens; our choice is the same 10.
        num_sinks: Number of first tokens of a sequence that far mass and question mass leave out.
        heads: Heads that `far_mass` averages, by layer index, as from `profile_heads`; None for
            all.
        layout: "left" or "right" padding, or "packed" in one row without padding.
        pad_token_id: Token that fills the padding; it carries no mass.

    Returns:
        One `TokenSignals` per sequence, in order.

    Raises:
        ConfigError: A window, `layout` or `heads` is impossible for this model.
        DataError: A prompt is empty, or a token is outside the vocabulary.
        ModelError: The model cannot be traced, or a sequence is longer than its positions.
    """
    stats = TracedStatistics(
        far_mass=FarMass(window, num_sinks),
        waad=AttentionDistance(waad_window),
        question_mass=QuestionMass(num_sinks),
    )
    if not sequences:
        return []
    model = _without_adapter_wrapper(model)
    batch = make_batch(model, sequences, layout, pad_token_id)
    recorder = ResponseRecorder(batch, stats, clean_heads(heads))
    with _evaluating(model):
        packed = len(sequences) if layout == "packed" else 1
        with (
            following(model, batch) as path,
            recording(model, recorder, batch.prompt_lengths, packed=packed),
        ):
            output = decoder_of(model)(**decoder_inputs(model, batch))
        path.add(output.last_hidden_state)
        tokens = signals_from_hidden(model, output, *response_rows(batch))
    return recorder.results(tokens, path.results())


def profile_heads(head_values: np.ndarray, percentile: float) -> dict[int, list[int]]:
    """Choose the heads whose mean over reference traces reaches a percentile.

    Args:
        head_values: (R, L, H) from `TokenSignals`: `head_far_mass` for the heads that look furthest
            back, `head_deviation` for the heads that change most between near and far. NaN entries
            (failed traces, missing heads) do not count.
        percentile: Percentile among the heads, in [0, 100]; 95 keeps about the top 5 %, and at
            least one head.

    Returns:
        Heads by layer index, both ascending, in the form that `trace` takes.

    Raises:
        ConfigError: The percentile is outside [0, 100].
        DataError: The shape is wrong, or no reference trace has a finite value.
    """
    if not 0.0 <= percentile <= 100.0:
        raise ConfigError(f"head percentile {percentile} must lie between 0 and 100.")
    values = np.asarray(head_values, dtype=np.float64)
    if values.ndim != 3:
        raise DataError(f"head far mass must be (traces, layers, heads), not shape {values.shape}.")
    finite = np.isfinite(values)
    count = finite.sum(axis=0)
    if not count.any():
        raise DataError(
            f"none of {len(values)} reference traces has a finite head far mass: trace non-empty "
            "responses of a model that gives finite logits."
        )
    # Mean of each head over the traces with a finite value, then the heads at or above it.
    total = np.where(finite, values, 0.0).sum(axis=0)
    mean = np.where(count > 0, total / np.maximum(count, 1), -np.inf)  # (L, H)
    threshold = np.percentile(mean[count > 0], percentile)
    chosen: dict[int, list[int]] = {}
    for layer, head in zip(*np.nonzero(mean >= threshold), strict=True):
        chosen.setdefault(int(layer), []).append(int(head))
    return chosen


def _without_adapter_wrapper(model: Any) -> Any:
    """Return the model inside an adapter (PEFT), because adapters act inside the wrapped model."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def _check_mask(model: Any, mask: torch.Tensor, input_ids: torch.Tensor) -> None:
    """Refuse a mask that would broadcast, or that would fail deep inside the model."""
    batch, length = input_ids.shape
    shape = tuple(mask.shape)
    heads = model.config.get_text_config().num_attention_heads
    is_ready = shape in ((batch, 1, length, length), (batch, heads, length, length))
    if shape != (batch, length) and not is_ready:
        raise DataError(
            f"attention_mask is {shape}, but input_ids are {(batch, length)}: give a mask of that "
            f"shape, or a ready-made one of ({batch}, 1 or {heads}, {length}, {length})."
        )

"""Switch a loaded model to traced attention, for every architecture on transformers' interface.

One name is registered with `AttentionInterface` *and* with `AttentionMaskInterface`. With the first
alone, the mask arrives as None and padded batches are silently wrong. A model that cannot be traced
exactly is refused by name; nothing is approximated. Axes: B batch, H heads, n queries, S keys, E
value width.
"""

import functools
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from pivottrace.attention.kernels import (
    ScoreRule,
    chunked_attention,
    fused_attention,
    why_not_fused,
)
from pivottrace.attention.masks import describe_mask
from pivottrace.attention.recorder import AttentionTrace, Heads, Recorder
from pivottrace.attention.row_statistics import FarMass, Statistic
from pivottrace.attention.tracer import EnoughError, Tracer
from pivottrace.errors import ModelError

ATTENTION_NAME = "pivottrace"

# Tensors that layers pass along and that do not change q . k, softmax or v.
_HARMLESS_TENSORS = frozenset({"position_ids", "cache_position"})
# Layer types (`config.layer_types`) whose attention must call the registered function.
_SOFTMAX_LAYERS = frozenset({"full_attention", "sliding_attention", "chunked_attention"})

_log = logging.getLogger(__name__)
_active: ContextVar[Tracer | None] = ContextVar("pivottrace_tracer", default=None)


@contextmanager
def trace_attention(
    model: Any,
    stats: Sequence[Statistic] = (FarMass(),),
    *,
    heads: Heads | None = None,
    per_head: bool = False,
    prompt_lengths: Sequence[int] | torch.Tensor | None = None,
) -> Iterator[AttentionTrace]:
    """Trace the attention of any forward or `generate` inside the block; outputs stay unchanged.

    The model is switched to traced attention and back. The first forward reads whole sequences.
    Later forwards extend them through a cache, as in `generate`, greedy or sampled. Other forwards
    are refused: a second sequence, beam search, assisted decoding. Dropout must be off. When a
    sequence of a batch has ended, `generate` goes on with padding, and the rows of that padding
    hold values too (`generate_traced` clears them).

    Args:
        model: A `transformers` decoder on one device, CPU or CUDA.
        stats: Statistics to read, from `pivottrace.attention`.
        heads: Heads to read, by layer index, as from `profile_heads`; None for all.
        per_head: Keep each head's values, not only their mean.
        prompt_lengths: For `QuestionMass`, tokens of each question (B,); by default all tokens of
            the first forward, which under `generate` is the prompt.

    Yields:
        The trace: `trace[stat]` is (B, T), complete when the block ends.

    Raises:
        ConfigError: No statistic or no head is asked for.
        ModelError: The model's attention bypasses the interface or cannot be traced exactly.
    """
    trace = AttentionTrace(stats, heads, per_head)
    lengths = None if prompt_lengths is None else torch.as_tensor(prompt_lengths)
    with recording(model, trace, lengths):
        yield trace
    trace.check_layers()


@contextmanager
def recording(
    model: Any,
    recorder: Recorder,
    prompt_lengths: torch.Tensor | None = None,
    stop_after: int | None = None,
    packed: int = 1,
) -> Iterator[Tracer]:
    """Do the same as `trace_attention` for any recorder, and end a forward early if asked to.

    Args:
        model: A `transformers` decoder.
        recorder: It takes in each layer's statistics during the forward, and should reduce them.
        prompt_lengths: (B,), or (B, R) if rows are packed.
        stop_after: Layer after which the block ends quietly, in the middle of the forward.
        packed: Number of sequences in the longest packed row. A model that mixes them is refused.
    """
    tracer = Tracer(recorder, type(model).__name__, prompt_lengths, stop_after, packed)
    previous = _implementations(model)
    token = _active.set(tracer)
    try:
        _switch(model)
        # On a GPU `generate` compiles its steps with a static cache. CUDA graphs would then reuse
        # the memory of queries that are not read yet, and Python state would force a new
        # compilation every few layers.
        with torch.compiler.set_stance("force_eager"):
            yield tracer
        tracer.flush()
    except EnoughError:
        pass
    finally:
        _active.reset(token)
        # `set_attn_implementation` would refuse some of the values that models start with.
        for config, implementation in previous:
            config._attn_implementation = implementation
    _check_every_layer_came(model, tracer, stop_after)


def current_tracer() -> Tracer | None:
    """Return the tracer of the block around this code, for code that takes rows out of a batch."""
    return _active.get()


def _implementations(model: Any) -> list[tuple[Any, Any]]:
    """Snapshot the attention implementation of each configuration in a model, outer ones first."""
    configs = {id(m.config): m.config for m in model.modules() if isinstance(m, PreTrainedModel)}
    for config in list(configs.values()):
        parts = [getattr(config, key, None) for key in config.sub_configs]
        configs |= {
            id(part): part for part in parts if part is not None and id(part) not in configs
        }
    return [(config, config._attn_implementation) for config in configs.values()]


def _switch(model: Any) -> None:
    name = type(model).__name__
    if model.config.is_encoder_decoder:
        raise ModelError(f"{name} is an encoder-decoder; only decoder-only models can be traced.")
    model.set_attn_implementation(ATTENTION_NAME)
    # A class that cannot be switched only logs that, and stays unchanged.
    if model.config._attn_implementation != ATTENTION_NAME:
        raise ModelError(
            f"{name} does not route its attention through transformers' AttentionInterface, so its "
            "attention cannot be traced. Choose an estimator that reads no attention (entropy, "
            "consistency), or another architecture (Llama, Qwen, Mistral, Gemma, ...)."
        )


def _check_every_layer_came(model: Any, tracer: Tracer, stop_after: int | None) -> None:
    """Refuse a model if some of its softmax attention did not call the registered function."""
    config = model.config.get_text_config()
    layer_types = getattr(config, "layer_types", None) or []
    expected = {i for i, kind in enumerate(layer_types) if kind in _SOFTMAX_LAYERS}
    missing = (expected & set(range(config.num_hidden_layers))) - tracer.layers
    # Modules of a class that was traced, but that did not run through the interface themselves.
    kinds = {type(module) for module in tracer.modules.values()}
    missing |= {
        getattr(module, "layer_idx", -1)
        for module in model.modules()
        if type(module) in kinds and id(module) not in tracer.modules
    }
    if stop_after is not None:
        missing = {layer for layer in missing if layer <= stop_after}
    if tracer.layers and not missing:
        return
    which = f"attention of layers {sorted(missing)}" if tracer.layers else "attention"
    if not tracer.layers and not tracer.masks_made:
        raise ModelError(
            f"{tracer.model_name}: no forward ran inside the block (in this thread, and not within "
            "another block of the same model)."
        )
    raise ModelError(
        f"{tracer.model_name}: its {which} did not run through transformers' AttentionInterface "
        "while it was traced, so it cannot be traced. Choose an estimator that reads no "
        "attention (entropy, consistency), or another architecture."
    )


def _mask_function(**arguments: Any) -> torch.Tensor | None:
    """Take the place of `sdpa_mask`, and return the mask's description instead of the mask."""
    tracer, started = _require_tracer(), time.perf_counter()
    mask = tracer.add_mask(describe_mask(arguments))
    if arguments["q_length"] == 1:
        tracer.seconds += time.perf_counter() - started
    return mask


def _attention_function(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    is_causal: bool | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attend, pass the layer's statistics on, and return the output as (B, n, H, E)."""
    started = time.perf_counter()
    tracer = _require_tracer()
    _check_call(tracer.model_name, module, dropout, is_causal, kwargs)
    mask = tracer.find_mask(attention_mask, query, key)
    rule = ScoreRule(query.shape[-1] ** -0.5 if scaling is None else scaling, softcap, s_aux)
    layer = getattr(module, "layer_idx", None)
    layer = len(tracer.layers) if layer is None else int(layer)
    heads = tracer.heads_of(layer, query.shape[1])
    is_read = heads is None or len(heads) > 0
    if is_read:
        tracer.continuity.check(layer, query.shape[2], key, mask)

    reason = why_not_fused(query, key, value, mask, rule)
    if reason is None:
        attending = time.perf_counter()
        output, log_sum_exp = fused_attention(query, key, value, mask, rule)
        attended = time.perf_counter()
        if is_read:
            parts = (query.detach(), key.detach(), log_sum_exp.detach())
            tracer.read_fused(layer, *parts, mask, rule.scaling, heads)
        if query.shape[2] == 1:
            tracer.seconds += attending - started + time.perf_counter() - attended
    else:
        if query.shape[2] > 1:
            _announce_fallback(tracer.model_name, reason)

        def read(start: int, low: int, rows: torch.Tensor) -> None:
            tracer.read_rows(layer, rows.detach(), mask, start, low, heads)

        output = chunked_attention(query, key, value, mask, rule, read if is_read else None)
    tracer.layer_done(layer, module)
    return output, None


def _check_call(
    model_name: str,
    module: torch.nn.Module,
    dropout: float,
    is_causal: bool | None,
    kwargs: dict[str, Any],
) -> None:
    """Refuse a layer if the kernels do not compute its attention."""
    unknown = [
        name
        for name, given in kwargs.items()
        if isinstance(given, torch.Tensor) and name not in _HARMLESS_TENSORS
    ]
    bidirectional = not (getattr(module, "is_causal", True) if is_causal is None else is_causal)
    if not (dropout or bidirectional or unknown):
        return
    layer = f"{model_name}, {type(module).__name__}"
    if dropout:
        raise ModelError(f"{layer}: attention dropout is on; call model.eval() before tracing.")
    if bidirectional:
        raise ModelError(
            f"{layer}: attention is bidirectional; far mass is defined for causal models."
        )
    raise ModelError(
        f"{layer}: its attention depends on {', '.join(sorted(unknown))}, which tracing does not "
        "know, so it would not be exact. Choose an estimator that reads no attention "
        "(entropy, consistency)."
    )


def _require_tracer() -> Tracer:
    tracer = _active.get()
    if tracer is None:
        raise ModelError(
            f"attention implementation {ATTENTION_NAME!r} works only inside trace_attention: load "
            'the model with attn_implementation="sdpa".'
        )
    return tracer


@functools.cache
def _announce_fallback(model_name: str, reason: str) -> None:
    """Log once per process and reason that the slower exact path is taken."""
    _log.warning("%s: %s; tracing by exact rows in chunks, which is slower.", model_name, reason)


AttentionInterface.register(ATTENTION_NAME, _attention_function)
AttentionMaskInterface.register(ATTENTION_NAME, _mask_function)

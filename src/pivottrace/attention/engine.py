"""Switches a loaded model to traced attention, for every architecture on transformers' interface.

One name is registered with `AttentionInterface` *and* with `AttentionMaskInterface`: with the first
alone the mask arrives as None and padded batches are silently wrong. What cannot be traced exactly
is refused by name, never approximated. Axes: B batch, H heads, T tokens.
"""

import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from pivottrace.attention.kernels import (
    ScoreRule,
    chunked_attention,
    fused_attention,
    why_not_fused,
)
from pivottrace.attention.masks import MaskSpec, causal_mask, dense_mask, describe_mask
from pivottrace.attention.statistics import LayerSignals, SignalSpec, layer_signals
from pivottrace.errors import ModelError

ATTENTION_NAME = "pivottrace"

# Masks of one forward that may be in use at once; an architecture has one a layer type.
_MASKS_KEPT = 16
# Tensors that layers pass along and that change nothing in q . k, softmax and v.
_HARMLESS_TENSORS = frozenset({"position_ids", "cache_position"})
# Layer types (`config.layer_types`) whose attention must have come by here.
_SOFTMAX_LAYERS = frozenset({"full_attention", "sliding_attention", "chunked_attention"})

_log = logging.getLogger(__name__)


@dataclass
class _Tracer:
    """State of one `trace_attention` block."""

    spec: SignalSpec
    consume: Callable[[int, LayerSignals], None]
    model_name: str
    masks: dict[int, MaskSpec] = field(default_factory=dict)
    masks_made: int = 0
    layers: set[int] = field(default_factory=set)
    modules: list[torch.nn.Module] = field(default_factory=list)

    def add_mask(self, mask: MaskSpec) -> torch.Tensor:
        """Keep a mask and return the (B, T) tensor that stands for it in the layers."""
        self.masks_made += 1
        self.masks[self.masks_made] = mask
        self.masks.pop(self.masks_made - _MASKS_KEPT, None)
        return mask.key_valid.long() * self.masks_made

    def find_mask(self, mask: torch.Tensor | None, query: torch.Tensor) -> MaskSpec:
        """Return the description behind what a layer was handed."""
        if mask is None:
            return causal_mask(query.shape[0], query.shape[2], query.device)
        if mask.dim() == 4:
            return dense_mask(mask)
        found = None
        if mask.dim() == 2 and mask.dtype == torch.long:
            found = self.masks.get(int(mask.max()))
        if found is None:
            raise ModelError(
                f"{self.model_name} alters its attention mask on the way to its layers "
                f"(a layer got {mask.dtype} {tuple(mask.shape)}), so it cannot be traced exactly."
            )
        return found


_active: ContextVar[_Tracer | None] = ContextVar("pivottrace_tracer", default=None)


@contextmanager
def trace_attention(
    model: Any, spec: SignalSpec, consume: Callable[[int, LayerSignals], None]
) -> Iterator[None]:
    """Trace every attention layer of the forwards run inside the block, outputs unchanged.

    The model is switched to traced attention and back. Forwards must be whole sequences without a
    cache (`use_cache=False`) and without dropout. `consume(layer, signals)` is called as each layer
    runs and should reduce what it gets: a dictionary's `__setitem__` keeps everything. A row of the
    batch is one sequence: of a packed row only the first sequence's sinks would be left out.

    Args:
        model: A `transformers` decoder.
        spec: Which statistics to read.
        consume: Receives the layer's index and its statistics, on the layer's device.

    Raises:
        ModelError: The model's attention bypasses the interface or cannot be traced exactly.
    """
    tracer = _Tracer(spec, consume, type(model).__name__)
    previous = _implementations(model)
    token = _active.set(tracer)
    try:
        _switch(model)
        yield
    finally:
        _active.reset(token)
        # `set_attn_implementation` would refuse some of the values that models start with.
        for config, implementation in previous:
            config._attn_implementation = implementation
    _check_every_layer_came(model, tracer)


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
    # A class that cannot be switched merely logs so, and stays as it was.
    if model.config._attn_implementation != ATTENTION_NAME:
        raise ModelError(
            f"{name} does not route its attention through transformers' AttentionInterface, so its "
            "attention cannot be traced. Choose an estimator that reads no attention (entropy, "
            "consistency), or another architecture (Llama, Qwen, Mistral, Gemma, ...)."
        )


def _check_every_layer_came(model: Any, tracer: _Tracer) -> None:
    """Refuse a model of which some softmax attention never called the registered function."""
    config = model.config.get_text_config()
    layer_types = getattr(config, "layer_types", None) or []
    expected = {i for i, kind in enumerate(layer_types) if kind in _SOFTMAX_LAYERS}
    missing = (expected & set(range(config.num_hidden_layers))) - tracer.layers
    kinds = {type(module) for module in tracer.modules}
    came = {id(module) for module in tracer.modules}
    missing |= {
        getattr(module, "layer_idx", -1)
        for module in model.modules()
        if type(module) in kinds and id(module) not in came
    }
    if tracer.layers and not missing:
        return
    which = f"attention of layers {sorted(missing)}" if tracer.layers else "attention"
    raise ModelError(
        f"{tracer.model_name}: its {which} did not run through transformers' AttentionInterface "
        "while it was traced, so it cannot be traced. Choose an estimator that reads no "
        "attention (entropy, consistency), or another architecture."
    )


def _mask_function(**arguments: Any) -> torch.Tensor | None:
    """Stand in for `sdpa_mask`: the mask's description, in place of the mask."""
    return _require_tracer().add_mask(describe_mask(arguments))


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
    """Attend, hand the layer's statistics on, and return the output as (B, T, H, E)."""
    tracer = _require_tracer()
    _check_call(tracer.model_name, module, query, key, dropout, is_causal, kwargs)
    mask = tracer.find_mask(attention_mask, query)
    rule = ScoreRule(query.shape[-1] ** -0.5 if scaling is None else scaling, softcap, s_aux)

    attend = fused_attention
    reason = why_not_fused(query, key, value, mask, rule)
    if reason is not None:
        _announce_fallback(tracer.model_name, reason)
        attend = chunked_attention
    output, local = attend(query, key, value, mask, rule, tracer.spec)

    layer = getattr(module, "layer_idx", None)
    layer = len(tracer.layers) if layer is None else int(layer)
    tracer.layers.add(layer)
    tracer.modules.append(module)
    tracer.consume(layer, layer_signals(local, tracer.spec))
    return output, None


def _check_call(
    model_name: str,
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    dropout: float,
    is_causal: bool | None,
    kwargs: dict[str, Any],
) -> None:
    """Refuse a layer whose attention is not what the kernels compute."""
    layer = f"{model_name}, {type(module).__name__}"
    if dropout:
        raise ModelError(f"{layer}: attention dropout is on; call model.eval() before tracing.")
    if query.shape[2] != key.shape[2]:
        raise ModelError(
            f"{layer}: {query.shape[2]} queries against {key.shape[2]} keys; trace whole "
            "sequences in one forward with use_cache=False."
        )
    if not (getattr(module, "is_causal", True) if is_causal is None else is_causal):
        raise ModelError(
            f"{layer}: attention is bidirectional; far mass is defined for causal models."
        )
    unknown = sorted(
        name
        for name, given in kwargs.items()
        if isinstance(given, torch.Tensor) and name not in _HARMLESS_TENSORS
    )
    if unknown:
        raise ModelError(
            f"{layer}: its attention depends on {', '.join(unknown)}, which tracing does not "
            "know, so it would not be exact. Choose an estimator that reads no attention "
            "(entropy, consistency)."
        )


def _require_tracer() -> _Tracer:
    tracer = _active.get()
    if tracer is None:
        raise ModelError(
            f"attention implementation {ATTENTION_NAME!r} works only inside trace_attention: load "
            'the model with attn_implementation="sdpa".'
        )
    return tracer


@functools.cache
def _announce_fallback(model_name: str, reason: str) -> None:
    """Say once a process and reason that the slower exact path is taken."""
    _log.warning("%s: %s; tracing by exact rows in chunks, which is slower.", model_name, reason)


AttentionInterface.register(ATTENTION_NAME, _attention_function)
AttentionMaskInterface.register(ATTENTION_NAME, _mask_function)

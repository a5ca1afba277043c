"""A copy of the model in training that samples in bfloat16, where the CPU is fast in it.

Trained weights are float32, and autocast would cast all of them again for each token. A copy is
cast once per step. Adapters are merged into it, which saves their own products. Samplers beside a
trainer, such as vLLM, hold such a copy too.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from pivottrace.models.compact import generate_compacting


@contextmanager
def sampling_from_copy(model: Any) -> Iterator[None]:
    """Let `model.generate` sample from a bfloat16 copy inside the block, dropping ended rows.

    Args:
        model: A causal language model without adapters. They may be put in inside the block.
    """
    half = _half_copy(model)

    def generate(**arguments: Any) -> torch.Tensor:
        _take_over(half, model)
        return generate_compacting(half, **arguments)

    model.generate = generate
    try:
        yield
    finally:
        # This is the instance's attribute only: the method of the class is visible again.
        del model.generate


def _half_copy(model: Any) -> Any:
    half = copy.deepcopy(model).eval().requires_grad_(False)
    for weight in half.parameters():  # buffers, such as the frequencies of RoPE, stay as they are
        weight.data = weight.data.bfloat16()
    half.generation_config = model.generation_config  # the trainer still sets its padding token
    return half


@torch.no_grad()
def _take_over(half: Any, model: Any) -> None:
    """Copy the weights of a model into its copy, adapters merged."""
    for name, weight in half.named_parameters():
        place, _, kind = name.rpartition(".")
        module = model.get_submodule(place)
        value = getattr(getattr(module, "base_layer", module), kind)
        if kind == "weight" and hasattr(module, "get_delta_weight"):
            deltas = (module.get_delta_weight(adapter) for adapter in module.active_adapters)
            value = sum(deltas, start=value.float())
        weight.copy_(value)

"""A copy of the model in training that samples in bfloat16, where the CPU is fast in it.

Trained weights are float32. Autocast would cast all of them for each token, and peft's adapters
would be multiplied apart. The copy is cast once per step, with the adapters merged into it. A
sampler beside a trainer, such as vLLM, holds such a copy too.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from pivottrace.models.compact import compacting


class HalfCopy:
    """A bfloat16 copy of a model.

    Args:
        model: A causal language model without adapters. They may be put in later.
    """

    def __init__(self, model: Any) -> None:
        self._model, self._half = model, copy.deepcopy(model).eval().requires_grad_(False)
        for weight in self._half.parameters():
            weight.data = weight.data.bfloat16()
        for name, buffer in self._half.named_buffers():
            # RoPE needs its frequencies in float32. Other buffers are added to the states.
            if buffer.is_floating_point() and not name.endswith("inv_freq"):
                buffer.data = buffer.data.bfloat16()
        self._half.generation_config = model.generation_config  # a trainer still sets its padding

    @contextmanager
    def sampling(self) -> Iterator[None]:
        """Let `model.generate` sample from the copy inside the block, with the present weights."""
        self._take_over()
        with compacting(self._model, self._half):
            yield

    @torch.no_grad()
    def _take_over(self) -> None:
        for name, weight in self._half.named_parameters():
            place, _, kind = name.rpartition(".")
            module = self._model.get_submodule(place)
            value = getattr(getattr(module, "base_layer", module), kind)
            if kind == "weight" and hasattr(module, "get_delta_weight"):
                deltas = (module.get_delta_weight(adapter) for adapter in module.active_adapters)
                value = sum(deltas, start=value.float())
            weight.copy_(value)

"""Whether the CPU multiplies matrices in half precision, or only emulates it."""

from __future__ import annotations

import functools
import logging

import torch

_INSTRUCTIONS = {
    "bfloat16": ("amx_bf16", "avx512_bf16"),
    "float16": ("amx_fp16", "avx512_fp16"),
}
_log = logging.getLogger(__name__)


def cpu_multiplies(dtype: str) -> bool:
    """Whether the CPU has products of `bfloat16` or `float16`.

    False too where it cannot be told: with torch 2.10, and on an ARM processor.
    """
    if not hasattr(torch.cpu, "get_capabilities"):
        return False
    found = torch.cpu.get_capabilities()
    return any(found.get(name) for name in _INSTRUCTIONS[dtype])


@functools.cache
def warn_of_slow_products(setting: str, dtype: str) -> None:
    """Log once per process that a setting is slow on this CPU, if it seems to be."""
    if not cpu_multiplies(dtype):
        _log.warning(
            "%s is %s: float32 is faster on a CPU without products of it, as this one seems to be",
            setting,
            dtype,
        )

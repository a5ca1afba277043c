"""Whether the CPU multiplies matrices in half precision, or only emulates it."""

from __future__ import annotations

import functools
import logging
import platform
from typing import Any

import torch

_INSTRUCTIONS = {  # of x86; ARM processors have others, not looked at
    torch.bfloat16: ("amx_bf16", "avx512_bf16"),
    torch.float16: ("amx_fp16", "avx512_fp16"),
}
_log = logging.getLogger(__name__)


def cpu_multiplies(dtype: torch.dtype) -> bool | None:
    """Whether the CPU has products of bfloat16 or float16.

    None where that is not known: with torch 2.10, and on another processor than x86.
    """
    is_x86 = platform.machine() in ("x86_64", "AMD64")
    if not is_x86 or not hasattr(torch.cpu, "get_capabilities"):
        return None
    found = torch.cpu.get_capabilities()
    return any(found.get(name) for name in _INSTRUCTIONS[dtype])


def warn_of_slow_model(model: Any) -> None:
    """Log once per process that a model's own number format is slow on the CPU, if it is."""
    if model.device.type == "cpu":
        warn_of_slow_products("model.dtype", model.dtype)


@functools.cache
def warn_of_slow_products(setting: str, dtype: torch.dtype) -> None:
    """Log once per process that a setting makes the CPU emulate its products, if it does."""
    if dtype in _INSTRUCTIONS and cpu_multiplies(dtype) is False:
        name = str(dtype).removeprefix("torch.")
        _log.warning("%s is %s, which this CPU only emulates; auto is faster here", setting, name)

"""The actor on a node, and its stand-ins in the driver."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch

from pivottrace.attention.recorder import Heads
from pivottrace.attention.token_signals import TokenSignals
from pivottrace.models.backends import sampler_for
from pivottrace.models.response_tracer import Row, Tracer
from pivottrace.models.sampler import Sampling
from pivottrace.run.records import installed_versions

Call = Callable[..., Any]
"""A function of a method's name and its arguments, which calls the open object on a node."""


class Worker:
    """An actor that holds one open sampler or tracer."""

    _opened: Any = None

    def open(self, opener: Call, arguments: tuple[Any, ...], told: Sequence[str]) -> dict[str, Any]:
        """Open it, and tell the versions here, its attributes `told`, and its facts.

        The object of before is closed first, because two models may not fit.
        """
        self._opened = None
        gc.collect()
        torch.cuda.empty_cache()
        self._opened = opener(*arguments)
        facts = self._opened.digests if isinstance(self._opened, Tracer) else self._opened.facts()
        of_it = {name: getattr(self._opened, name) for name in told}
        return {"versions": installed_versions(), "facts": facts, **of_it}

    def call(self, method: str, arguments: tuple[Any, ...]) -> Any:
        """Call a method of the open object."""
        return getattr(self._opened, method)(*arguments)


class Remote:
    """It stands in the driver for the objects that are open on the nodes."""

    call: ClassVar[str]
    told: ClassVar[tuple[str, ...]] = ()

    def __init__(self, call: Call, told: dict[str, Any]) -> None:
        self._call, self._told = call, told


class RemoteSampler(Remote):
    """A `Sampler` on the nodes."""

    call = "sample"
    told = ("tokenizer", "max_positions")

    @property
    def tokenizer(self) -> Any:
        """As in `Sampler`."""
        return self._told["tokenizer"]

    @property
    def max_positions(self) -> int | None:
        """As in `Sampler`."""
        found: int | None = self._told["max_positions"]
        return found

    def facts(self) -> dict[str, Any]:
        """As in `Sampler`, when it was opened."""
        return dict(self._told["facts"])

    def sample(self, prompts: Sequence[Sequence[int]], settings: Sampling) -> list[list[list[int]]]:
        """As in `Sampler`."""
        found: list[list[list[int]]] = self._call("sample", prompts, settings)
        return found


class RemoteTracer(Remote):
    """A `Tracer` on the nodes."""

    call = "trace"

    @property
    def digests(self) -> dict[str, str]:
        """As in `Tracer`."""
        return dict(self._told["facts"])

    def trace(self, rows: Sequence[Row], heads: Heads | None) -> list[TokenSignals]:
        """As in `Tracer`."""
        found: list[TokenSignals] = self._call("trace", rows, heads)
        return found


REMOTE: dict[Any, type[RemoteSampler] | type[RemoteTracer]] = {
    sampler_for: RemoteSampler,
    Tracer: RemoteTracer,
}

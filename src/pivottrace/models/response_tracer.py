"""The model that traces greedy responses, in batches of similar length."""

from __future__ import annotations

from collections.abc import Sequence

from pivottrace.attention.recorder import Heads
from pivottrace.attention.token_signals import TokenSignals
from pivottrace.attention.tracing import trace_responses
from pivottrace.config import ModelConfig, TraceConfig
from pivottrace.models.digests import digests
from pivottrace.models.half_products import warn_of_slow_model
from pivottrace.models.load import load_model

Row = tuple[Sequence[int], Sequence[int]]
"""The tokens of a prompt, and of the response to it."""


class Tracer:
    """An open model that traces responses.

    Args:
        model: The model.
        settings: `[trace]`.
        window: Tokens that count as near (`trace.window`, or that of the pivots).

    Attributes:
        digests: The digests of weights and tokenizer, as `models.digests`.

    Raises:
        ModelError: The model cannot be loaded.
    """

    def __init__(self, model: ModelConfig, settings: TraceConfig, window: int) -> None:
        self._model, tokenizer = load_model(model)
        warn_of_slow_model(self._model)
        self._settings, self._window, self._pad = settings, window, tokenizer.pad_token_id
        self.digests = digests(self._model, tokenizer)

    def trace(self, rows: Sequence[Row], heads: Heads | None) -> list[TokenSignals]:
        """Trace responses, by the chosen heads or by all.

        Returns:
            (N,) the signals of each row.

        Raises:
            ModelError: The model cannot be traced.
        """
        found: dict[int, TokenSignals] = {}
        by_length = sorted(range(len(rows)), key=lambda i: len(rows[i][0]) + len(rows[i][1]))
        for start in range(0, len(by_length), self._settings.batch_size):
            batch = by_length[start : start + self._settings.batch_size]
            signals = trace_responses(
                self._model,
                [rows[i] for i in batch],
                window=self._window,
                num_sinks=self._settings.num_sinks,
                heads=heads,
                layout="right",  # all questions start alike, so their mass is cheap
                pad_token_id=self._pad,
            )
            found |= dict(zip(batch, signals, strict=True))
        return [found[i] for i in range(len(rows))]

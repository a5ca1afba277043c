"""Generate with a model and trace the output: during decoding, or by one pass afterwards.

The cheaper way depends on the machine, the model and the batch. A pass afterwards costs one forward
of all tokens. That is little if decoding waits for memory (one sequence, a GPU), and as much as
decoding itself if decoding computes (large batches on a CPU). Axes: B batch, P prompt tokens, N new
tokens.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch

from pivottrace.attention.engine import recording
from pivottrace.attention.next_token import decoder_of
from pivottrace.attention.reading import QUERY_BLOCK
from pivottrace.attention.recorder import AttentionTrace, Heads
from pivottrace.attention.row_statistics import FarMass, Statistic
from pivottrace.attention.tracer import Tracer
from pivottrace.attention.tracing import trace
from pivottrace.errors import ConfigError

How = Literal["auto", "decoding", "afterwards"]


class TracedGeneration(NamedTuple):
    """The output of a generation, and its trace.

    Attributes:
        output: The return value of the model's `generate`.
        trace: `trace[stat]` is (B, P + N - 1). The last token has no row, because the model did not
            read it.
        how: `decoding` or `afterwards`.
    """

    output: Any
    trace: AttentionTrace
    how: str


@torch.no_grad()
def generate_traced(
    model: Any,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    *,
    stats: Sequence[Statistic] = (FarMass(),),
    heads: Heads | None = None,
    per_head: bool = False,
    how: How = "auto",
    **settings: Any,
) -> TracedGeneration:
    """Generate like `model.generate`, and trace prompts and responses.

    With `auto`, decoding is traced, and the two ways are compared on this batch every 64 tokens.
    One cost is the seconds that tracing has added so far, since as many tokens again would cost as
    much. The other is a forward of all tokens by then, extrapolated from the forwards of the prompt
    and of the steps. Once a pass afterwards is cheaper, tracing stops and that pass is made. The
    tokens after the end of a sequence are padding, with value 0. If decoding is traced, the
    `FutureInfluence` of its last tokens counts attention from padding too.

    Args:
        model: A causal language model from `transformers`.
        input_ids: (B, P), padded on the left.
        attention_mask: (B, P); None if all tokens are real.
        stats: Statistics to read, from `pivottrace.attention`. The question is the prompt.
        heads: Heads to read, by layer index, as from `profile_heads`; None for all.
        per_head: Keep each head's values, not only their mean.
        how: `auto`, `decoding` or `afterwards`; the values differ by rounding only.
        **settings: Passed on to `model.generate`, greedy or sampled. With `num_return_sequences`, B
            counts all returned sequences.

    Raises:
        ConfigError: `how` is not one of the three, no statistic or no head is asked for, or beam
            search is asked for.
        ModelError: The model cannot be traced.
    """
    if how not in ("auto", "decoding", "afterwards"):
        raise ConfigError(f"how={how!r}: give auto, decoding or afterwards.")
    if attention_mask is None:
        attention_mask = torch.ones_like(input_ids)
    if _setting(model, settings, "num_beams") not in (None, 1):
        raise ConfigError("beam search reorders the cache and cannot be traced: set num_beams=1.")
    inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
    copies = _setting(model, settings, "num_return_sequences") or 1
    attention_mask = attention_mask.repeat_interleave(copies, dim=0)
    lengths = attention_mask.sum(dim=1)
    recorder = None
    if how != "afterwards":
        recorder = AttentionTrace(stats, heads, per_head)
        with recording(model, recorder, lengths) as tracer, _choosing(model, tracer, how):
            output = model.generate(**inputs, **settings)
        recorder = None if tracer.paused else recorder
    else:
        output = model.generate(**inputs, **settings)
    # True up to each sequence's end: written (B, N), whole (B, P + N - 1).
    sequences = output if isinstance(output, torch.Tensor) else output.sequences
    written = sequences[:, attention_mask.shape[1] :]
    is_real = _before_the_end(written, _setting(model, settings, "eos_token_id"))
    whole = torch.cat([attention_mask, is_real.to(attention_mask.dtype)], dim=1)[:, :-1]
    if recorder is not None:
        recorder.check_layers()
        recorder.clear(whole.cpu().bool())
        return TracedGeneration(output, recorder, "decoding")
    # One pass over prompts and responses, (B, P + N - 1) tokens.
    traced = trace(
        model,
        sequences[:, :-1],
        whole,
        stats=stats,
        heads=heads,
        per_head=per_head,
        prompt_lengths=lengths,
    )
    return TracedGeneration(output, traced, "afterwards")


def _setting(model: Any, settings: dict[str, Any], name: str) -> Any:
    """Return the value that `generate` uses, from the call or the generation configuration."""
    if name in settings:
        return settings[name]
    return getattr(settings.get("generation_config") or model.generation_config, name, None)


def _before_the_end(written: torch.Tensor, ends: int | Sequence[int] | None) -> torch.Tensor:
    """(B, N) True up to and with each sequence's first end-of-sequence token."""
    if ends is None:
        return torch.ones_like(written, dtype=torch.bool)
    is_end = torch.isin(written, torch.tensor(ends, device=written.device))
    return is_end.cumsum(dim=1) - is_end.long() == 0


@contextmanager
def _choosing(model: Any, tracer: Tracer, how: How) -> Iterator[None]:
    """Let the tracer pause inside the block when a pass afterwards has turned out cheaper."""
    if how != "auto":
        yield
        return
    chooser = _Chooser(tracer)
    decoder = decoder_of(model)
    hooks = [
        decoder.register_forward_pre_hook(chooser.before, with_kwargs=True),
        decoder.register_forward_hook(chooser.after),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class _Chooser:
    """Time the decoder's forwards, and decide after each block of decoded tokens.

    A forward of m tokens per sequence is assumed to cost `fixed + m * slope`. The forwards of the
    prompt and of the steps give both.
    """

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._calls = self._prompt_tokens = 0
        self._started = self._prompt_seconds = self._step_seconds = 0.0

    def before(self, decoder: Any, args: Any, kwargs: dict[str, Any]) -> None:
        """Note when a forward starts, and how long the prompt is."""
        if self._calls == 0:
            given = kwargs.get("input_ids", args[0] if args else None)
            given = kwargs["inputs_embeds"] if given is None else given
            self._prompt_tokens = given.shape[1]
            _wait_for(given.device)
        self._started = time.perf_counter()

    def after(self, decoder: Any, args: Any, output: Any) -> None:
        """Note how long the forward took, and decide after a block."""
        if self._calls == 0:
            _wait_for(output.last_hidden_state.device)
            self._prompt_seconds = time.perf_counter() - self._started
        else:
            self._step_seconds += time.perf_counter() - self._started
        steps = self._calls
        self._calls += 1
        if steps and steps % QUERY_BLOCK == 0 and not self._tracer.paused:
            self._decide(steps)

    def _decide(self, steps: int) -> None:
        # We expect as many tokens again as have come so far. The cost of tokens that are already
        # read is sunk.
        fixed = (self._step_seconds - self._tracer.seconds) / steps
        slope = max(self._prompt_seconds - fixed, 0.0) / max(self._prompt_tokens - 1, 1)
        if fixed + slope * (self._prompt_tokens + 2 * steps) < self._tracer.seconds:
            self._tracer.pause()


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)

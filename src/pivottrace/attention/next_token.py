"""Signals of the distributions that produced a response, without (B, T, V) logits.

Axes: B batch, T tokens, N response rows of the whole batch, V vocabulary.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

from pivottrace.errors import ModelError

# Logits held at once: 64 MiB in float32, 110 rows of a vocabulary of 152 k.
MAX_CHUNK_LOGITS = 1 << 24


class NextTokenSignals(NamedTuple):
    """Signals per row of logits; NaN if a logit is NaN or +inf.

    Attributes:
        entropy: (N,) nats, in [0, ln V].
        log_prob: (N,) log-probability of the token that followed, nats, <= 0.
        self_certainty: (N,) KL(U || p), nats, >= 0; higher is more certain. U is uniform over the
            V' tokens with a probability above 0, so it is `-ln V' - mean_v ln p_v` over these.
        margin: (N,) difference of the two largest logits, >= 0.
    """

    entropy: torch.Tensor
    log_prob: torch.Tensor
    self_certainty: torch.Tensor
    margin: torch.Tensor


def next_token_signals(logits: torch.Tensor, targets: torch.Tensor) -> NextTokenSignals:
    """Summarise next-token distributions. A token with logit -inf has probability 0.

    Args:
        logits: (N, V), of any floating dtype; the computation is in float32 at least.
        targets: (N,) the tokens that followed.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    log_probs = logits.log_softmax(dim=-1)
    entropy = torch.special.entr(log_probs.exp()).sum(dim=-1)
    log_prob = log_probs.gather(-1, targets[:, None])[:, 0]
    top2 = logits.topk(2, dim=-1).values
    return NextTokenSignals(entropy, log_prob, _self_certainty(log_probs), top2[:, 0] - top2[:, 1])


def _self_certainty(log_probs: torch.Tensor) -> torch.Tensor:
    """Return (N,) KL(U || p) of (N, V). Entries of -inf would make it infinite and are left out."""
    is_possible = log_probs != -torch.inf
    count = is_possible.sum(dim=-1)
    total = torch.where(is_possible, log_probs, 0.0).sum(dim=-1)
    # Rounding can take the uniform distribution slightly below zero.
    return (-count.log() - total / count).clamp(min=0.0)


def signals_from_hidden(
    model: Any, decoder_output: Any, rows: torch.Tensor, targets: torch.Tensor
) -> NextTokenSignals:
    """Apply the model's own head to chosen rows of its decoder's output, chunk by chunk.

    The head is the model's whole `forward`, with a decoder in place that returns the chunk. So
    logit scaling, soft-capping and other steps of the architecture are its own.

    Args:
        model: A causal language model whose `base_model` is its decoder.
        decoder_output: The output of `base_model`; its `last_hidden_state` is (B, T, hidden).
        rows: (N, 2) of (sequence, position).
        targets: (N,) the tokens that followed these rows.

    Raises:
        ModelError: The model has no decoder apart from its head.
    """
    states = decoder_output.last_hidden_state
    rows = rows.to(states.device)
    hidden = states[rows[:, 0], rows[:, 1]]  # (N, hidden)
    chunk = max(1, MAX_CHUNK_LOGITS // model.config.get_text_config().vocab_size)
    parts = []
    # An empty batch of rows still goes through once, to get the dtype and device of the result.
    for start in range(0, max(1, len(hidden)), chunk):
        states = hidden[None, start : start + chunk]
        token_ids = targets[None, start : start + chunk].to(states.device)
        with _decoder_returns(model, type(decoder_output)(last_hidden_state=states)):
            logits = model(input_ids=token_ids, use_cache=False).logits[0]
        parts.append(next_token_signals(logits, token_ids[0].to(logits.device)))
    return NextTokenSignals(*(torch.cat(column) for column in zip(*parts, strict=True)))


@contextmanager
def _decoder_returns(model: Any, output: Any) -> Iterator[None]:
    """Make a model's decoder return `output` inside the block, for any arguments."""
    decoder = decoder_of(model)
    # It is set on the instance, as hooks of multi-device models may be. So the block puts back
    # exactly the earlier value.
    had = vars(decoder).get("forward")
    decoder.forward = lambda *args, **kwargs: output
    try:
        yield
    finally:
        if had is None:
            del decoder.forward
        else:
            decoder.forward = had


def decoder_of(model: Any) -> Any:
    """Return a causal language model's decoder, which is everything without the head.

    Raises:
        ModelError: The model has no decoder apart from its head.
    """
    decoder = getattr(model, "base_model", model)
    if decoder is model:  # Llama 4 has another name for its prefix
        decoder = getattr(model, "model", model)
    if decoder is model:
        raise ModelError(
            f"{type(model).__name__} has no decoder apart from its head (`base_model`); load it "
            "as a causal language model (AutoModelForCausalLM)."
        )
    return decoder

"""What the distributions that produced a response say, without (B, T, V) logits.

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
    """Per row of logits; NaN where a logit is NaN or +inf.

    Attributes:
        entropy: (N,) nats, in [0, ln V].
        log_prob: (N,) log-probability of the token that followed, nats, <= 0.
        self_certainty: (N,) KL(U || p), U uniform over the tokens that have a probability at all:
            `-ln V' - mean_v ln p_v` over these V', nats, >= 0; higher is more certain.
        margin: (N,) difference of the two largest logits, >= 0.
    """

    entropy: torch.Tensor
    log_prob: torch.Tensor
    self_certainty: torch.Tensor
    margin: torch.Tensor


def next_token_signals(logits: torch.Tensor, targets: torch.Tensor) -> NextTokenSignals:
    """Summarise next-token distributions; a logit of -inf is a token of probability 0.

    Args:
        logits: (N, V), any floating dtype; computed in float32 at least.
        targets: (N,) the tokens that followed.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    log_probs = logits.log_softmax(dim=-1)
    entropy = torch.special.entr(log_probs.exp()).sum(dim=-1)
    log_prob = log_probs.gather(-1, targets[:, None])[:, 0]
    top2 = logits.topk(2, dim=-1).values
    return NextTokenSignals(entropy, log_prob, _self_certainty(log_probs), top2[:, 0] - top2[:, 1])


def _self_certainty(log_probs: torch.Tensor) -> torch.Tensor:
    """(N,) KL(U || p) of (N, V); entries masked with -inf would make it infinite: left out."""
    is_possible = log_probs != -torch.inf
    count = is_possible.sum(dim=-1)
    total = torch.where(is_possible, log_probs, 0.0).sum(dim=-1)
    # Rounding takes the uniform distribution a hair below zero.
    return (-count.log() - total / count).clamp(min=0.0)


def signals_from_hidden(
    model: Any, decoder_output: Any, rows: torch.Tensor, targets: torch.Tensor
) -> NextTokenSignals:
    """Apply the model's own head to chosen rows of its decoder's output, a chunk at a time.

    The head is the model's whole `forward` with its decoder replaced by one that returns the chunk:
    so logit scaling, soft-capping and whatever else an architecture does there are its own.

    Args:
        model: A causal language model whose `base_model` is its decoder.
        decoder_output: What `base_model` returned; its `last_hidden_state` is (B, T, hidden).
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
    # An empty batch of rows still goes through once, for the dtype and device of the result.
    for start in range(0, max(1, len(hidden)), chunk):
        states = hidden[None, start : start + chunk]
        token_ids = targets[None, start : start + chunk].to(states.device)
        with _decoder_returns(model, type(decoder_output)(last_hidden_state=states)):
            logits = model(input_ids=token_ids, use_cache=False).logits[0]
        parts.append(next_token_signals(logits, token_ids[0].to(logits.device)))
    return NextTokenSignals(*(torch.cat(column) for column in zip(*parts, strict=True)))


@contextmanager
def _decoder_returns(model: Any, output: Any) -> Iterator[None]:
    """Make a model's decoder return `output` inside the block, whatever it is called with."""
    decoder = decoder_of(model)
    # Set on the instance, as hooks of multi-device models may be: put back exactly what was there.
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
    """Return a causal language model's decoder: everything but the head.

    Raises:
        ModelError: The model has none.
    """
    decoder = getattr(model, "base_model", model)
    if decoder is model:  # Llama 4 names its prefix otherwise
        decoder = getattr(model, "model", model)
    if decoder is model:
        raise ModelError(
            f"{type(model).__name__} has no decoder apart from its head (`base_model`); load it "
            "as a causal language model (AutoModelForCausalLM)."
        )
    return decoder

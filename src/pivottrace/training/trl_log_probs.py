"""Log-probabilities of completions, without the work that padding and prompts would cost.

TRL pads prompts on the left and completions on the right. On a CPU it also puts every position
through the head, prompts and padding too. Here each row begins at the left, so that a batch is as
wide as its longest row and no mask is needed, and only completion tokens reach the head. The
numbers are the same up to rounding. Only a model with learned absolute positions (GPT-2) differs:
TRL counts padding as positions there, and we do not.

Axes: B rows, P prompt columns, T completion columns, S columns of the aligned batch, N completion
tokens of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


def completion_log_probs(
    model: Any,
    decoder: Any,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    num_columns: int,
    batch_size: int,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Log-probability and entropy of each completion token, by a model with TRL's fused head.

    Rows of like length share a batch.

    Args:
        model: A causal language model that has TRL's fused head, wrapped or not.
        decoder: The module in it whose last hidden states the head takes.
        input_ids: (B, P + T), prompts padded on the left, completions on the right.
        attention_mask: (B, P + T), 0 on the padding; each row has a prompt.
        num_columns: T.
        batch_size: Rows of a forward pass.

    Returns:
        (B, T) log-probabilities in nats, and (B, T) entropies in nats (None where the head gives
        none); both are 0 on the padding.
    """
    lengths = attention_mask.sum(dim=1)  # (B,)
    order = torch.arange(len(lengths), device=lengths.device)
    if len(order) > batch_size:
        order = torch.argsort(lengths, stable=True)
    parts = [
        _one_batch(model, decoder, input_ids[rows], attention_mask[rows], num_columns)
        for rows in order.split(batch_size)
    ]
    back = torch.argsort(order)
    log_probs = torch.cat([part[0] for part in parts])[back]
    entropies = [part[1] for part in parts if part[1] is not None]
    return log_probs, torch.cat(entropies)[back] if entropies else None


def _one_batch(
    model: Any,
    decoder: Any,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    num_columns: int,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """As `completion_log_probs`, for the rows of one forward pass."""
    is_completion = attention_mask[:, -num_columns:].bool()  # (B, T)
    row, column = is_completion.nonzero(as_tuple=True)  # (N,) each
    targets = input_ids[:, -num_columns:][row, column]  # (N,)
    prompt_lengths = attention_mask[:, :-num_columns].sum(dim=1)  # (B,)
    # A token is predicted by the state before it.
    places = (row, prompt_lengths[row] + column - 1)
    with _only_states_at(decoder, places):
        # Causal attention never looks right, where the padding is: a mask would change nothing.
        output = model(
            input_ids=_aligned(input_ids, attention_mask),
            shift_labels=targets[None],
            fused_lm_head=True,
        )
    entropy = None if output.entropy is None else _back_in_columns(output.entropy, is_completion)
    return _back_in_columns(output.log_probs, is_completion), entropy


def _aligned(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """(B, S) ids whose rows begin at the first column; what follows a row's end is any token."""
    first = attention_mask.argmax(dim=1, keepdim=True)  # (B, 1)
    width = int(attention_mask.sum(dim=1).max())
    columns = first + torch.arange(width, device=input_ids.device)  # (B, S)
    return input_ids.gather(1, columns.clamp(max=input_ids.size(1) - 1))


def _back_in_columns(values: torch.Tensor, is_completion: torch.Tensor) -> torch.Tensor:
    """(1, N) values of completion tokens in their places in (B, T), 0 elsewhere."""
    return values.new_zeros(is_completion.shape).masked_scatter(is_completion, values)


@contextmanager
def _only_states_at(decoder: Any, places: tuple[torch.Tensor, torch.Tensor]) -> Iterator[None]:
    """Make a decoder return (1, N, hidden): its last hidden states at (row, position) places."""

    def pick(module: Any, args: Any, output: Any) -> None:
        output.last_hidden_state = output.last_hidden_state[places][None]

    handle = decoder.register_forward_hook(pick)
    try:
        yield
    finally:
        handle.remove()

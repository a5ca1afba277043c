"""Lay (prompt, response) token lists out as one batch, and locate the rows that carry the signals.

Axes: B batch, T tokens, P prompt tokens, n response tokens, N response rows of the whole batch.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pivottrace.attention.next_token import decoder_of
from pivottrace.errors import ConfigError, DataError, ModelError

TokenPairs = Sequence[tuple[Sequence[int], Sequence[int]]]
LAYOUTS = ("left", "right", "packed")


@dataclass(frozen=True)
class Batch:
    """One batch, padded to one length or packed into one row.

    Attributes:
        input_ids: (B, T) prompt and response. The last response token is left out, because the
            model predicts it and never reads it.
        attention_mask: (B, T) 1 at real tokens, 0 at padding; None if the row is packed.
        position_ids: (B, T) They count the tokens of each sequence from 0.
        places: For each sequence, its row of the batch and the positions of the queries that
            produced its response.
        prompt_lengths: (B, R) number of prompt tokens of each sequence in a row.
        responses: The responses, whole.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor | None
    position_ids: torch.Tensor
    places: list[tuple[int, slice]]
    prompt_lengths: torch.Tensor
    responses: list[list[int]]


def make_batch(model: Any, sequences: TokenPairs, layout: str, pad_token_id: int) -> Batch:
    """Check sequences against a model and lay them out.

    Args:
        model: The sequences are checked against the limits of this model.
        sequences: (prompt, response) token lists.
        layout: "left" or "right" padding, or "packed". Packed sequences follow one another in a
            single row, so there is no padding.
        pad_token_id: Token that fills the padding.

    Raises:
        ConfigError: `layout` is not one of the three.
        DataError: A prompt is empty, or a token is outside the vocabulary.
        ModelError: A sequence is longer than the model's positions, or the sequences cannot be
            packed because the decoder takes no positions.
    """
    if layout not in LAYOUTS:
        raise ConfigError(f"layout must be one of {', '.join(LAYOUTS)}, not {layout!r}.")
    if layout == "packed" and not takes_positions(model):
        raise ModelError(
            f"{type(model).__name__} takes no position_ids, so sequences cannot be packed: use "
            'layout "left".'
        )
    _check_lengths(model, sequences)
    batch = _packed(sequences) if layout == "packed" else _padded(sequences, layout, pad_token_id)
    _check_vocabulary(model, batch)
    return batch


def _padded(sequences: TokenPairs, side: str, pad_token_id: int) -> Batch:
    inputs = [[*prompt, *response[:-1]] for prompt, response in sequences]
    longest = max(len(row) for row in inputs)
    input_ids = torch.full((len(inputs), longest), pad_token_id, dtype=torch.long)
    attention_mask = torch.zeros_like(input_ids)
    places = []
    for index, (row, (prompt, response)) in enumerate(zip(inputs, sequences, strict=True)):
        # The sequence fills [start, start + its length) of its row; the rest stays padding.
        start = longest - len(row) if side == "left" else 0
        input_ids[index, start : start + len(row)] = torch.tensor(row)
        attention_mask[index, start : start + len(row)] = 1
        first = start + len(prompt) - 1
        places.append((index, slice(first, first + len(response))))
    positions = (attention_mask.cumsum(dim=-1) - 1).clamp(min=0)
    lengths = torch.tensor([[len(prompt)] for prompt, _ in sequences])
    responses = [list(response) for _, response in sequences]
    return Batch(input_ids, attention_mask, positions, places, lengths, responses)


def _packed(sequences: TokenPairs) -> Batch:
    tokens: list[int] = []
    positions: list[int] = []
    places = []
    for prompt, response in sequences:
        first = len(tokens) + len(prompt) - 1
        places.append((0, slice(first, first + len(response))))
        row = [*prompt, *response[:-1]]
        tokens += row
        positions += range(len(row))
    lengths = torch.tensor([[len(prompt) for prompt, _ in sequences]])
    responses = [list(response) for _, response in sequences]
    ids, places_of = torch.tensor([tokens]), torch.tensor([positions])
    return Batch(ids, None, places_of, places, lengths, responses)


def decoder_inputs(model: Any, batch: Batch) -> dict[str, Any]:
    """Make the keyword arguments of the decoder's forward."""
    inputs: dict[str, Any] = {"input_ids": batch.input_ids.to(model.device), "use_cache": False}
    if batch.attention_mask is not None:
        inputs["attention_mask"] = batch.attention_mask.to(model.device)
    # Architectures without this argument derive positions from the attention mask themselves.
    if takes_positions(model):
        inputs["position_ids"] = batch.position_ids.to(model.device)
    return inputs


def takes_positions(model: Any) -> bool:
    """Whether a model's decoder takes the positions of its tokens."""
    return "position_ids" in inspect.signature(decoder_of(model).forward).parameters


def response_rows(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """List the rows that produced the responses, one response after another, and their tokens.

    Returns:
        (N, 2) pairs of (row of the batch, position), and (N,) token ids.
    """
    # (N, 2): every query position that produced a response token.
    rows = [
        (row, position) for row, span in batch.places for position in range(span.start, span.stop)
    ]
    targets = [token for response in batch.responses for token in response]
    return (
        torch.tensor(rows, dtype=torch.long).reshape(-1, 2),
        torch.tensor(targets, dtype=torch.long),
    )


def _check_lengths(model: Any, sequences: TokenPairs) -> None:
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    for index, (prompt, response) in enumerate(sequences):
        if len(prompt) == 0:
            raise DataError(
                f"sequence {index} has an empty prompt, so nothing produced its first token: give "
                "the prompt at least one token (a beginning-of-sequence token will do)."
            )
        length = len(prompt) + len(response)
        if limit is not None and length > limit:
            raise ModelError(
                f"sequence {index} has {length} tokens ({len(prompt)} prompt, {len(response)} "
                f"response), but {type(model).__name__} has max_position_embeddings={limit}: "
                "shorten the prompt or lower the maximum number of new tokens."
            )


def _check_vocabulary(model: Any, batch: Batch) -> None:
    size = model.get_input_embeddings().weight.shape[0]
    last_tokens = [token for response in batch.responses for token in response[-1:]]
    lowest = min([int(batch.input_ids.min()), *last_tokens])
    highest = max([int(batch.input_ids.max()), *last_tokens])
    if lowest < 0 or highest >= size:
        raise DataError(
            f"token ids range from {lowest} to {highest}, but the model embeds 0 to {size - 1}: "
            "use the model's own tokenizer (and a pad_token_id that it has)."
        )

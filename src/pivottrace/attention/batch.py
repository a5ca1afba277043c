"""Lays (prompt, response) token lists out as one padded batch, and says where the signals lie.

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


@dataclass(frozen=True)
class Batch:
    """One padded batch.

    Attributes:
        input_ids: (B, T) prompt and response but for its last token: predicted, never read.
        attention_mask: (B, T) 1 at real tokens, 0 at padding.
        first_rows: (B,) position of the row that produced each response's first token.
        responses: The B responses, whole.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    first_rows: list[int]
    responses: list[list[int]]

    def span(self, index: int) -> slice:
        """Positions of the rows that produced a sequence's response."""
        first = self.first_rows[index]
        return slice(first, first + len(self.responses[index]))


def make_batch(model: Any, sequences: TokenPairs, padding_side: str, pad_token_id: int) -> Batch:
    """Check sequences against a model and pad them to one length.

    Raises:
        ConfigError: `padding_side` is neither "left" nor "right".
        DataError: An empty prompt, or a token outside the vocabulary.
        ModelError: A sequence is longer than the model's positions.
    """
    if padding_side not in ("left", "right"):
        raise ConfigError(f'padding_side must be "left" or "right", not {padding_side!r}.')
    _check_lengths(model, sequences)
    inputs = [[*prompt, *response[:-1]] for prompt, response in sequences]
    longest = max(len(row) for row in inputs)
    input_ids = torch.full((len(inputs), longest), pad_token_id, dtype=torch.long)
    attention_mask = torch.zeros_like(input_ids)
    first_rows = []
    for index, row in enumerate(inputs):
        start = longest - len(row) if padding_side == "left" else 0
        input_ids[index, start : start + len(row)] = torch.tensor(row)
        attention_mask[index, start : start + len(row)] = 1
        first_rows.append(start + len(sequences[index][0]) - 1)
    batch = Batch(input_ids, attention_mask, first_rows, [list(pair[1]) for pair in sequences])
    _check_vocabulary(model, batch)
    return batch


def decoder_inputs(model: Any, batch: Batch) -> dict[str, Any]:
    """Keyword arguments of the decoder's forward; positions count real tokens only."""
    inputs: dict[str, Any] = {
        "input_ids": batch.input_ids.to(model.device),
        "attention_mask": batch.attention_mask.to(model.device),
        "use_cache": False,
    }
    # Architectures without this argument derive positions from the attention mask themselves.
    if "position_ids" in inspect.signature(decoder_of(model).forward).parameters:
        positions = (batch.attention_mask.cumsum(dim=-1) - 1).clamp(min=0)
        inputs["position_ids"] = positions.to(model.device)
    return inputs


def response_rows(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Say which rows produced the responses, one response after another, and which tokens.

    Returns:
        (N, 2) of (sequence, position), and (N,) token ids.
    """
    rows = [
        (index, position)
        for index in range(len(batch.responses))
        for position in range(batch.span(index).start, batch.span(index).stop)
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

"""TRL's GRPO trainer with one change: a row's weight multiplies its normalised advantage.

Scaling the reward would do nothing, because group normalisation divides the scale out again.
"""

from __future__ import annotations

from typing import Any

import torch
from trl import GRPOTrainer

from pivottrace.errors import ConfigError

# Overridden here though TRL does not promise them: one that is gone must not pass unnoticed.
OVERRIDDEN = ("_generate_and_score_completions", "_generate_single_turn", "create_model_card")


class WeightedGRPOTrainer(GRPOTrainer):
    """GRPO over rows with a `weight` column in [0, 1]; weight 1 everywhere is TRL's own trainer.

    A row of weight 0 gives no policy gradient; with `beta` > 0 its KL term stays.

    Args:
        stop: Strings that end a response. Tokens after the first one are cut before rewards and
        loss,
            because TRL gives the model's `generate` no tokenizer to find them with.
        *args: As TRL's.
        **kwargs: As TRL's.

    Raises:
        ConfigError: The installed TRL lacks a method that this class overrides.
    """

    def __init__(self, *args: Any, stop: tuple[str, ...] = (), **kwargs: Any) -> None:
        missing = [name for name in OVERRIDDEN if not hasattr(GRPOTrainer, name)]
        if missing:
            raise ConfigError(
                f"the installed trl has no GRPOTrainer.{missing[0]}, which row weights need. "
                f"Install the tested version: pip install 'trl==1.16.*'"
            )
        self._stop = stop
        super().__init__(*args, **kwargs)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        # One row of `inputs` a completion of this process, in the order of the local advantages.
        output = super()._generate_and_score_completions(inputs)
        advantages = output["advantages"]  # (B,)
        weights = [row["weight"] for row in inputs]
        output["advantages"] = advantages * torch.tensor(
            weights, dtype=advantages.dtype, device=advantages.device
        )
        return output

    def _generate_single_turn(self, *args: Any, **kwargs: Any) -> tuple[list[list[int]], Any]:
        completion_ids, log_probs = super()._generate_single_turn(*args, **kwargs)
        if self._stop:
            tokenizer = self.processing_class
            completion_ids = [cut_at_stop(tokenizer, ids, self._stop) for ids in completion_ids]
        return completion_ids, log_probs

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write none: TRL's names neither the labels nor the routes that made the model."""


def cut_at_stop(tokenizer: Any, tokens: list[int], stop: tuple[str, ...]) -> list[int]:
    """The shortest prefix of `tokens` whose text holds a stop string; all where none does."""

    def stopped(length: int) -> bool:
        text = tokenizer.decode(tokens[:length], skip_special_tokens=True)
        return any(string in text for string in stop)

    if not stopped(len(tokens)):
        return tokens
    low, high = 1, len(tokens)  # bisect: a text that holds a stop string keeps it as it grows
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if stopped(middle) else (middle + 1, high)
    return tokens[:low]

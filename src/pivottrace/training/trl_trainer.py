"""TRL's GRPO trainer with two changes: weights of rows, and rows that are chosen at each step.

A row's weight multiplies its normalised advantage. The weight is the row's own, multiplied by the
weights of the run's rules after they have observed the step.

With an order that chooses, the dataset holds only places of a step. The rows are put there when the
step begins to generate. A data loader or its sampler cannot choose them, because it reads a batch
ahead, before the rewards are known that the choice depends on.

Scaling the reward would have no effect, because group normalisation divides the scale out again.
Everything else here saves time and changes a step by rounding only. Micro-batches hold rows of
similar length and drop unneeded padding. (With `loss_type = "bnpo"` they keep it, because there a
row's part in the loss depends on the other rows of its micro-batch.) On a CPU, prompts and padding
skip the head. Micro-batches without any advantage skip the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from math import prod
from typing import Any

import datasets
import torch
from accelerate.utils import is_peft_model
from trl import GRPOTrainer

from pivottrace.errors import ConfigError
from pivottrace.rewards.groups import Rule
from pivottrace.training.learnable_order import LearnableOrder
from pivottrace.training.trl_log_probs import completion_log_probs

# TRL does not promise to keep these methods, so we check that each one still exists.
OVERRIDDEN = (
    "_generate_and_score_completions",
    "_generate_single_turn",
    "_prepare_inputs",
    "_compute_loss",
    "_get_per_token_logps_and_entropies",
    "create_model_card",
)
PROMPT_COLUMNS = ("prompt_ids", "prompt_mask")  # (B, P), padded on the left
COMPLETION_COLUMNS = (  # (B, T), padded on the right
    "completion_ids",
    "completion_mask",
    "old_per_token_logps",
    "ref_per_token_logps",
)
PLACE = "place"  # of a row in its step, from 0
OTHER_COLUMNS = ("advantages", "num_items_in_batch")  # (B,) and a scalar


class WeightedGRPOTrainer(GRPOTrainer):
    """GRPO over rows with a `weight` column in [0, 1]. With weight 1 everywhere it equals TRL.

    A row of weight 0 gives no policy gradient. With `beta` > 0 its KL term stays.

    Args:
        rules: Each multiplies a row's weight by `rule.weight(question_id, route)`, after the step's
            rewards are known.
        stop: Strings that end a response. Tokens after the first one are cut before rewards and
            loss, because TRL gives the model's `generate` no tokenizer to find them with.
        sampling: Makes a block in which the model's `generate` is to sample TRL's completions.
        chosen_by: The order, and the rows that it chooses from. The dataset has a column `PLACE` in
            their place. None trains on the rows of the dataset.
        learning_rate_at: Factor of the learning rate by step; None takes the arguments' schedule.
        *args: As TRL's.
        **kwargs: As TRL's.

    Raises:
        ConfigError: The installed TRL lacks a method that this class overrides.
    """

    _buffered_inputs: Any  # TRL's: the micro-batches of the step at hand
    lr_scheduler: Any  # transformers'

    def __init__(
        self,
        *args: Any,
        rules: Collection[Rule] = (),
        stop: tuple[str, ...] = (),
        sampling: Callable[[], AbstractContextManager[None]] = nullcontext,
        chosen_by: tuple[LearnableOrder, datasets.Dataset] | None = None,
        learning_rate_at: Callable[[int], float] | None = None,
        **kwargs: Any,
    ) -> None:
        missing = [name for name in OVERRIDDEN if not hasattr(GRPOTrainer, name)]
        if missing:
            raise ConfigError(
                f"the installed trl has no GRPOTrainer.{missing[0]}, which row weights need. "
                f"Install the tested version: pip install 'trl==1.16.*'"
            )
        self._rules = rules
        self._stop = stop
        self._sampling = sampling
        self._chosen_by = chosen_by
        self._learning_rate_at = learning_rate_at
        super().__init__(*args, **kwargs)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Make the schedule of transformers, or the given one. Checkpoints hold either."""
        if self._learning_rate_at is None:
            return super().create_scheduler(num_training_steps, optimizer)
        if self.lr_scheduler is None:
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
                self.optimizer if optimizer is None else optimizer, self._learning_rate_at
            )
        return self.lr_scheduler

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        # `inputs` has one row per completion of this process, in the order of the advantages.
        if self._chosen_by is not None:
            inputs = self._rows_of_step(*self._chosen_by, [row[PLACE] for row in inputs])
        output = super()._generate_and_score_completions(inputs)
        advantages = output["advantages"]  # (B,)
        weights = [self._weight(row) for row in inputs]
        output["advantages"] = advantages * torch.tensor(
            weights, dtype=advantages.dtype, device=advantages.device
        )
        return output

    def _rows_of_step(
        self, order: LearnableOrder, rows: datasets.Dataset, places: list[int]
    ) -> list[dict[str, Any]]:
        """Choose the rows of the step, and return those at these places of it."""
        self._metrics["train"]["rows_effective"].append(order.rows_effective)
        chosen = order.rows_at(self.state.global_step)
        return [rows[chosen[place]] for place in places]

    def _weight(self, row: dict[str, Any]) -> float:
        says = (rule.weight(row["question_id"], row["route"]) for rule in self._rules)
        return prod(says, start=row["weight"])

    def _generate_single_turn(self, *args: Any, **kwargs: Any) -> tuple[list[list[int]], Any]:
        with self._sampling():
            completion_ids, log_probs = super()._generate_single_turn(*args, **kwargs)
        if self._stop:
            tokenizer = self.processing_class
            completion_ids = [cut_at_stop(tokenizer, ids, self._stop) for ids in completion_ids]
        return completion_ids, log_probs

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        before = self._buffered_inputs
        inputs = super()._prepare_inputs(generation_batch)
        if not self.model.training or self._buffered_inputs is before or not self._shares_out:
            return inputs
        self._buffered_inputs = sort_and_trim(self._buffered_inputs)
        return self._buffered_inputs[self._step % self.args.steps_per_generation]

    @property
    def _shares_out(self) -> bool:
        """Whether a step's rows may be shared out among its micro-batches anew."""
        return self.args.steps_per_generation > 1 and self.loss_type != "bnpo"

    def _compute_loss(self, model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        if not self._may_skip_backward(inputs):
            return super()._compute_loss(model, inputs)
        with torch.no_grad():
            super()._compute_loss(model, inputs)  # for the metrics, such as entropy
        return torch.zeros((), device=inputs["advantages"].device, requires_grad=True)

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        compute_aux_loss: bool = False,
        **images: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        has_images = any(value is not None for value in images.values())
        on_cpu = input_ids.device.type == "cpu"  # elsewhere TRL's head is the faster one
        if not on_cpu or not self._shares_out or compute_aux_loss or has_images:
            return super()._get_per_token_logps_and_entropies(
                model,
                input_ids,
                attention_mask,
                logits_to_keep,
                batch_size,
                compute_entropy,
                compute_aux_loss,
                **images,
            )
        with self.accelerator.autocast():
            log_probs, entropies = completion_log_probs(
                model,
                self._decoder_of(model),
                input_ids,
                attention_mask,
                logits_to_keep,
                batch_size or len(input_ids),
            )
        return log_probs, entropies if compute_entropy else None, None

    def _decoder_of(self, model: Any) -> Any:
        """The module that TRL's fused head takes its states from."""
        model = self.accelerator.unwrap_model(model)
        return (model.get_base_model() if is_peft_model(model) else model).base_model

    def _may_skip_backward(self, inputs: dict[str, torch.Tensor]) -> bool:
        """Whether the gradient of this micro-batch is certainly 0.

        The first micro-batch of a step is never skipped: even a gradient of 0 moves the
        optimizer's averages.
        """
        return (
            self.model.training
            and self._step % self.args.steps_per_generation > 0
            and self.accelerator.num_processes == 1
            and self.beta == 0.0
            and not self._entropy_bonus_enabled
            and not self.aux_loss_enabled
            and not inputs["advantages"].any()
        )

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write no card: TRL's has neither labels nor routes. `training.model_card` writes ours."""


def sort_and_trim(batches: list[dict[str, torch.Tensor]]) -> list[dict[str, torch.Tensor]]:
    """Sort a step's rows into micro-batches by length, and trim their padding.

    Rows without an advantage come last, so that whole micro-batches of them can be skipped. The sum
    over micro-batches stays the same if the loss weighs a row equally in every micro-batch. All
    losses of TRL do so except `bnpo`, which divides by the micro-batch's number of tokens.

    Args:
        batches: Micro-batches of equal size. A single one is returned unchanged, and so are
            micro-batches with unknown columns (such as images).
    """
    known = {*PROMPT_COLUMNS, *COMPLETION_COLUMNS, *OTHER_COLUMNS}
    if len(batches) < 2 or not known.issuperset(batches[0]):
        return batches
    scalars = {k: v for k, v in batches[0].items() if v.dim() == 0}
    rows = {k: torch.cat([b[k] for b in batches]) for k in batches[0] if k not in scalars}
    lengths = rows["prompt_mask"].sum(dim=1) + rows["completion_mask"].sum(dim=1)
    idle = rows["advantages"] == 0
    order = torch.argsort(lengths + idle * (lengths.max() + 1), stable=True)
    return [
        _trimmed({k: v[chosen] for k, v in rows.items()}) | scalars
        for chosen in order.chunk(len(batches))
    ]


def _trimmed(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Drop columns that are padding in every row."""
    first = int(batch["prompt_mask"].any(dim=0).int().argmax())
    last = max(1, int(batch["completion_mask"].sum(dim=1).max()))
    prompt = {k: batch[k][:, first:] for k in PROMPT_COLUMNS}
    completion = {k: batch[k][:, :last] for k in COMPLETION_COLUMNS if k in batch}
    return batch | prompt | completion


def cut_at_stop(tokenizer: Any, tokens: list[int], stop: tuple[str, ...]) -> list[int]:
    """The shortest prefix of `tokens` whose text holds a stop string; all tokens if none does."""

    def stopped(length: int) -> bool:
        text = tokenizer.decode(tokens[:length], skip_special_tokens=True)
        return any(string in text for string in stop)

    if not stopped(len(tokens)):
        return tokens
    low, high = 1, len(tokens)  # bisect: a longer text still holds the stop string
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if stopped(middle) else (middle + 1, high)
    return tokens[:low]

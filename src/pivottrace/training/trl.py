"""GRPO on both routes at once with TRL's trainer, on one machine."""

from __future__ import annotations

import hashlib
import logging
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import torch
from transformers import PrinterCallback
from transformers.utils.logging import (
    disable_progress_bar,
    enable_progress_bar,
    is_progress_bar_enabled,
)

from pivottrace.config import TrainConfig
from pivottrace.errors import ConfigError, DataError
from pivottrace.models.compact import compacting
from pivottrace.models.rendering import plain_text
from pivottrace.refine.alarms import CollapseAlarms
from pivottrace.rewards.groups import Rule
from pivottrace.rewards.mix import MixedReward
from pivottrace.run.markers import mark_whole
from pivottrace.run.storage import disk_errors
from pivottrace.schemas import ALARMS, LEARNING_CURVE, METRICS
from pivottrace.training.extras import lora_config, tracker_callbacks, whole_model
from pivottrace.training.half_copy import HalfCopy
from pivottrace.training.learnable_order import LearnableOrder
from pivottrace.training.saving import full_disk_errors
from pivottrace.training.trl_checkpoints import Stateful, StateKeeper, latest_checkpoint, load_state
from pivottrace.training.trl_config import (
    grpo_arguments,
    learning_rate_factor,
    samples_from_copy,
    training_order,
)
from pivottrace.training.trl_rules import AlarmWatcher
from pivottrace.training.trl_state import (
    SETTINGS,
    Evaluate,
    LearningCurve,
    MetricsWriter,
    OnLog,
    cut_lines_after,
    refuse_changed_settings,
)
from pivottrace.training.trl_trainer import PLACE, WeightedGRPOTrainer

# Settings that a resumed run may change, because the weights don't depend on them.
FREE = {"enabled", "save_steps", "tracker"}
# Settings and column of an order that chooses. A shuffled training does not depend on them.
ORDER_SETTINGS = {"order", "order_decay", "order_cap"}
ORDER_COLUMN = "prior_pass_rate"

logger = logging.getLogger(__name__)


def train_grpo(
    model: Any,
    tokenizer: Any,
    rows: pa.Table,
    reward: MixedReward,
    config: TrainConfig,
    output: Path,
    *,
    seed: int = 0,
    name: str | None = None,
    schedule: tuple[int, int] | None = None,
    chat_template_args: dict[str, Any] | None = None,
    stop: tuple[str, ...] = (),
    evaluate: Evaluate | None = None,
    on_log: OnLog = lambda step, metrics: None,
    rule: Rule | None = None,
    alarms: CollapseAlarms | None = None,
    order: LearnableOrder | None = None,
    stateful: Sequence[Stateful] = (),
) -> Path:
    """Train a model on annotated and weak rows. Resume from the last whole checkpoint, if any.

    The folder `output` then holds `model/` (safetensors and tokenizer, in the model's original
    dtype) and `metrics.jsonl` (one object per step). With `evaluate` it also holds
    `learning_curve.jsonl`, and after an alarm `alarms.jsonl`. During training it also holds
    `checkpoints/` and `settings.json`. If `model/` is finished already, the function returns at
    once. With several processes (`accelerate launch`) all of them call this, and one writes.

    Args:
        model: A causal language model on its device. It is trained in place, in float32, because an
            update of 1e-6 is lost in bfloat16 weights (`config.precision` is autocast's). With
            adapters its own weights are frozen and keep their dtype.
        tokenizer: Its tokenizer, padding on the left.
        rows: A table of schema `TRAINING_ROWS` with complete prompts, suffix included.
        reward: A function made by `mixed_reward`.
        config: Steps, group size, learning rate and so on; `grpo_arguments` says what GRPO means.
        output: The folder. It is made if it does not exist.
        seed: Seed of the order of rows and of sampling. On the CPU of one machine the same seed
            gives the same weights, interrupted or not.
        name: Name of this training for a tracker; None takes the folder's name.
        schedule: Place of this training in a longer one whose learning rate it continues: (steps
            before it, steps in all). Its optimizer is new, so it warms up again.
        chat_template_args: As in `[pool]`, for the same prompt tokens as `render_prompt`.
        stop: Strings that end a response.
        evaluate: Takes the model, in eval mode, and returns the numbers of a point of the learning
            curve. It is called every `config.evaluate_steps` steps, and never if that is 0.
        on_log: Called after every step with its metrics, which include seconds (`step_time`).
        rule: Multiplies rows' weights. `reward` calls its `observe` (`observe_together`).
        alarms: As `rule`. They may also end training early and keep the model of that step.
        order: As `rule`, of these rows. It chooses the rows of each step (`make_order`). None takes
            them in seeded shuffles.
        stateful: Further parts whose state belongs in checkpoints.

    Returns:
        The folder of the trained model.

    Raises:
        ConfigError: The batch layout cuts groups, `order` is not what the settings name, an
            unfinished training in `output` had other settings, or a package that a setting needs
            is not installed.
        DataError: There is no row.
        ModelError: Loss or gradient became NaN or infinite.

    Source: docs/training.md; Shao et al. (2024, arXiv 2402.03300).
    """
    final = output / "model"
    checkpoints = output / "checkpoints"
    if final.is_dir():
        shutil.rmtree(checkpoints, ignore_errors=True)  # a kill just before the end leaves them
        return final
    if (config.order == "shuffled") != (order is None):
        raise ConfigError(
            f"train.order is {config.order!r}, and the argument `order` is "
            f"{'missing' if order is None else 'given'}: pass what `make_order` makes of the "
            f"settings, and let the reward's `observe` show it the groups"
        )
    if rows.num_rows == 0:
        raise DataError("there is no row to train on: no question was routed to annotate or weak")
    checkpoints.mkdir(parents=True, exist_ok=True)
    arguments = grpo_arguments(
        config, checkpoints, model, seed, chat_template_args or {}, name or output.resolve().name
    )
    settings = config.model_dump(
        mode="json", exclude=FREE if order is not None else FREE | ORDER_SETTINGS
    )
    known = rows if order is not None else rows.drop_columns(ORDER_COLUMN)
    settings |= {"seed": seed, "rows": rows_digest(known)}
    if schedule in (None, (0, config.steps)):
        schedule = None  # the whole schedule: transformers has it already
    else:
        settings["schedule_of"] = schedule
    with arguments.main_process_first(local=False):
        is_main = arguments.process_index == 0
        checkpoint, step = take_up(output, settings, cut_lines=is_main)
    rules: dict[str, Rule] = {"rule": rule} if rule is not None else {}
    if alarms is not None:
        rules["alarms"] = alarms
    if order is not None:
        rules["order"] = order
    if checkpoint is not None:
        logger.info("resuming from step %d of %d", step, config.steps)

    callbacks: list[Any] = [MetricsWriter(output, on_log)]
    if evaluate is not None and config.evaluate_steps > 0:
        callbacks.insert(0, LearningCurve(output / LEARNING_CURVE, evaluate, config.evaluate_steps))
    if alarms is not None:
        callbacks.append(AlarmWatcher(alarms, output))
    callbacks.append(StateKeeper(rules, stateful))
    if is_main:
        callbacks += tracker_callbacks(config, output)

    came_in = model.dtype
    adapters = lora_config(config, model)
    torch.manual_seed(seed)  # adapters are drawn before Trainer seeds anything
    with quiet_libraries():
        trainer = WeightedGRPOTrainer(
            model=model if adapters else model.float(),
            peft_config=adapters,
            reward_funcs=reward,
            args=arguments,
            train_dataset=(
                training_dataset(tokenizer, rows, config, seed)
                if order is None
                else places_dataset(config)
            ),
            processing_class=tokenizer,
            callbacks=callbacks,
            rules=tuple(rules.values()),
            stop=stop,
            sampling=(
                HalfCopy(model).sampling
                if samples_from_copy(config, model)
                else partial(compacting, model)
            ),
            chosen_by=None if order is None else (order, rows_dataset(tokenizer, rows)),
            learning_rate_at=schedule and partial(learning_rate_factor, config, *schedule),
        )
        # Without a bar Trainer prints each step's metrics; `on_log` is our progress.
        trainer.remove_callback(PrinterCallback)
        if checkpoint is not None:
            load_state(checkpoint, rules, stateful)  # a part may hold adapters, so they come first
        with full_disk_errors(output):
            trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    if is_main:
        with quiet_libraries():
            trained = whole_model(trainer.accelerator.unwrap_model(trainer.model)).eval()
            save_model(trained.to(came_in), tokenizer, final)
        shutil.rmtree(checkpoints)
    trainer.accelerator.wait_for_everyone()
    return final


def take_up(output: Path, settings: dict[str, Any], cut_lines: bool) -> tuple[Path | None, int]:
    """Find the last whole checkpoint of an unfinished training and its step, else (None, 0).

    Raises:
        ConfigError: That training had other settings.
    """
    checkpoint, step = latest_checkpoint(output / "checkpoints")
    if cut_lines:
        if checkpoint is None:  # training begins anew, with the curve's point before step 1
            for name in (SETTINGS, METRICS, LEARNING_CURVE, ALARMS):
                (output / name).unlink(missing_ok=True)
        for name in (METRICS, LEARNING_CURVE, ALARMS):
            cut_lines_after(output / name, step)
    refuse_changed_settings(output, settings)
    return checkpoint, step


def save_model(model: Any, tokenizer: Any, folder: Path) -> None:
    """Save weights (safetensors) and tokenizer. The folder appears whole or not at all.

    Raises:
        OutOfDiskError: The disk is full.
        RunDirError: The folder cannot be written.
    """
    beside = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    with disk_errors(folder), full_disk_errors(folder.parent):
        model.save_pretrained(beside)
        tokenizer.save_pretrained(beside)
        # The caller deletes the checkpoints next, so the model must be on the disk before that.
        mark_whole(beside)
        beside.replace(folder)


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep the libraries' progress bars and one of their warnings off the terminal."""
    had_bars = is_progress_bar_enabled()
    disable_progress_bar()
    try:
        with warnings.catch_warnings():
            # TRL 1.16 uses a name that transformers 5.23 has renamed.
            renamed = "`is_gradient_checkpointing` is deprecated"
            warnings.filterwarnings("ignore", renamed, FutureWarning)
            yield
    finally:
        if had_bars:
            enable_progress_bar()


def training_dataset(
    tokenizer: Any, rows: pa.Table, config: TrainConfig, seed: int
) -> datasets.Dataset:
    """The rows in seeded shuffles: one row per question and step."""
    order = training_order(rows.num_rows, config.steps, config.questions_per_step, seed)
    return rows_dataset(tokenizer, rows).select(order)


def places_dataset(config: TrainConfig) -> datasets.Dataset:
    """The places of each step, for an order that chooses their rows when the step begins."""
    return datasets.Dataset.from_dict({PLACE: [*range(config.questions_per_step)] * config.steps})


def rows_dataset(tokenizer: Any, rows: pa.Table) -> datasets.Dataset:
    """The rows as TRL takes them, without the column that only the order reads."""
    prompts = [trl_prompt(tokenizer, messages) for messages in rows["prompt"].to_pylist()]
    unread = ("prompt", ORDER_COLUMN)
    columns = {name: rows[name].to_pylist() for name in rows.column_names if name not in unread}
    return datasets.Dataset.from_dict({"prompt": prompts, **columns})


def trl_prompt(tokenizer: Any, messages: list[dict[str, str]]) -> list[dict[str, str]] | str:
    """A prompt in the form that TRL turns into exactly the tokens of `render_prompt`."""
    if tokenizer.chat_template is not None:
        return messages
    return plain_text(messages)


def rows_digest(rows: pa.Table) -> str:
    """SHA-256 of the training rows' content, in hex."""
    text = repr([rows.column_names, *rows.to_pylist()])
    return hashlib.sha256(text.encode()).hexdigest()

"""GRPO on both routes at once with TRL's trainer, on one machine."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import torch
from transformers import PrinterCallback
from trl import GRPOConfig

from pivottrace.backends.trl_state import (
    LEARNING_CURVE,
    METRICS,
    Evaluate,
    LearningCurve,
    MetricsWriter,
    OnLog,
    cut_lines_after,
    latest_checkpoint,
    refuse_changed_settings,
)
from pivottrace.backends.trl_trainer import WeightedGRPOTrainer
from pivottrace.config import TrainConfig
from pivottrace.errors import ConfigError, DataError
from pivottrace.rewards.mix import MixedReward, check_group_layout

logger = logging.getLogger(__name__)

# The last one may be torn by a kill; the one before it is whole.
CHECKPOINTS_KEPT = 2


def train_grpo(
    model: Any,
    tokenizer: Any,
    rows: pa.Table,
    reward: MixedReward,
    config: TrainConfig,
    output: Path,
    *,
    seed: int = 0,
    chat_template_args: dict[str, Any] | None = None,
    stop: tuple[str, ...] = (),
    evaluate: Evaluate | None = None,
    on_log: OnLog = lambda step, metrics: None,
) -> Path:
    """Train a model on annotated and weak rows, going on from the last checkpoint where there is one.

    In `output` it leaves `model/` (safetensors and tokenizer, in the dtype that the model came in),
    `metrics.jsonl` (one object a step) and, with `evaluate`, `learning_curve.jsonl`; while it runs, also
    `checkpoints/` and `settings.json`. A finished `model/` is returned at once.

    Args:
        model: A causal language model on its device; trained in place, in float32 (on CUDA with
            bfloat16 autocast if it came in half precision: an update of 1e-6 is lost in bfloat16).
        tokenizer: Its tokenizer, padding on the left.
        rows: A table of schema `TRAINING_ROWS`, its prompts as they are put to the model.
        reward: What `mixed_reward` makes.
        config: Steps, group size, learning rate and so on; `grpo_arguments` says what GRPO means.
        output: The folder, made if need be.
        seed: Order of rows and sampling. On one machine's CPU the same seed gives the same weights,
            interrupted or not.
        chat_template_args: As in `[pool]`, for the same prompt tokens as `render_prompt`.
        stop: Strings that end a response.
        evaluate: Takes the model, in eval mode, and gives the numbers of a point of the learning
            curve; called every `config.evaluate_steps` steps, never when that is 0.
        on_log: Hears of every step with its metrics, seconds (`step_time`) included.

    Returns:
        The folder of the trained model.

    Raises:
        ConfigError: The batch layout cuts groups, or an unfinished run there had other settings.
        DataError: There is no row.
        ModelError: Loss or gradient became NaN or infinite.

    Source: DESIGN, "Training"; Shao et al. (2024, arXiv 2402.03300).
    """
    final = output / "model"
    if final.is_dir():
        return final
    if rows.num_rows == 0:
        raise DataError("there is no row to train on: no question was routed to annotate or weak")
    checkpoints = output / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    arguments = grpo_arguments(config, checkpoints, model, seed, chat_template_args or {})
    refuse_changed_settings(
        output, {**config.model_dump(mode="json"), "seed": seed, "rows": rows_digest(rows)}
    )
    checkpoint, step = latest_checkpoint(checkpoints)
    for name in (METRICS, LEARNING_CURVE):
        cut_lines_after(output / name, step)
    if checkpoint is not None:
        logger.info("going on from step %d of %d", step, config.steps)

    came_in = model.dtype
    callbacks: list[Any] = [MetricsWriter(output, on_log)]
    if evaluate is not None and config.evaluate_steps > 0:
        callbacks.insert(
            0, LearningCurve(output / LEARNING_CURVE, evaluate, config.evaluate_steps)
        )
    trainer = WeightedGRPOTrainer(
        model=model.float(),
        reward_funcs=reward,
        args=arguments,
        train_dataset=training_dataset(tokenizer, rows, config, seed),
        processing_class=tokenizer,
        callbacks=callbacks,
        stop=stop,
    )
    # Without a bar Trainer prints each step's metrics; `on_log` is our progress.
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))

    beside = output / ".model.tmp"
    shutil.rmtree(beside, ignore_errors=True)
    trained = trainer.accelerator.unwrap_model(trainer.model).eval().to(came_in)
    trained.save_pretrained(beside)
    tokenizer.save_pretrained(beside)
    beside.replace(final)
    shutil.rmtree(checkpoints)
    return final


def grpo_arguments(
    config: TrainConfig,
    output: Path,
    model: Any,
    seed: int,
    chat_template_args: dict[str, Any],
) -> GRPOConfig:
    """Say in full what GRPO means here.

    As in the GRPO paper: advantages divided by their group's standard deviation; the loss averaged over
    a response's tokens, then over responses (`loss_type = "grpo"`); clipping at 0.2; one update a
    batch of rollouts (so the ratio is 1 and nothing is ever clipped); temperature 1, no top-p or top-k.
    Different from TRL's defaults: that loss (TRL: dapo); constant learning rate after a short warm-up
    (linear decay to 0); float32 on the CPU (bf16 autocast even there); gradient checkpointing off
    (on); dropout off (on, where a model has any), so that the policy that samples is the one that
    learns; rows in our own seeded order (`training_order`); no tracker. As in TRL and unlike the
    paper, no KL term unless `beta` is set.

    An optimizer step takes all the rollouts that were generated for it, so every step is a generation
    boundary: a checkpoint never falls between rollouts and their use, and TRL need not compute the old
    policy's log-probabilities in another forward pass.

    Raises:
        ConfigError: `micro_batch_size` does not divide a process' rollouts, or a process would hold a
            part of a group.
    """
    num_processes = int(os.environ.get("WORLD_SIZE", "1"))  # as accelerate and torchrun set it
    batch_size, accumulation = batch_layout(config, num_processes)
    on_cpu = model.device.type == "cpu"
    half = model.dtype in (torch.bfloat16, torch.float16)
    arguments = GRPOConfig(
        output_dir=str(output),
        seed=seed,
        data_seed=seed,
        # The algorithm.
        loss_type=config.loss_type,
        scale_rewards="group",
        importance_sampling_level="token",
        epsilon=0.2,
        beta=config.beta,
        num_iterations=1,
        num_generations=config.num_generations,
        temperature=config.temperature,
        top_p=1.0,
        top_k=0,
        min_p=None,
        repetition_penalty=1.0,
        max_completion_length=config.max_new_tokens,
        mask_truncated_completions=False,
        disable_dropout=True,
        chat_template_kwargs=chat_template_args,
        # The batch.
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=accumulation,
        steps_per_generation=accumulation,
        shuffle_dataset=False,
        remove_unused_columns=False,
        # The optimizer.
        max_steps=config.steps,
        learning_rate=config.learning_rate,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=config.warmup_steps,
        optim="adamw_torch",
        weight_decay=0.0,
        max_grad_norm=config.max_grad_norm,
        # The machine.
        use_cpu=on_cpu,
        bf16=half and model.device.type == "cuda",
        fp16=False,
        gradient_checkpointing=config.gradient_checkpointing,
        dataloader_num_workers=0,
        dataloader_pin_memory=not on_cpu,
        # What is written.
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        save_strategy="steps",
        save_steps=config.save_steps,
        save_total_limit=CHECKPOINTS_KEPT,
    )
    if num_processes == 1:
        arguments._n_gpu = min(arguments.n_gpu, 1)  # never DataParallel, which cuts groups
    return arguments


def batch_layout(config: TrainConfig, num_processes: int = 1) -> tuple[int, int]:
    """Rows a forward pass of one process, and how many passes make one optimizer step.

    Raises:
        ConfigError: They don't come out even, or groups would be cut.
    """
    rollouts = config.questions_per_step * config.num_generations
    local, rest = divmod(rollouts, num_processes)
    if rest:
        raise ConfigError(
            f"{rollouts} rollouts a step (train.questions_per_step {config.questions_per_step} x "
            f"train.num_generations {config.num_generations}) cannot be shared evenly by "
            f"{num_processes} processes: make questions_per_step a multiple of {num_processes}"
        )
    batch_size = config.micro_batch_size or local
    if local % batch_size:
        fitting = [size for size in range(1, local + 1) if local % size == 0]
        raise ConfigError(
            f"train.micro_batch_size = {batch_size} does not divide the {local} rollouts of a step and "
            f"process: choose one of {', '.join(map(str, fitting))}"
        )
    accumulation = local // batch_size
    check_group_layout(batch_size, accumulation, config.num_generations)
    return batch_size, accumulation


def training_order(num_rows: int, num_steps: int, questions_per_step: int, seed: int) -> list[int]:
    """Which row each place of each step takes: one seeded shuffle of all rows after another.

    Settled before training starts, so that a resumed run goes on in the same order whatever pass it
    was in, no row is left out at the end of a pass, and a pool smaller than one step works.

    Returns:
        num_steps x questions_per_step row indices, step by step.
    """
    rng = np.random.default_rng(seed)
    length = num_steps * questions_per_step
    passes = [rng.permutation(num_rows) for _ in range(-(-length // num_rows))]
    return np.concatenate(passes)[:length].tolist()


def training_dataset(
    tokenizer: Any, rows: pa.Table, config: TrainConfig, seed: int
) -> datasets.Dataset:
    """The rows in training order, one for each question of each step."""
    order = training_order(rows.num_rows, config.steps, config.questions_per_step, seed)
    prompts = [trl_prompt(tokenizer, messages) for messages in rows["prompt"].to_pylist()]
    columns = {name: rows[name].to_pylist() for name in rows.column_names if name != "prompt"}
    return datasets.Dataset.from_dict({"prompt": prompts, **columns}).select(order)


def trl_prompt(tokenizer: Any, messages: list[dict[str, str]]) -> list[dict[str, str]] | str:
    """A prompt in the form that TRL turns into exactly the tokens of `hf.render_prompt`."""
    if tokenizer.chat_template is not None:
        return messages
    return "\n\n".join(message["content"] for message in messages) + "\n"


def rows_digest(rows: pa.Table) -> str:
    """SHA-256 of the training rows' content, in hex."""
    text = repr([rows.column_names, *rows.to_pylist()])
    return hashlib.sha256(text.encode()).hexdigest()

"""GRPO in TRL's terms: its arguments, the layout of a batch, the order of rows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from trl import GRPOConfig

from pivottrace.config import TrainConfig
from pivottrace.errors import ConfigError
from pivottrace.models.half_products import cpu_multiplies, warn_of_slow_products
from pivottrace.rewards.mix import check_group_layout
from pivottrace.training.extras import report_to

# A kill may tear the last one, but then the one before it is whole.
CHECKPOINTS_KEPT = 2
# On a CPU: the most rows of a forward pass, and the most rows x layers x hidden size of it.
CPU_ROWS, CPU_STATES = 16, 72_000
# Other processes wait while one evaluates; TRL's half an hour may be too short for that.
PROCESS_TIMEOUT_S = 6 * 3600
SCHEDULES = {"constant": "constant_with_warmup", "linear": "linear"}

# transformers renamed the setting; TRL's default for the old name sets off its warning.
_CHECKPOINTING = next(
    name
    for name in ("activation_checkpointing", "gradient_checkpointing")
    if name in GRPOConfig.__dataclass_fields__
)


def grpo_arguments(
    config: TrainConfig,
    output: Path,
    model: Any,
    seed: int,
    chat_template_args: dict[str, Any],
    name: str | None = None,
) -> GRPOConfig:
    """The arguments of TRL that define GRPO in full.

    As in the GRPO paper: advantages are divided by their group's standard deviation. The loss is
    averaged over a response's tokens, then over responses (`loss_type = "grpo"`). Clipping is at
    0.2. There is one update per batch of rollouts, so the ratio is 1 and nothing is ever clipped.
    The temperature is 1, without top-p or top-k.

    Different from TRL's defaults (in brackets): this loss (dapo). A constant learning rate after a
    short warm-up, unless `schedule` is linear (linear). Float32 on the CPU, unless the settings say
    otherwise (bf16 autocast even there). No gradient checkpointing (on). No dropout (on, if the
    model has any), so that the policy that samples is the policy that learns (up to rounding:
    `half_copy`). Our own seeded order of rows (`training_order`). No tracker. As in TRL and unlike
    the paper, there is no KL term unless `beta` is set.

    An optimizer step takes all the rollouts that were generated for it, so every step is a
    generation boundary. A checkpoint therefore never falls between rollouts and their use, and TRL
    need not compute the old policy's log-probabilities in another forward pass.

    Raises:
        ConfigError: `micro_batch_size` does not divide the rollouts of a process, a process would
            hold a part of a group, or the tracker is not installed.
    """
    num_processes = int(os.environ.get("WORLD_SIZE", "1"))  # as accelerate and torchrun set it
    on_cpu = model.device.type == "cpu"
    most_rows = cpu_rows(model) if on_cpu else None
    batch_size, accumulation = batch_layout(config, num_processes, most_rows)
    bf16 = uses_bfloat16(config, model)
    if bf16 and on_cpu:
        warn_of_slow_products("train.precision", torch.bfloat16)
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
        lr_scheduler_type=SCHEDULES[config.schedule],
        warmup_steps=config.warmup_steps,
        optim="adamw_torch",
        weight_decay=0.0,
        max_grad_norm=config.max_grad_norm,
        # The machine.
        use_cpu=on_cpu,
        bf16=bf16,
        fp16=False,
        **{_CHECKPOINTING: config.gradient_checkpointing},
        ddp_timeout=PROCESS_TIMEOUT_S,
        dataloader_num_workers=0,
        dataloader_pin_memory=not on_cpu,
        # The output.
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to=report_to(config),
        project="pivottrace",
        run_name=name,
        disable_tqdm=True,
        save_strategy="steps",
        save_steps=config.save_steps,
        save_total_limit=CHECKPOINTS_KEPT,
    )
    if num_processes == 1:
        arguments._n_gpu = min(arguments.n_gpu, 1)  # never DataParallel, which cuts groups
    return arguments


def uses_bfloat16(config: TrainConfig, model: Any) -> bool:
    """Whether matrix products are in bfloat16 (autocast). Trained weights are always float32."""
    if config.precision == "auto":
        half = model.dtype in (torch.bfloat16, torch.float16)
        return half and model.device.type == "cuda"
    return config.precision == "bfloat16"


def samples_from_copy(config: TrainConfig, model: Any) -> bool:
    """Whether a bfloat16 copy samples (`half_copy`): on CPUs that have products of bfloat16."""
    on_cpu = model.device.type == "cpu"
    return on_cpu and uses_bfloat16(config, model) and bool(cpu_multiplies(torch.bfloat16))


def cpu_rows(model: Any) -> int:
    """The most rows that a forward pass takes on a CPU by default.

    The larger the model, the fewer rows keep a CPU busy. More would only need memory and padding:
    SmolLM2-135M takes as long with 4 rows as with 16 (docs/results/training.md).
    """
    shape = model.config.get_text_config()
    return max(1, min(CPU_ROWS, CPU_STATES // (shape.num_hidden_layers * shape.hidden_size)))


def batch_layout(
    config: TrainConfig, num_processes: int = 1, most_rows: int | None = None
) -> tuple[int, int]:
    """Rows per forward pass of one process, and passes per optimizer step.

    Without `micro_batch_size` a pass takes all rows, but at most `most_rows`.

    Raises:
        ConfigError: The numbers do not divide evenly, or groups would be cut.
    """
    rollouts = config.questions_per_step * config.num_generations
    local, rest = divmod(rollouts, num_processes)
    if rest:
        raise ConfigError(
            f"{rollouts} rollouts per step (train.questions_per_step {config.questions_per_step} x "
            f"train.num_generations {config.num_generations}) cannot be shared evenly by "
            f"{num_processes} processes: make questions_per_step a multiple of {num_processes}"
        )
    fitting = [size for size in range(1, local + 1) if local % size == 0]
    default = max(size for size in fitting if most_rows is None or size <= most_rows)
    batch_size = config.micro_batch_size or default
    if local % batch_size:
        raise ConfigError(
            f"train.micro_batch_size = {batch_size} does not divide the {local} rollouts of a step "
            f"and process: choose one of {', '.join(map(str, fitting))}"
        )
    accumulation = local // batch_size
    check_group_layout(batch_size, accumulation, config.num_generations)
    return batch_size, accumulation


def learning_rate_factor(config: TrainConfig, before: int, total: int, step: int) -> float:
    """The learning rate's share in [0, 1] in one of several trainings that share a schedule.

    It rises over the first `warmup_steps` of each, because each has a new optimizer whose first
    steps are as large as its later ones; `linear` falls over all of them together. With nothing
    before and nothing after it, it is what transformers' schedules of these names give.

    Args:
        config: Of this training.
        before: Steps that the earlier ones took.
        total: Steps of all of them.
        step: Of this training, from 0.
    """
    rise = min(1.0, step / config.warmup_steps) if config.warmup_steps else 1.0
    if config.schedule == "constant":
        return rise
    falling = (total - before - step) / max(1, total - config.warmup_steps)
    return rise * min(1.0, max(0.0, falling))


def training_order(num_rows: int, num_steps: int, questions_per_step: int, seed: int) -> list[int]:
    """The row at each place of each step: one seeded shuffle of all rows after another.

    The order is fixed before training starts. So a resumed run continues in the same order in any
    pass, no row is left out at the end of a pass, and a pool smaller than one step works.

    Returns:
        Row indices (num_steps x questions_per_step), step by step.
    """
    rng = np.random.default_rng(seed)
    length = num_steps * questions_per_step
    passes = [rng.permutation(num_rows) for _ in range(-(-length // num_rows))]
    return np.concatenate(passes)[:length].tolist()

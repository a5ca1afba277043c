"""A folder that SkyRL trains on.

Sources, of August 2026: skyrl/train/dataset/dataset.py for the columns,
skyrl/train/config/config.py for the keys, examples/train/multiply/ for the environment.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from pivottrace.exports import ExportFormat, Written
from pivottrace.exports.bundle import (
    OPTIONS,
    Folder,
    hydra_words,
    kit_code,
    kit_text,
    prompt_room,
    write_folder,
)
from pivottrace.exports.training_data import Row, training_data
from pivottrace.exports.verl import VERL_ROWS, verl_table
from pivottrace.run.directory import RunDir
from pivottrace.run.rounds import round_seed, train_settings

# verl's columns but two: the environment has a name, and the judge another one.
SKYRL_ROWS = pa.schema(
    [
        VERL_ROWS.field("data_source"),
        VERL_ROWS.field("prompt"),
        ("env_class", pa.string()),
        ("reward_spec", pa.struct([("method", pa.string()), ("ground_truth", pa.string())])),
        VERL_ROWS.field("extra_info"),
    ]
)
LOSSES = {
    "grpo": "sequence_mean",
    "dapo": "token_mean",
    "bnpo": "token_mean",
    "dr_grpo": "seq_mean_token_sum_norm",
}


def write(run: RunDir, folder: Path, weights: str, prompt: str) -> Written:
    """Write rows, the environment, its entry point and `train.sh`."""
    data = training_data(run, weights, prompt)
    of = Folder(
        trainer="SkyRL",
        tables={
            "train.parquet": _table(run, data.train, "train"),
            "validation.parquet": _table(run, data.held_out, "validation"),
        },
        splits={"train.parquet": "train", "validation.parquet": "validation"},
        texts={
            "skyrl_env.py": kit_code("skyrl_env.py"),
            "skyrl_main.py": kit_code("skyrl_main.py"),
            "train.sh": _script(run, len(data.train), bool(data.held_out), weights),
        },
        card="card_skyrl.md",
    )
    return write_folder(run, folder, data, of, weights=weights, prompt=prompt)


def _table(run: RunDir, rows: Sequence[Row], split: str) -> pa.Table:
    found = [
        {
            "data_source": row["data_source"],
            "prompt": row["prompt"],
            "env_class": "pivottrace",
            "reward_spec": {
                "method": "rule",
                "ground_truth": row["reward_model"]["ground_truth"],
            },
            "extra_info": row["extra_info"],
        }
        for row in verl_table(run, rows, split).to_pylist()
    ]
    return pa.Table.from_pylist(found, schema=SKYRL_ROWS)


def _script(run: RunDir, num_rows: int, has_held_out: bool, weights: str) -> str:
    train, config = train_settings(run), run.config.pool
    rank = train.lora_rank
    return kit_text(
        "skyrl_train.sh",
        MODEL=shlex.quote(run.config.model.path),
        PROMPT_TOKENS=prompt_room(run),
        RESPONSE_TOKENS=train.max_new_tokens,
        VALIDATION="validation.parquet" if has_held_out else "train.parquet",
        BATCH=min(train.questions_per_step, max(1, num_rows)),
        SEED=round_seed(run),
        NORMALISE=_word(weights != "reward"),
        LEARNING_RATE=train.learning_rate,
        WARMUP_STEPS=train.warmup_steps,
        MAX_GRAD_NORM=train.max_grad_norm,
        LORA_RANK=rank,
        LORA_ALPHA=rank and (train.lora_alpha or 2 * rank),
        USE_KL=_word(train.beta > 0),
        BETA=train.beta,
        LOSS=LOSSES[train.loss_type],
        LONGEST=train.max_new_tokens if train.loss_type == "dr_grpo" else None,
        TEMPLATE_ARGUMENTS=hydra_words("generator.chat_template_kwargs", config.chat_template_args),
        NUM_GENERATIONS=train.num_generations,
        TEMPERATURE=train.temperature,
        EVALUATE_SAMPLES=run.config.evaluate.num_samples,
        STEPS=train.steps,
        SAVE_STEPS=train.save_steps,
        TEST_STEPS=(train.evaluate_steps or train.steps) if has_held_out else -1,
        TEST_FIRST=_word(has_held_out),
    )


def _word(value: bool) -> str:
    return "true" if value else "false"


SKYRL = ExportFormat("skyrl", "rows, environment and a launch script for SkyRL", write, OPTIONS)

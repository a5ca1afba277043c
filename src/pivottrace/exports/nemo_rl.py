"""A folder that NeMo-RL trains on.

Sources, of August 2026: nemo_rl/data/datasets/ and nemo_rl/environments/ for the parts,
examples/configs/grpo_math_1B.yaml for the keys. Its own ResponseDataset keeps only one question and
one answer of a row, so the export has a dataset of its own.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from pivottrace.exports import ExportFormat, Written
from pivottrace.exports.bundle import (
    OPTIONS,
    Folder,
    kit_code,
    kit_text,
    prompt_room,
    write_folder,
)
from pivottrace.exports.training_data import training_data
from pivottrace.exports.trl_format import plain_table
from pivottrace.run.directory import RunDir
from pivottrace.run.rounds import round_seed, train_settings


def write(run: RunDir, folder: Path, weights: str, prompt: str) -> Written:
    """Write rows, dataset and environment, their entry point and `train.sh`."""
    data = training_data(run, weights, prompt)
    of = Folder(
        trainer="NeMo-RL",
        tables={
            "train.parquet": plain_table(data.train),
            "validation.parquet": plain_table(data.held_out),
        },
        splits={"train.parquet": "train", "validation.parquet": "validation"},
        texts={
            "nemo_pivottrace.py": kit_code("nemo_pivottrace.py"),
            "nemo_main.py": kit_code("nemo_main.py"),
            "train.sh": _script(run, len(data.train), bool(data.held_out), weights),
        },
        card="card_nemo-rl.md",
    )
    return write_folder(run, folder, data, of, weights=weights, prompt=prompt)


def _script(run: RunDir, num_rows: int, has_held_out: bool, weights: str) -> str:
    train, config = train_settings(run), run.config
    batch = min(train.questions_per_step, max(1, num_rows))
    template, stop = config.pool.chat_template_args, config.rollouts.stop
    return kit_text(
        "nemo_train.sh",
        MODEL=shlex.quote(config.model.path),
        TEMPLATE_ARGUMENTS=shlex.quote(json.dumps(template)) if template else None,
        TOTAL_TOKENS=prompt_room(run) + (train.max_new_tokens or 0),
        RESPONSE_TOKENS=train.max_new_tokens,
        TEMPERATURE=train.temperature,
        STOP=shlex.quote(json.dumps(stop)) if stop else None,
        VALIDATION="validation.parquet" if has_held_out else None,
        BATCH=batch,
        NUM_GENERATIONS=train.num_generations,
        RESPONSES=batch * train.num_generations,
        STEPS=train.steps,
        WARMUP_STEPS=max(1, train.warmup_steps),
        MAX_GRAD_NORM=train.max_grad_norm,
        LEARNING_RATE=train.learning_rate,
        NORMALISE=str(weights != "reward").lower(),
        SEED=round_seed(run),
        TEST_FIRST=str(has_held_out).lower(),
        TEST_STEPS=(train.evaluate_steps or train.steps) if has_held_out else 0,
        EVALUATE_SAMPLES=config.evaluate.num_samples,
        BETA=train.beta,
        PER_TOKEN=str(train.loss_type in ("dapo", "bnpo")).lower(),
        SAVE_STEPS=train.save_steps,
    )


NEMO_RL = ExportFormat(
    "nemo-rl", "rows, environment and a launch script for NeMo-RL", write, OPTIONS
)

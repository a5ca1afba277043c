"""A folder that slime trains on.

Sources, of August 2026: slime/utils/data.py for the columns, slime/utils/arguments.py for the
flags, slime/rollout/rm_hub/__init__.py for the reward.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from pivottrace.exports import ExportFormat, Written
from pivottrace.exports.bundle import (
    OPTIONS,
    Folder,
    kit_code,
    kit_text,
    prompt_room,
    write_folder,
)
from pivottrace.exports.training_data import Row, training_data
from pivottrace.run.directory import RunDir
from pivottrace.run.rounds import round_seed, train_settings
from pivottrace.schemas import QUESTIONS

SLIME_ROWS = pa.schema(
    [
        QUESTIONS.field("prompt"),
        ("label", pa.string()),
        (
            "metadata",
            pa.struct(
                [
                    ("id", pa.string()),
                    ("route", pa.string()),  # annotate | weak | held_out
                    ("reason", pa.string()),
                    ("weight", pa.float64()),  # in [0, 1]
                    ("vote_share", pa.float64()),  # in [0, 1]; null without a vote
                    ("source", pa.string()),
                ]
            ),
        ),
    ]
)


def write(run: RunDir, folder: Path, weights: str, prompt: str) -> Written:
    """Write rows, `slime_reward.py` and `train.sh`."""
    data = training_data(run, weights, prompt)
    of = Folder(
        trainer="slime",
        tables={"train.parquet": _table(data.train), "validation.parquet": _table(data.held_out)},
        splits={"train.parquet": "train", "validation.parquet": "validation"},
        texts={
            "slime_reward.py": kit_code("slime_reward.py"),
            "train.sh": _script(run, len(data.train), bool(data.held_out), weights),
        },
        card="card_slime.md",
    )
    return write_folder(run, folder, data, of, weights=weights, prompt=prompt)


def _table(rows: Sequence[Row]) -> pa.Table:
    found = [{"prompt": r.prompt, "label": r.answer, "metadata": vars(r)} for r in rows]
    return pa.Table.from_pylist(found, schema=SLIME_ROWS)


def _script(run: RunDir, num_rows: int, has_held_out: bool, weights: str) -> str:
    train, config = train_settings(run), run.config
    batch = min(train.questions_per_step, max(1, num_rows))
    template, stop = config.pool.chat_template_args, config.rollouts.stop
    return kit_text(
        "slime_train.sh",
        TEMPLATE_ARGUMENTS=shlex.quote(json.dumps(template)) if template else None,
        SEED=round_seed(run),
        PROMPT_TOKENS=prompt_room(run),
        RESPONSE_TOKENS=train.max_new_tokens,
        TEMPERATURE=train.temperature,
        STOP=shlex.join(stop) or None,
        BATCH=batch,
        NUM_GENERATIONS=train.num_generations,
        RESPONSES=batch * train.num_generations,
        STEPS=train.steps,
        NO_DIVISION="--disable-grpo-std-normalization" if weights == "reward" else None,
        PER_TOKEN="--calculate-per-token-loss" if train.loss_type in ("dapo", "bnpo") else None,
        KL=f"--use-kl-loss --kl-loss-coef {train.beta}" if train.beta else None,
        VALIDATION="validation.parquet" if has_held_out else None,
        TEST_STEPS=(train.evaluate_steps or train.steps) if has_held_out else None,
        EVALUATE_SAMPLES=config.evaluate.num_samples if has_held_out else None,
        EVALUATE_TEMPERATURE=config.evaluate.temperature if has_held_out else None,
        LEARNING_RATE=train.learning_rate,
        WARMUP_STEPS=train.warmup_steps,
        MAX_GRAD_NORM=train.max_grad_norm,
        SAVE_STEPS=train.save_steps,
    )


SLIME = ExportFormat("slime", "rows, reward and a launch script for slime", write, OPTIONS)

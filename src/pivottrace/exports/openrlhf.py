"""A folder that OpenRLHF trains on.

Sources, all of OpenRLHF 0.11.2: openrlhf/datasets/prompts_dataset.py for the columns,
openrlhf/cli/train_ppo_ray.py for the flags, openrlhf/utils/agent.py for the reward.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import replace
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
from pivottrace.exports.training_data import HELD_OUT, Row, training_data
from pivottrace.run.directory import RunDir
from pivottrace.run.rounds import round_seed, train_settings
from pivottrace.schemas import QUESTIONS

# Parquet and not JSON lines: readers of JSON lines guess types, and turn texts that look like
# numbers or dates into those.
OPENRLHF_ROWS = pa.schema(
    [
        ("input", QUESTIONS.field("prompt").type),
        ("label", pa.string()),  # JSON
        ("datasource", pa.string()),
    ]
)
PICTURE = "<image>"
PICTURES = f"rows with {PICTURE} in a message, which OpenRLHF takes for a picture"


def write(run: RunDir, folder: Path, weights: str, prompt: str) -> Written:
    """Write rows, `reward.py` and `train.sh`."""
    data = training_data(run, weights, prompt)
    train = [row for row in data.train if not _has_picture(row)]
    held_out = [row for row in data.held_out if not _has_picture(row)]
    if pictures := len(data.train) - len(train):
        data.left_out[PICTURES] = pictures
    data = replace(data, train=train, held_out=held_out)
    of = Folder(
        trainer="OpenRLHF 0.11.2",
        tables={
            "train.parquet": _table(data.train),
            "validation.parquet": _table(data.held_out),
        },
        splits={"train.parquet": "train", "validation.parquet": "validation"},
        texts={
            "reward.py": kit_code("openrlhf_reward.py"),
            "train.sh": _script(run, len(data.train), bool(data.held_out), weights),
        },
        card="card_openrlhf.md",
    )
    return write_folder(run, folder, data, of, weights=weights, prompt=prompt)


def _has_picture(row: Row) -> bool:
    return any(PICTURE in message["content"] for message in row.prompt)


def _table(rows: Sequence[Row]) -> pa.Table:
    found = [
        {
            "input": row.prompt,
            "label": json.dumps(
                {"answer": row.answer, "weight": row.weight, "route": row.route, "id": row.id},
                ensure_ascii=False,
            ),
            "datasource": row.source if row.route == HELD_OUT else f"pivottrace/{row.route}",
        }
        for row in rows
    ]
    return pa.Table.from_pylist(found, schema=OPENRLHF_ROWS)


def _script(run: RunDir, num_rows: int, has_held_out: bool, weights: str) -> str:
    train, evaluate = train_settings(run), run.config.evaluate
    batch = min(train.questions_per_step, max(1, num_rows))
    rank = train.lora_rank
    averages_responses = train.loss_type in ("grpo", "dr_grpo")
    return kit_text(
        "openrlhf_train.sh",
        MODEL=shlex.quote(run.config.model.path),
        TOTAL_TOKENS=prompt_room(run) + (train.max_new_tokens or 0),
        VALIDATION="validation.parquet" if has_held_out else None,
        TEST_STEPS=(train.evaluate_steps or train.steps) if has_held_out else None,
        EVALUATE_SAMPLES=evaluate.num_samples if has_held_out else None,
        EVALUATE_TEMPERATURE=evaluate.temperature if has_held_out else None,
        ESTIMATOR="dr_grpo" if weights == "reward" else "group_norm",
        BETA=train.beta,
        KL_LOSS="--algo.kl.use_loss --algo.kl.estimator k3" if train.beta else None,
        LOSS="seq-mean-token-mean" if averages_responses else "token-mean",
        LEARNING_RATE=train.learning_rate,
        WARMUP=min(1.0, train.warmup_steps / train.steps),
        MAX_GRAD_NORM=train.max_grad_norm,
        LORA_RANK=rank,
        LORA_ALPHA=rank and (train.lora_alpha or 2 * rank),
        LORA_TARGET=rank and train.lora_target.replace(",", " "),
        BATCH=batch,
        NUM_GENERATIONS=train.num_generations,
        RESPONSE_TOKENS=train.max_new_tokens,
        TEMPERATURE=train.temperature,
        RESPONSES=batch * train.num_generations,
        EPISODES=-(-train.steps * batch // max(1, num_rows)),
        STEPS=train.steps,
        SEED=round_seed(run),
        SAVE_STEPS=train.save_steps,
    )


OPENRLHF = ExportFormat("openrlhf", "rows, reward and a launch script for OpenRLHF", write, OPTIONS)

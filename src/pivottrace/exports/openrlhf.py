"""A folder that OpenRLHF trains on.

Sources, all of OpenRLHF 0.11.2: openrlhf/datasets/prompts_dataset.py for the columns,
openrlhf/cli/train_ppo_ray.py for the flags, openrlhf/utils/agent.py for the reward.
"""

from __future__ import annotations

import json
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
    write_folder,
)
from pivottrace.exports.launch import VALIDATION, launch_values
from pivottrace.exports.training_data import HELD_OUT, Row, TrainingData, training_data
from pivottrace.run.directory import RunDir
from pivottrace.run.rounds import train_settings
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
            VALIDATION: _table(data.held_out),
        },
        texts={
            "reward.py": kit_code("openrlhf_reward.py"),
            "train.sh": _script(run, data, weights),
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


def _script(run: RunDir, data: TrainingData, weights: str) -> str:
    train, values = train_settings(run), launch_values(run, data)
    averages_responses = train.loss_type in ("grpo", "dr_grpo")
    values |= {
        "ESTIMATOR": "dr_grpo" if weights == "reward" else "group_norm",
        "KL_LOSS": "--algo.kl.use_loss --algo.kl.estimator k3" if train.beta else None,
        "LOSS": "seq-mean-token-mean" if averages_responses else "token-mean",
        "WARMUP": min(1.0, train.warmup_steps / train.steps),
        "LORA_TARGET": train.lora_rank and train.lora_target.replace(",", " "),
        "EPISODES": -(-train.steps * values["BATCH"] // max(1, len(data.train))),
    }
    return kit_text("openrlhf_train.sh", **values)


OPENRLHF = ExportFormat("openrlhf", "rows, reward and a launch script for OpenRLHF", write, OPTIONS)

"""A folder that slime trains on.

Sources, of August 2026: slime/utils/data.py for the columns, slime/utils/arguments.py for the
flags, slime/rollout/rm_hub/__init__.py for the reward.
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
    kit_code,
    kit_text,
    write_folder,
)
from pivottrace.exports.launch import VALIDATION, json_word, launch_values
from pivottrace.exports.training_data import Row, TrainingData, training_data
from pivottrace.run.directory import RunDir
from pivottrace.run.rounds import train_settings
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
        tables={"train.parquet": _table(data.train), VALIDATION: _table(data.held_out)},
        texts={
            "slime_reward.py": kit_code("slime_reward.py"),
            "train.sh": _script(run, data, weights),
        },
        card="card_slime.md",
    )
    return write_folder(run, folder, data, of, weights=weights, prompt=prompt)


def _table(rows: Sequence[Row]) -> pa.Table:
    found = [{"prompt": r.prompt, "label": r.answer, "metadata": vars(r)} for r in rows]
    return pa.Table.from_pylist(found, schema=SLIME_ROWS)


def _script(run: RunDir, data: TrainingData, weights: str) -> str:
    train, config = train_settings(run), run.config
    values = launch_values(run, data) | {
        "TEMPLATE_ARGUMENTS": json_word(config.pool.chat_template_args),
        "STOP": shlex.join(config.rollouts.stop) or None,
        "NO_DIVISION": "--disable-grpo-std-normalization" if weights == "reward" else None,
        "PER_TOKEN": "--calculate-per-token-loss" if train.loss_type in ("dapo", "bnpo") else None,
        "KL": f"--use-kl-loss --kl-loss-coef {train.beta}" if train.beta else None,
    }
    return kit_text("slime_train.sh", **values)


SLIME = ExportFormat("slime", "rows, reward and a launch script for slime", write, OPTIONS)

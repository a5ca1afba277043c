"""A folder that SkyRL trains on.

Sources, of August 2026: skyrl/train/dataset/dataset.py for the columns,
skyrl/train/config/config.py for the keys, examples/train/multiply/ for the environment.
"""

from __future__ import annotations

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
from pivottrace.exports.launch import VALIDATION, hydra_words, launch_values, yes_or_no
from pivottrace.exports.training_data import Row, TrainingData, training_data
from pivottrace.exports.verl import VERL_ROWS, verl_table
from pivottrace.run.directory import RunDir
from pivottrace.run.rounds import train_settings

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
            VALIDATION: _table(run, data.held_out, "validation"),
        },
        texts={
            "skyrl_env.py": kit_code("skyrl_env.py"),
            "skyrl_main.py": kit_code("skyrl_main.py"),
            "train.sh": _script(run, data, weights),
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


def _script(run: RunDir, data: TrainingData, weights: str) -> str:
    train, has_held_out = train_settings(run), bool(data.held_out)
    values = launch_values(run, data) | {
        "NORMALISE": yes_or_no(weights != "reward"),
        "USE_KL": yes_or_no(train.beta > 0),
        "LOSS": LOSSES[train.loss_type],
        "LONGEST": train.max_new_tokens if train.loss_type == "dr_grpo" else None,
        "TEMPLATE_ARGUMENTS": hydra_words(
            "generator.chat_template_kwargs", run.config.pool.chat_template_args
        ),
        "EVALUATE_SAMPLES": run.config.evaluate.num_samples,
        "TEST_FIRST": yes_or_no(has_held_out),
    }
    if not has_held_out:  # SkyRL needs a file even if it never tests
        values |= {"VALIDATION": "train.parquet", "TEST_STEPS": -1}
    return kit_text("skyrl_train.sh", **values)


SKYRL = ExportFormat("skyrl", "rows, environment and a launch script for SkyRL", write, OPTIONS)

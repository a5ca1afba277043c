"""A folder that TRL trains on.

Source: trl/scripts/grpo.py and trl/trainer/grpo_config.py of TRL 1.16.0.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from pivottrace.config import EMBEDDED_MODEL
from pivottrace.exports import ExportFormat, Written
from pivottrace.exports.bundle import OPTIONS, Folder, kit_code, kit_text, write_folder
from pivottrace.exports.launch import VALIDATION, launch_values, start_model_place
from pivottrace.exports.training_data import Row, TrainingData, training_data
from pivottrace.run.directory import RunDir
from pivottrace.run.rounds import start_model, train_settings
from pivottrace.schemas import QUESTIONS

# Columns reach the reward under their names, so none may have a name that TRL takes itself, such as
# `completions`.
TRL_ROWS = pa.schema(
    [
        QUESTIONS.field("prompt"),
        ("ground_truth", pa.string()),
        ("id", pa.string()),
        ("route", pa.string()),  # annotate | weak | held_out
        ("reason", pa.string()),
        ("weight", pa.float64()),  # in [0, 1]
        ("vote_share", pa.float64()),  # in [0, 1]; null without a vote
        ("source", pa.string()),
    ]
)
SCHEDULES = {"constant": "constant_with_warmup", "linear": "linear"}


def write(run: RunDir, folder: Path, weights: str, prompt: str) -> Written:
    """Write rows, `pivottrace_reward.py` and `trl.yaml`."""
    data = training_data(run, weights, prompt)
    of = Folder(
        trainer="TRL 1.16",
        tables={
            "train.parquet": plain_table(data.train),
            VALIDATION: plain_table(data.held_out),
        },
        texts={
            "pivottrace_reward.py": kit_code("pivottrace_reward.py"),
            "trl.yaml": _yaml(run, data, weights),
        },
        card="card_trl.md",
        places={
            "VALIDATION_NOTE": "Held-out questions are answered while it trains."
            if data.held_out
            else "The run has no held-out questions."
        },
    )
    return write_folder(run, folder, data, of, weights=weights, prompt=prompt)


def plain_table(rows: Sequence[Row]) -> pa.Table:
    """Rows with a column for each field, of schema `TRL_ROWS`."""
    found = [{**vars(row), "ground_truth": row.answer} for row in rows]
    return pa.Table.from_pylist(found, schema=TRL_ROWS)


def _yaml(run: RunDir, data: TrainingData, weights: str) -> str:
    train, config, has_held_out = train_settings(run), run.config, bool(data.held_out)
    per_step = train.questions_per_step * train.num_generations
    at_once = min(train.micro_batch_size or per_step, per_step)
    rank, model = train.lora_rank, start_model_place(run)
    is_embedded = model == EMBEDDED_MODEL
    places = launch_values(run, data) | {
        "TEST_SPLIT": "validation" if has_held_out else None,
        "MODEL": None if is_embedded else model,
        "EMBEDDED": EMBEDDED_MODEL if is_embedded else None,
        "REVISION": start_model(run).revision,
        "OUT": "../trl-model",
        "SCALE": "none" if weights == "reward" else "group",
        "LOSS": train.loss_type,
        "TEMPLATE_ARGUMENTS": config.pool.chat_template_args or None,
        "BATCH": at_once,
        "ACCUMULATION": per_step // at_once,
        "SCHEDULE": SCHEDULES[train.schedule],
        "LORA": True if rank else None,
        "LORA_TARGET": rank and [name.strip() for name in train.lora_target.split(",")],
        "EVALUATE": "steps" if has_held_out else None,
    }
    # JSON is YAML, and quotes every text that YAML would read as something else.
    written = {k: None if v is None else _value(v) for k, v in places.items()}
    return kit_text("trl.yaml", **written)


def _value(value: Any) -> str:
    """A value for YAML 1.1, which reads 1e-06 as a text, and 1.0e-06 as a number."""
    text = json.dumps(value)
    return text.replace("e", ".0e") if isinstance(value, float) and "." not in text else text


TRL = ExportFormat("trl", "rows, reward and a configuration for trl grpo", write, OPTIONS)

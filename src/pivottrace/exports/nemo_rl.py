"""A folder that NeMo-RL trains on.

Sources, of August 2026: nemo_rl/data/datasets/ and nemo_rl/environments/ for the parts,
examples/configs/grpo_math_1B.yaml for the keys. Its own ResponseDataset keeps only one question and
one answer of a row, so the export has a dataset of its own.
"""

from __future__ import annotations

from pathlib import Path

from pivottrace.exports import ExportFormat, Written
from pivottrace.exports.bundle import (
    OPTIONS,
    Folder,
    kit_code,
    kit_text,
    write_folder,
)
from pivottrace.exports.launch import VALIDATION, json_word, launch_values, yes_or_no
from pivottrace.exports.training_data import TrainingData, training_data
from pivottrace.exports.trl_format import plain_table
from pivottrace.run.directory import RunDir
from pivottrace.run.rounds import train_settings


def write(run: RunDir, folder: Path, weights: str, prompt: str) -> Written:
    """Write rows, dataset and environment, their entry point and `train.sh`."""
    data = training_data(run, weights, prompt)
    of = Folder(
        trainer="NeMo-RL",
        tables={
            "train.parquet": plain_table(data.train),
            VALIDATION: plain_table(data.held_out),
        },
        texts={
            "nemo_pivottrace.py": kit_code("nemo_pivottrace.py"),
            "nemo_main.py": kit_code("nemo_main.py"),
            "train.sh": _script(run, data, weights),
        },
        card="card_nemo-rl.md",
    )
    return write_folder(run, folder, data, of, weights=weights, prompt=prompt)


def _script(run: RunDir, data: TrainingData, weights: str) -> str:
    train, config, has_held_out = train_settings(run), run.config, bool(data.held_out)
    values = launch_values(run, data) | {
        "TEMPLATE_ARGUMENTS": json_word(config.pool.chat_template_args),
        "STOP": json_word(config.rollouts.stop),
        "WARMUP_STEPS": max(1, train.warmup_steps),
        "NORMALISE": yes_or_no(weights != "reward"),
        "TEST_FIRST": yes_or_no(has_held_out),
        "EVALUATE_SAMPLES": config.evaluate.num_samples,
        "PER_TOKEN": yes_or_no(train.loss_type in ("dapo", "bnpo")),
    }
    if not has_held_out:
        values["TEST_STEPS"] = 0
    return kit_text("nemo_train.sh", **values)


NEMO_RL = ExportFormat(
    "nemo-rl", "rows, environment and a launch script for NeMo-RL", write, OPTIONS
)

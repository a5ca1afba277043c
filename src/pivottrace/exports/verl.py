"""A folder that verl trains on.

Sources, all of verl 0.9.1: verl/utils/dataset/rl_dataset.py for the columns,
verl/trainer/config/ppo_trainer.yaml for the keys, verl/experimental/reward_loop/ for the reward.
The keys of `extra_info` beside `index` and `split` are ours.
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
from pivottrace.exports.launch import VALIDATION, hydra_words, json_word, launch_values
from pivottrace.exports.training_data import HELD_OUT, Row, TrainingData, training_data
from pivottrace.run.directory import RunDir
from pivottrace.run.rounds import train_settings
from pivottrace.schemas import QUESTIONS

# The schema is explicit: verl joins files only if all types are equal, and pyarrow would infer a
# null type for a column without a value.
VERL_ROWS = pa.schema(
    [
        ("data_source", pa.string()),  # verl averages its metrics by it
        QUESTIONS.field("prompt"),
        ("ability", pa.string()),
        ("reward_model", pa.struct([("style", pa.string()), ("ground_truth", pa.string())])),
        (
            "extra_info",
            pa.struct(
                [
                    ("index", pa.int64()),  # the row's place in the file, from 0
                    ("split", pa.string()),  # train | validation
                    ("id", pa.string()),
                    ("route", pa.string()),  # annotate | weak | held_out
                    ("reason", pa.string()),
                    ("weight", pa.float64()),  # in [0, 1], multiplies the row's advantage
                    ("vote_share", pa.float64()),  # in [0, 1]; null without a vote
                    ("round", pa.int32()),
                    ("source", pa.string()),
                ]
            ),
        ),
    ]
)
# TRL's names for the average of token losses, and verl's.
LOSSES = {
    "grpo": "seq-mean-token-mean",
    "dapo": "token-mean",
    "bnpo": "token-mean",
    "dr_grpo": "seq-mean-token-sum-norm",
}


def write(run: RunDir, folder: Path, weights: str, prompt: str) -> Written:
    """Write rows, reward, `train.sh` and, with `--weights estimator`, the estimator."""
    data = training_data(run, weights, prompt)
    texts = {
        "reward.py": kit_code("verl_reward.py"),
        "train.sh": _script(run, data, weights),
    }
    if weights == "estimator":
        texts["pivottrace_verl.py"] = kit_code("verl_estimator.py")
    note = "verl tests on `validation.parquet` before and after training."
    if not data.held_out:
        note = "The run has no held-out questions, so verl does not test."
    of = Folder(
        trainer="verl 0.9.1",
        tables={
            "train.parquet": verl_table(run, data.train, "train"),
            VALIDATION: verl_table(run, data.held_out, "validation"),
        },
        texts=texts,
        card="card_verl.md",
        places={"VALIDATION_NOTE": note},
    )
    return write_folder(run, folder, data, of, weights=weights, prompt=prompt)


def verl_table(run: RunDir, rows: Sequence[Row], split: str) -> pa.Table:
    """Rows in verl's columns, of schema `VERL_ROWS`."""
    found = [
        {
            "data_source": row.source if row.route == HELD_OUT else f"pivottrace/{row.route}",
            "prompt": row.prompt,
            "ability": "reasoning",
            "reward_model": {"style": "rule", "ground_truth": row.answer},
            "extra_info": {
                "index": index,
                "split": split,
                "id": row.id,
                "route": row.route,
                "reason": row.reason,
                "weight": row.weight,
                "vote_share": row.vote_share,
                "round": run.round_index,
                "source": row.source,
            },
        }
        for index, row in enumerate(rows)
    ]
    return pa.Table.from_pylist(found, schema=VERL_ROWS)


def _script(run: RunDir, data: TrainingData, weights: str) -> str:
    train, evaluate, has_held_out = train_settings(run), run.config.evaluate, bool(data.held_out)
    with_estimator = weights == "estimator"
    values = launch_values(run, data) | {
        "ESTIMATOR": "pivottrace_grpo" if with_estimator else "grpo",
        "EXTERNAL": "pivottrace_verl" if with_estimator else None,
        "NORMALISE": weights != "reward",
        "USE_KL": train.beta > 0,
        "LOSS": LOSSES[train.loss_type],
        "EVALUATE_SAMPLES": evaluate.num_samples,
        "EVALUATE_TEMPERATURE": evaluate.temperature,
        "EVALUATE_TOP_P": evaluate.top_p,
        "TEST_FIRST": has_held_out,
        "LORA_TARGET": train.lora_rank and json_word(_modules(train.lora_target)),
        "CHECKPOINTING": train.gradient_checkpointing,
        "DYNAMIC": train.micro_batch_size is None,
        "MICRO_BATCH": train.micro_batch_size,
        "TEMPLATE_ARGUMENTS": hydra_words(
            "++data.apply_chat_template_kwargs", run.config.pool.chat_template_args
        ),
    }
    if not has_held_out:  # verl needs a file even if it never tests
        values |= {"VALIDATION": "train.parquet", "TEST_STEPS": -1}
    return kit_text("verl_train.sh", **values)


def _modules(target: str) -> str | list[str]:
    """The modules that get an adapter: a list, since peft reads a single name as a pattern."""
    return target if target == "all-linear" else [name.strip() for name in target.split(",")]


VERL = ExportFormat(
    "verl",
    "rows, reward and a launch script for verl",
    write,
    {**OPTIONS, "weights": ("reward", "estimator", "thin", "ignore")},
)

"""A folder that verl trains on.

Sources, all of verl 0.9.1: verl/utils/dataset/rl_dataset.py for the columns,
verl/trainer/config/ppo_trainer.yaml for the keys, verl/experimental/reward_loop/ for the reward.
The keys of `extra_info` beside `index` and `split` are ours.
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
from pivottrace.exports.training_data import HELD_OUT, Row, training_data
from pivottrace.run.directory import RunDir
from pivottrace.run.rounds import round_seed, train_settings
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
        "train.sh": _script(run, len(data.train), bool(data.held_out), weights),
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
            "validation.parquet": verl_table(run, data.held_out, "validation"),
        },
        splits={"train.parquet": "train", "validation.parquet": "validation"},
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


def _script(run: RunDir, num_rows: int, has_held_out: bool, weights: str) -> str:
    train, evaluate = train_settings(run), run.config.evaluate
    with_estimator = weights == "estimator"
    return kit_text(
        "verl_train.sh",
        MODEL=shlex.quote(run.config.model.path),
        PROMPT_TOKENS=prompt_room(run),
        RESPONSE_TOKENS=train.max_new_tokens,
        VALIDATION="validation.parquet" if has_held_out else "train.parquet",
        BATCH=min(train.questions_per_step, max(1, num_rows)),  # verl drops an incomplete batch
        SEED=round_seed(run),
        ESTIMATOR="pivottrace_grpo" if with_estimator else "grpo",
        EXTERNAL="pivottrace_verl" if with_estimator else None,
        NORMALISE=weights != "reward",
        LEARNING_RATE=train.learning_rate,
        WARMUP_STEPS=train.warmup_steps,
        MAX_GRAD_NORM=train.max_grad_norm,
        USE_KL=train.beta > 0,
        BETA=train.beta,
        LOSS=LOSSES[train.loss_type],
        NUM_GENERATIONS=train.num_generations,
        TEMPERATURE=train.temperature,
        EVALUATE_SAMPLES=evaluate.num_samples,
        EVALUATE_TEMPERATURE=evaluate.temperature,
        EVALUATE_TOP_P=evaluate.top_p,
        STEPS=train.steps,
        SAVE_STEPS=train.save_steps,
        TEST_STEPS=(train.evaluate_steps or train.steps) if has_held_out else -1,
        TEST_FIRST=has_held_out,
        LORA_RANK=train.lora_rank,
        LORA_ALPHA=train.lora_rank and (train.lora_alpha or 2 * train.lora_rank),
        LORA_TARGET=train.lora_rank and train.lora_target,
        TEMPLATE_ARGUMENTS=hydra_words(
            "++data.apply_chat_template_kwargs", run.config.pool.chat_template_args
        ),
    )


VERL = ExportFormat(
    "verl",
    "rows, reward and a launch script for verl",
    write,
    {**OPTIONS, "weights": ("reward", "estimator", "thin", "ignore")},
)

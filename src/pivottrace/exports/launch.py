"""The values that launch files of several trainers have, from the settings of the run."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from pivottrace.config import EMBEDDED_MODEL
from pivottrace.exports.training_data import TrainingData
from pivottrace.models.places import place_for_others
from pivottrace.run.directory import RunDir
from pivottrace.run.rounds import round_seed, start_model, train_settings

_PROMPT_STEP = 1024
VALIDATION = "validation.parquet"


def launch_values(run: RunDir, data: TrainingData) -> dict[str, Any]:
    """Values for the places of a launch file; `bundle.kit_text` skips a value that no place needs.

    A value is None where the trainer has nothing to do: without held-out questions, for instance.
    """
    train, evaluate = train_settings(run), run.config.evaluate
    # Trainers drop an incomplete batch.
    batch = min(train.questions_per_step, max(1, len(data.train)))
    held_out, rank, room = bool(data.held_out), train.lora_rank, prompt_room(run)
    return {
        "MODEL": shlex.quote(start_model_place(run)),
        "PROMPT_TOKENS": room,
        "RESPONSE_TOKENS": train.max_new_tokens,
        "TOTAL_TOKENS": room + (train.max_new_tokens or 0),
        "TEMPERATURE": train.temperature,
        "BATCH": batch,
        "NUM_GENERATIONS": train.num_generations,
        "RESPONSES": batch * train.num_generations,
        "STEPS": train.steps,
        "SAVE_STEPS": train.save_steps,
        "SEED": round_seed(run),
        "LEARNING_RATE": train.learning_rate,
        "WARMUP_STEPS": train.warmup_steps,
        "MAX_GRAD_NORM": train.max_grad_norm,
        "BETA": train.beta,
        "LORA_RANK": rank,
        "LORA_ALPHA": rank and (train.lora_alpha or 2 * rank),
        "VALIDATION": VALIDATION if held_out else None,
        "TEST_STEPS": (train.evaluate_steps or train.steps) if held_out else None,
        "EVALUATE_SAMPLES": evaluate.num_samples if held_out else None,
        "EVALUATE_TEMPERATURE": evaluate.temperature if held_out else None,
    }


def start_model_place(run: RunDir) -> str:
    """The folder or Hub id of the model that the round starts from; a folder by its full path."""
    place = place_for_others(start_model(run))
    folder = Path(place).expanduser()
    is_folder = place != EMBEDDED_MODEL and folder.is_dir()
    return str(folder.resolve()) if is_folder else place


def json_word(value: Any) -> str | None:
    """A value as JSON in a word of the shell; None for an empty one."""
    return shlex.quote(json.dumps(value)) if value else None


def yes_or_no(value: bool) -> str:
    """A truth value as YAML and Hydra write it."""
    return "true" if value else "false"


def hydra_words(key: str, values: Mapping[str, Any]) -> str | None:
    """Settings under a key as words of the shell, a line each; None without any."""
    words = (shlex.quote(f"{key}.{name}={json.dumps(value)}") for name, value in values.items())
    return "\n  ".join(words) or None


def prompt_room(run: RunDir) -> int:
    """Tokens that the longest prompt of the pool takes, rounded up to whole 1,024s."""
    longest = 1
    if run.is_done("greedy"):
        for part in run.iter_parts("rollouts_greedy", "greedy", ["prompt_tokens"]):
            lengths = pc.list_value_length(part["prompt_tokens"])
            longest = max(longest, pc.max(lengths).as_py() or 0)
    return -(-longest // _PROMPT_STEP) * _PROMPT_STEP

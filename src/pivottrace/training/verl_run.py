"""A training by verl in a folder of the run: its command, its checkpoints, its metrics, its model.

Sources, all of verl 0.9.1: verl/trainer/ppo/v1/trainer_base.py for the names in `checkpoints/`,
verl/utils/checkpoint/fsdp_checkpoint_manager.py for the files of a checkpoint. The lines of metrics
are in verl/utils/tracking.py (`FileLogger`), and the merger is verl/model_merger.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pivottrace.errors import TornFileError
from pivottrace.run.markers import mark_whole
from pivottrace.run.storage import disk_errors, read_json, write_text
from pivottrace.schemas import NOTED_STEP
from pivottrace.training.child_process import run_child
from pivottrace.training.verl_environment import VerlEnvironment

COMMAND, LOG = "command.sh", "verl.log"
CHECKPOINTS, METRICS_FOLDER = "checkpoints", "metrics"
# Our name of a metric that the report draws, by verl's.
METRIC_NAMES = {
    "critic/score/mean": "reward",
    "response_length/mean": "completions/mean_length",
    "actor/entropy": "entropy",
    "actor/kl_loss": "kl",
    "actor/pg_loss": "loss",
    "actor/grad_norm": "grad_norm",
    "actor/lr": "learning_rate",
}
TOKENS = "perf/total_num_tokens"  # of one step; ours counts from the start
ADAPTER = "lora_adapter"


def train(
    environment: VerlEnvironment,
    model: str,
    folder: Path,
    on_metrics: Callable[[list[dict[str, Any]]], None],
) -> None:
    """Run `command.sh` of a folder. It goes on from verl's last checkpoint there.

    Args:
        environment: One that lacks nothing.
        model: Folder or Hub id of the model to start from.
        folder: The folder of the training.
        on_metrics: Called about every second with `metrics_of(folder)`.

    Raises:
        RunDirError: As `run_child`.
    """
    run_child(
        "verl's trainer",
        ["bash", COMMAND],
        folder,
        folder / LOG,
        {
            # All that the scripts take from the environment, so that nothing else decides it.
            "PYTHON": str(environment.python),
            "MODEL": model,
            "GPUS": str(environment.num_gpus),
            "ENGINE": environment.engine or "",
            "NODES": "1",
            "TENSOR_PARALLEL": "1",
            "PROMPT_TOKENS": "",
        },
        lambda: on_metrics(metrics_of(folder)),
    )


def checkpointed_step(folder: Path) -> int:
    """The step of verl's last checkpoint in a folder of a training; 0 without one.

    verl notes the step when the checkpoint is written. A kill before leaves a checkpoint that is
    not whole, which counts as none.

    Raises:
        TornFileError: The checkpoint that verl noted lacks a file, the note cannot be read, or it
            is missing beside a whole checkpoint.
    """
    checkpoints = folder / CHECKPOINTS
    note = checkpoints / NOTED_STEP
    if not note.is_file():
        whole = [path.name for path in checkpoints.glob("global_step_*") if not _lost(path)]
        if whole:
            raise TornFileError(f"{note} is missing beside {whole[0]}. {_cure(checkpoints)}")
        return 0
    text = note.read_text(encoding="utf-8", errors="replace").strip()
    if not text.isdecimal():
        raise TornFileError(f"{note} holds no number of a step. {_cure(checkpoints)}")
    step = checkpoints / f"global_step_{text}"
    lost = _lost(step)
    if lost:
        raise TornFileError(f"{step / lost[0]} is missing. {_cure(checkpoints)}")
    return int(text)


def _lost(step: Path) -> list[str]:
    """The files that a checkpoint lacks. verl writes `data.pt` last."""
    names = ["actor/fsdp_config.json", "actor/huggingface/config.json", "data.pt"]
    if (step / names[0]).is_file():
        size = read_json(step / names[0]).get("world_size", 1)
        names += [f"actor/model_world_size_{size}_rank_{rank}.pt" for rank in range(size)]
    return [name for name in names if not (step / name).is_file()]


def _cure(checkpoints: Path) -> str:
    return (
        f"Copy the whole folder {checkpoints.name} once more from where verl trained, or delete "
        f"{checkpoints} to train anew."
    )


def metrics_of(folder: Path) -> list[dict[str, Any]]:
    """One mapping per step, in order, with verl's names and ours (`METRIC_NAMES`).

    Each start of verl has a file of its own. The lines of a later start replace the lines of the
    same steps. A line that is not whole yet is left out.
    """
    steps: dict[int, dict[str, Any]] = {}
    for path in sorted((folder / METRICS_FOLDER).glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                break  # it is being written, or a kill has torn it
            steps[row["step"]] = row["data"]
    rows, tokens = [], 0
    for step, data in sorted(steps.items()):
        tokens += data.get(TOKENS) or 0
        ours = {name: data[theirs] for theirs, name in METRIC_NAMES.items() if theirs in data}
        rows.append({"step": step, **ours, "num_tokens": tokens, **data})
    return rows


def write_metrics(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write the lines of `metrics_of` as the file of a training's metrics."""
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))


def merge(environment: VerlEnvironment, folder: Path, step: int, target: Path) -> None:
    """Merge verl's checkpoint to a Hugging Face model in bfloat16. The target is whole or absent.

    verl's merger leaves adapters beside the weights that they belong to; we add them up.

    Raises:
        RunDirError: As `run_child`.
        OutOfDiskError: The disk is full.
    """
    beside = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    words = [str(environment.python), "-m", "verl.model_merger", "merge", "--backend", "fsdp"]
    actor = folder / CHECKPOINTS / f"global_step_{step}" / "actor"
    words += ["--local_dir", str(actor.absolute()), "--target_dir", str(beside.absolute())]
    run_child("verl's merger", words, folder, folder / LOG, {"HF_HUB_OFFLINE": "1"})
    with disk_errors(target):
        if (beside / ADAPTER).is_dir():
            _add_adapter(beside)
        mark_whole(beside)
        beside.replace(target)


def _add_adapter(folder: Path) -> None:
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    from pivottrace.training.extras import whole_model
    from pivottrace.training.trl import quiet_libraries

    with quiet_libraries():
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        merged = whole_model(peft.PeftModel.from_pretrained(model, folder / ADAPTER))
        merged.to(torch.bfloat16).save_pretrained(folder)
    shutil.rmtree(folder / ADAPTER)

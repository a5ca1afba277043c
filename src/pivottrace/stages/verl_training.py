"""The training of the train stage by verl, in another environment. This module is not a stage.

Everything lies in the round's `train/verl`: the export, the command, verl's checkpoints, its
metrics and its log. The folder can be copied to a machine with a GPU, and its checkpoints back.
"""

from __future__ import annotations

import gc
import hashlib
import json
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa

from pivottrace.errors import ConfigError, RunDirError
from pivottrace.exports.bundle import kit_text
from pivottrace.exports.launch import json_word
from pivottrace.exports.training_data import exported_held_out
from pivottrace.exports.verl import VERL
from pivottrace.exports.writing import export
from pivottrace.plugins import require
from pivottrace.run.directory import RunDir
from pivottrace.run.progress import progress
from pivottrace.run.rounds import name_for_trackers, round_seed, start_model, train_settings
from pivottrace.run.storage import write_text
from pivottrace.schemas import METRICS
from pivottrace.training import verl_run
from pivottrace.training.verl_environment import VerlEnvironment, verl_environment

CHECKPOINTS_KEPT = 2
# Settings that a stopped training may change, because the weights do not depend on them.
FREE = {"enabled", "save_steps", "tracker", "verl_python"}


def train_by_verl(run: RunDir, rows: pa.Table, tokenizer: Any) -> dict[str, Any]:
    """Train with verl, and merge its last checkpoint to `train/model`.

    A checkpoint that is there already is gone on from. If it is the last one, verl is not started,
    so a training may also be brought from another machine.

    Args:
        run: The run, in the round that trains.
        rows: Its training rows, which the export has too.
        tokenizer: The model's. verl needs a chat template.

    Returns:
        Facts to record: `steps`, `passes`, `rollouts`, `trainer`, its `versions` and `command`.

    Raises:
        ConfigError: The environment of verl does not fit, or the model has no chat template. Or
            there are checkpoints of a training with other settings.
        RunDirError: This machine cannot train, and the message has the command for another one. Or
            verl failed.
        TornFileError: The last checkpoint is not whole.
    """
    from pivottrace.training.trl_state import SETTINGS, refuse_changed_settings  # heavy

    settings, model = train_settings(run), run.round_path / "train" / "model"
    if tokenizer.chat_template is None:
        raise ConfigError(
            f"{start_model(run).path} has no chat template, and verl cannot make prompts without "
            f'one: add a template to the tokenizer, or set train.backend = "trl"'
        )
    if settings.lora_rank is not None:
        require("peft", "lora", f"train.lora_rank = {settings.lora_rank}")
    environment = verl_environment(run.config.train)
    folder = run.round_path / "train" / "verl"
    if model.is_dir():  # a kill came before the record
        return _facts(run, rows, environment, folder)
    step = verl_run.checkpointed_step(folder)
    checkpoints = folder / verl_run.CHECKPOINTS
    checkpoints.mkdir(parents=True, exist_ok=True)
    if not step:  # it begins anew, with any settings
        shutil.rmtree(folder / verl_run.METRICS_FOLDER, ignore_errors=True)
        (checkpoints / SETTINGS).unlink(missing_ok=True)
    # They lie among the checkpoints, so that they travel with them.
    bound = settings.model_dump(mode="json", exclude=FREE)
    refuse_changed_settings(checkpoints, bound | {"seed": round_seed(run), "rows": _digest(rows)})
    if not step or not (folder / "export").is_dir():
        export(run, VERL, folder / "export", {"weights": "estimator"})
    _write_command(run, environment, folder)
    if step < settings.steps:
        _train(run, environment, folder, step)
    verl_run.write_metrics(folder.parent / METRICS, verl_run.metrics_of(folder))
    verl_run.merge(environment, folder, settings.steps, model)
    return _facts(run, rows, environment, folder)


def _train(run: RunDir, environment: VerlEnvironment, folder: Path, step: int) -> None:
    """Start verl's trainer, and show its steps until it has ended."""
    import torch

    num_steps, command = train_settings(run).steps, shlex.quote(str(folder / verl_run.COMMAND))
    lacking = environment.lacks()
    if lacking is not None:
        raise RunDirError(
            f"{lacking}. The command is there, and step {step} of {num_steps} is done: {command}. "
            f"Copy its folder to a machine that can train, and run it there with that machine's "
            f"PYTHON, MODEL and GPUS. Then copy the folder {verl_run.CHECKPOINTS} back, and go on: "
            f"{run.until('run')}"
        )
    gc.collect()
    torch.cuda.empty_cache()  # what this process still holds of the GPU
    told = f"{environment.in_words()}; its log: {folder / verl_run.LOG}"
    print(f"training by {told}", file=sys.stderr, flush=True)
    with progress("train", num_steps, "steps") as update:
        update(step)

        def on_metrics(rows: list[dict[str, Any]]) -> None:
            if rows:
                update(rows[-1]["step"])
                verl_run.write_metrics(folder.parent / METRICS, rows)

        verl_run.train(environment, _start(run), folder, on_metrics)
    reached = verl_run.checkpointed_step(folder)
    if reached != num_steps:
        raise RunDirError(
            f"verl ended after step {reached} of {num_steps} without an error (its log: "
            f"{folder / verl_run.LOG}). The same command goes on from there: {run.until('train')}"
        )


def _start(run: RunDir) -> str:
    """The folder or Hub id of the round's start model, as verl takes it: it knows no revision."""
    from pivottrace.models.places import cached_folder, place_of

    place = place_of(start_model(run))
    if Path(place).is_dir():
        return str(Path(place).absolute())
    return str(cached_folder(start_model(run)) or place)


def _write_command(run: RunDir, environment: VerlEnvironment, folder: Path) -> None:
    settings = train_settings(run)
    tests = settings.evaluate_steps > 0 and bool(exported_held_out(run))
    trackers = [] if settings.tracker == "none" else [settings.tracker]
    text = kit_text(
        "verl_command.sh",
        PYTHON=shlex.quote(str(environment.python)),
        MODEL=shlex.quote(_start(run)),
        GPUS=max(1, environment.num_gpus),
        ENGINE=environment.engine or "vllm",
        NAME=json_word(name_for_trackers(run)),
        LOGGER=json_word(["console", "file", *trackers]),
        KEPT=CHECKPOINTS_KEPT,
        TEST_STEPS=settings.evaluate_steps if tests else -1,
        TEST_FIRST=tests,
        TEST_SAMPLES=settings.evaluate_limit or -1,
        ARGUMENTS=" \\\n  ".join(map(shlex.quote, settings.verl_arguments)) or None,
    )
    path = folder / verl_run.COMMAND
    write_text(path, text)
    path.chmod(0o755)


def _facts(
    run: RunDir, rows: pa.Table, environment: VerlEnvironment, folder: Path
) -> dict[str, Any]:
    """The facts of a training whose model is there. Its checkpoints are removed."""
    shutil.rmtree(folder / verl_run.CHECKPOINTS, ignore_errors=True)
    settings = train_settings(run)
    questions = settings.steps * min(settings.questions_per_step, rows.num_rows)
    return {
        "steps": settings.steps,
        "passes": round(questions / rows.num_rows, 2),
        "rollouts": questions * settings.num_generations,
        "trainer": f"verl {environment.versions['verl']}",
        "trainer_versions": dict(environment.versions),
        "command": str((folder / verl_run.COMMAND).relative_to(run.path)),
    }


def _digest(rows: pa.Table) -> str:
    return hashlib.sha256(json.dumps(rows.to_pylist()).encode()).hexdigest()

"""The files of a training beside its checkpoints: its settings, and lines of metrics.

A resumed run cuts the lines after its checkpoint, so that each step has one line.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from pivottrace.errors import ConfigError, ModelError
from pivottrace.run.storage import disk_errors, read_json, write_json, write_text
from pivottrace.schemas import METRICS

SETTINGS = "settings.json"
# Seconds differ from run to run; the others repeat `reward` and `step`.
NOT_METRICS = ("step_time", "rewards/", "epoch")

OnLog = Callable[[int, dict[str, float | None]], None]
Evaluate = Callable[[Any], Mapping[str, float]]


def refuse_changed_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Write the settings of a training, or compare them with the file of an unfinished one.

    Raises:
        ConfigError: A setting differs; the message names the keys.
    """
    path = folder / SETTINGS
    now = json.loads(json.dumps(settings))
    if not path.is_file():
        write_json(path, now, sort_keys=True)
        return
    was = read_json(path)
    changed = [
        f"{key}: was {was.get(key)!r}, now {now.get(key)!r}"
        for key in sorted(was.keys() | now.keys())
        if was.get(key) != now.get(key)
    ]
    if changed:
        raise ConfigError(
            f"{folder} holds an unfinished training run with other settings:\n  "
            + "\n  ".join(changed)
            + f"\nPut them back to resume it, or delete {folder} to train anew."
        )


# Lines of metrics -----------------------------------------------------------------------------


def append_line(path: Path, row: Mapping[str, Any]) -> None:
    """Append one JSON object in a single write. NaN and infinity become null.

    Raises as `run.storage.write_parquet`.
    """
    clean = {
        k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()
    }
    with disk_errors(path), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(clean, allow_nan=False) + "\n")


def cut_lines_after(path: Path, step: int) -> None:
    """Keep the whole lines up to `step`. The run will repeat the steps of later lines."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            break  # a kill has torn this line, so it is the last one
        if row["step"] <= step:
            kept.append(line + "\n")
    write_text(path, "".join(kept))


# Callbacks ------------------------------------------------------------------------------------


class MetricsWriter(TrainerCallback):
    """Write one line per step, call `on_log`, and stop at a step that is not finite."""

    def __init__(self, folder: Path, on_log: OnLog) -> None:
        self._folder = folder
        self._on_log = on_log

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Write the line. Raises ModelError if the loss or the gradient is not finite."""
        if "loss" not in logs:
            return  # this is the summary at the end
        broken = [k for k in ("loss", "grad_norm") if not math.isfinite(logs.get(k, 0.0))]
        if broken:
            raise ModelError(
                f"training step {state.global_step}: {broken[0]} is {logs[broken[0]]}. The "
                f"weights are unusable from here: remove {self._folder}, lower "
                f"train.learning_rate or set train.precision = 'float32', and train again."
            )
        if not state.is_world_process_zero:
            return
        row = {k: v for k, v in logs.items() if not k.startswith(NOT_METRICS)}
        append_line(self._folder / METRICS, {"step": state.global_step, **row})
        self._on_log(state.global_step, dict(logs))


class LearningCurve(TrainerCallback):
    """Evaluate before the first step, every `every` steps and after the last one.

    One process evaluates while the others wait. It puts the model into eval mode, because with
    gradient checkpointing a model in training mode generates without a cache. It leaves the
    training's random numbers unchanged, so that the curve has no influence on training.
    """

    def __init__(self, path: Path, evaluate: Evaluate, every: int) -> None:
        self._path = path
        self._evaluate = evaluate
        self._every = every

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Evaluate the starting model, unless this is a resumed run."""
        if state.global_step == 0:
            self._add_point(state, kwargs["model"])

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Evaluate a due point before the checkpoint, so that a resumed run has the point."""
        if state.global_step % self._every == 0 or state.global_step == state.max_steps:
            self._add_point(state, kwargs["model"])

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Evaluate the last model if an alarm has ended training early."""
        if state.global_step % self._every and state.global_step < state.max_steps:
            self._add_point(state, kwargs["model"])

    def _add_point(self, state: Any, model: Any) -> None:
        if not state.is_world_process_zero:
            return
        was_training = model.training
        devices = [model.device] if model.device.type == "cuda" else []
        model.eval()
        try:
            with torch.random.fork_rng(devices=devices):
                point = self._evaluate(model)
        finally:
            model.train(was_training)
        append_line(self._path, {"step": state.global_step, **point})

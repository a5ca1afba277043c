"""Checkpoints that a killed training resumes from: TRL's state, the rules' state, and a marker.

A checkpoint counts only with its marker (`run.markers`), which is written last. A checkpoint that a
kill has torn, or that has changed since, is deleted, and training resumes from the one before.
Every optimizer step is a generation boundary here (`trl_config.grpo_arguments`), so no checkpoint
falls between rollouts and their use.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from transformers import TrainerCallback

from pivottrace.errors import ConfigError
from pivottrace.rewards.groups import Rule
from pivottrace.run.markers import is_whole, mark_whole
from pivottrace.run.storage import read_json, write_json

RULES = "rules.json"


class Stateful(Protocol):
    """A part of training that follows it step by step, such as a slow teacher's weights."""

    def follow(self, step: int) -> None:
        """Take a step. It is called before every step, on every process, with steps from 0."""
        ...

    def save(self, folder: Path) -> None:
        """Write the state into an empty folder."""
        ...

    def load(self, folder: Path) -> None:
        """Restore the state that `save` wrote there."""
        ...


class StateKeeper(TrainerCallback):
    """Call stateful parts at each step, and complete TRL's checkpoints with their state."""

    def __init__(self, rules: Mapping[str, Rule], stateful: Sequence[Stateful]) -> None:
        self._rules = rules
        self._stateful = stateful

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Call every part before the rollouts of the step."""
        for part in self._stateful:
            part.follow(state.global_step)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Complete the checkpoint that TRL has just written, after all processes wrote theirs."""
        checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if state.is_world_process_zero:
            save_state(checkpoint, self._rules, self._stateful)
        args.distributed_state.wait_for_everyone()  # each writes its own random numbers
        if state.is_world_process_zero:
            mark_whole(checkpoint)


def save_state(
    checkpoint: Path, rules: Mapping[str, Rule], stateful: Sequence[Stateful] = ()
) -> None:
    """Write the state of rules, by name, and of other parts, by index."""
    states = {name: rule.state_dict() for name, rule in rules.items()}
    write_json(checkpoint / RULES, states, sort_keys=True)
    for index, part in enumerate(stateful):
        folder = checkpoint / f"part-{index}"
        folder.mkdir()
        part.save(folder)


def load_state(
    checkpoint: Path, rules: Mapping[str, Rule], stateful: Sequence[Stateful] = ()
) -> None:
    """Restore the state of rules and other parts from a checkpoint.

    Raises:
        ConfigError: The checkpoint was made with other rules or parts.
    """
    states = read_json(checkpoint / RULES)
    folders = sorted(checkpoint.glob("part-*"), key=lambda path: int(path.name.split("-")[1]))
    if states.keys() != rules.keys() or len(folders) != len(stateful):
        raise ConfigError(
            f"{checkpoint} was made with rules {sorted(states) or 'none'} and {len(folders)} "
            f"stateful parts, now there are {sorted(rules) or 'none'} and {len(stateful)}: put the "
            f"settings of [weak], [refine] and [alarms] back, or delete {checkpoint.parent.parent} "
            f"to train anew"
        )
    for name, rule in rules.items():
        rule.load_state_dict(states[name])
    for folder, part in zip(folders, stateful, strict=True):
        part.load(folder)


def latest_checkpoint(folder: Path) -> tuple[Path | None, int]:
    """The newest whole checkpoint and its step, else (None, 0). Torn ones are deleted."""
    found = sorted(folder.glob("checkpoint-*"), key=checkpoint_step)
    for checkpoint in reversed(found):
        if is_whole(checkpoint):
            return checkpoint, checkpoint_step(checkpoint)
        shutil.rmtree(checkpoint)
    return None, 0


def checkpoint_step(checkpoint: Path) -> int:
    """The optimizer step in a checkpoint folder's name."""
    return int(checkpoint.name.rpartition("-")[2])

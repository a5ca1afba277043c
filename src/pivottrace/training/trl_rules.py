"""The link between rules and TRL: it gathers the groups of all processes, and heeds alarms."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object
from transformers import TrainerCallback

from pivottrace.refine.alarms import CollapseAlarms
from pivottrace.rewards.groups import Group, Rule
from pivottrace.rewards.mix import Observe
from pivottrace.schemas import ALARMS
from pivottrace.training.trl_state import append_line

logger = logging.getLogger(__name__)


def observe_together(*rules: Rule) -> Observe:
    """Make the function that shows every rule the groups of all processes.

    The mixed reward calls it once per step in each process, with the groups of that process, or
    with an empty list. The groups are joined in the order of the processes, which is the order of
    the rows. So every process reaches the same state, for any number of processes.

    Args:
        *rules: The run's rules, in the order in which they observe.
    """

    def observe(step: int, groups: Sequence[Group]) -> None:
        everyone = gather_object(list(groups)) if rules else []
        for rule in rules:
            rule.observe(step, everyone)

    return observe


class AlarmWatcher(TrainerCallback):
    """Give the alarms the step's entropy, log their events, and end training if they say so."""

    def __init__(self, alarms: CollapseAlarms, folder: Path) -> None:
        self._alarms = alarms
        self._folder = folder

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Log events after a step and before its checkpoint, so that each one is written once."""
        if "loss" not in logs:
            return  # this is the summary at the end
        if "entropy" in logs:
            self._alarms.observe_entropy(state.global_step, logs["entropy"])
        for event in self._alarms.take_events():
            if state.is_world_process_zero:
                append_line(self._folder / ALARMS, event.row())
                logger.warning("alarm: %s", event.text())
        if self._alarms.stop_reason is not None:
            control.should_training_stop = True
            # A run resumed from a checkpoint of this step would take one more step.
            control.should_save = False

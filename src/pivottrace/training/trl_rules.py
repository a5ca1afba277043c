"""What rules have to do with TRL: groups of all processes for them, and their say in training."""

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
    """Make what the mix calls with a step's groups: every rule sees those of all processes.

    Each process calls it once a step, with its own groups, even where it has none. They are joined
    in the order of the processes, which is that of the rows, so that all come to the same state,
    whatever their number.

    Args:
        *rules: The run's rules, in the order in which they look.
    """

    def observe(step: int, groups: Sequence[Group]) -> None:
        everyone = gather_object(list(groups)) if rules else []
        for rule in rules:
            rule.observe(step, everyone)

    return observe


class AlarmWatcher(TrainerCallback):
    """Tell the alarms the step's entropy, write down what they say, and end training if asked."""

    def __init__(self, alarms: CollapseAlarms, folder: Path) -> None:
        self._alarms = alarms
        self._folder = folder

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Runs after a step and before its checkpoint, so that each event is written once."""
        if "loss" not in logs:
            return  # the summary at the end
        if "entropy" in logs:
            self._alarms.observe_entropy(state.global_step, logs["entropy"])
        for event in self._alarms.take_events():
            if state.is_world_process_zero:
                append_line(self._folder / ALARMS, event.row())
                logger.warning("alarm: %s", event.text())
        if self._alarms.stop_reason is not None:
            control.should_training_stop = True
            # From a checkpoint of this step a resumed run would take one step more.
            control.should_save = False

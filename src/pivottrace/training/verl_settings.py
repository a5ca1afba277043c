"""The settings that verl's trainer cannot follow. They are refused by name, never ignored."""

from __future__ import annotations

import os
from collections.abc import Iterator

from pivottrace.config import Config
from pivottrace.errors import ConfigError
from pivottrace.rewards import reward_named

# Keys of verl that the way back to here depends on, and the setting to use in their place.
OURS = {
    "trainer.default_local_dir": "the checkpoints are found in the run",
    "trainer.total_training_steps": "set train.steps",
    "trainer.total_epochs": "set train.steps",
    "trainer.save_freq": "set train.save_steps",
    "trainer.resume_mode": "a training that was stopped goes on by itself",
    "trainer.logger": "set train.tracker",
    "actor_rollout_ref.actor.strategy": "the checkpoint is merged as one of FSDP",
    "model_engine": "the checkpoint is merged as one of FSDP",
}


def check_verl(config: Config) -> None:
    """Refuse what verl's trainer cannot do. Raises ConfigError, which names all such settings."""
    faults = list(_faults(config))
    if faults:
        raise ConfigError(
            'train.backend = "verl" cannot follow these settings:\n  '
            + "\n  ".join(faults)
            + '\nChange them, or set train.backend = "trl".'
        )


def _faults(config: Config) -> Iterator[str]:
    train = config.train
    if reward_named(config.weak.reward).needs != "pseudo_label":
        yield (
            f"weak.reward = {config.weak.reward}: verl rewards one response at a time and does not "
            f"see its group; take frozen_majority"
        )
    if config.alarms.enabled:
        yield "alarms.enabled = true: nothing here sees the groups that verl trains on; set false"
    if config.refine.rule != "none":
        yield f"refine.rule = {config.refine.rule}: a rule watches each group of responses"
    if train.order != "shuffled":
        yield f"train.order = {train.order}: verl chooses its rows itself; take shuffled"
    if train.schedule != "constant":
        yield f"train.schedule = {train.schedule}: verl has no such schedule; take constant"
    if train.precision == "float32":
        yield "train.precision = float32: verl multiplies in bfloat16; take auto"
    if config.rollouts.stop:
        yield "rollouts.stop: verl has no setting for texts that end a response"
    for argument in train.verl_arguments:
        key = argument.lstrip("+~").partition("=")[0]
        if key in OURS:
            yield f"train.verl_arguments: {argument}: {OURS[key]}"
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        yield "several processes: verl starts its own, so run pivottrace without a launcher"

"""Rewards: plain functions on one question's group of answers, and their mix by route.

The file of a weak reward holds its record, `Reward`. No list names the record. Settings, checks and
training read the records.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pivottrace.errors import ConfigError
from pivottrace.plugins import load_part, records_in, refuse_unknown
from pivottrace.rewards.weak import Reward, Tools, WeakGroup, WeakResult, WeakReward

__all__ = ["REWARDS", "Reward", "Tools", "WeakGroup", "WeakResult", "reward_named"]

REWARDS: dict[str, Reward] = records_in(__name__, Reward)


def reward_named(name: str, setting: str = "weak.reward") -> Reward:
    """The reward that a setting names: a reward of the package, or a user's own part.

    A user's part is named as `package.module:name`. It is a `Reward`, or a function of one
    `WeakGroup` that returns G rewards.

    Args:
        name: The value of the setting.
        setting: The setting's dotted key, for messages.

    Raises:
        ConfigError: There is no such reward, or the part is neither a record nor a function.
    """
    if name in REWARDS:
        return REWARDS[name]
    refuse_unknown(name, REWARDS, "reward", setting)
    part: Any = load_part(name, setting)
    if isinstance(part, Reward):
        return part
    if not callable(part):
        raise ConfigError(
            f"{setting} = {name!r}: it is neither a pivottrace.rewards.Reward nor a function. Name "
            f"one of these."
        )
    return _of_function(name, part)


def _of_function(name: str, function: Callable[[WeakGroup], Sequence[float]]) -> Reward:
    def reward(step: int, groups: Sequence[WeakGroup]) -> list[WeakResult]:
        return [WeakResult([float(r) for r in function(group)]) for group in groups]

    def make(tools: Tools) -> WeakReward:
        return reward

    return Reward(name, "a function of the group", needs="answers", votes="none", make=make)

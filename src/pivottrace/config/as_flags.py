"""Changed settings as flags of the command line, for messages that a user can paste."""

from __future__ import annotations

from typing import Any

from pivottrace.config.presets import flat_values
from pivottrace.config.sections import Config
from pivottrace.config.template import inline_table


def flag_of(key: str) -> str:
    """The flag of a dotted key: train.max_new_tokens is --train.max-new-tokens."""
    return "--" + key.replace("_", "-")


def as_flags(was: Config, now: Config) -> list[str]:
    """The words of a command that make `now` of `was`, without the run directory (`output`)."""
    before = flat_values(was)
    changed = {key: value for key, value in flat_values(now).items() if value != before[key]}
    changed.pop("output", None)
    return [word for key, value in changed.items() for word in (flag_of(key), *_words(value))]


def _words(value: Any) -> list[str]:
    if isinstance(value, list):
        return value
    if isinstance(value, bool):
        return [str(value).lower()]
    if isinstance(value, dict):
        return [inline_table(value)]
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return [str(value)]

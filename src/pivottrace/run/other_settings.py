"""A run refuses settings that its stages did not begin with, and says each way on."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pivottrace.config import Config, load_config
from pivottrace.config.as_flags import as_flags
from pivottrace.config.template import place_in_file
from pivottrace.errors import ConfigError
from pivottrace.run.bindings import Changed, changed_settings

Records = Sequence[Mapping[str, Mapping[str, Any]]]
"""For each round, the settings that each stage began with, by the stage's name."""


def refuse_other_settings(path: Path, records: Records, config: Config) -> None:
    """Refuse a configuration that a stage did not begin with.

    Args:
        path: The run directory, with the configuration that the run had last.
        records: The rounds that have begun.
        config: The present configuration.

    Raises:
        ConfigError: A setting differs. The message names each, and the commands that cure it.
    """
    changed = _changed(records, config)
    if not changed:
        return
    stages = {stage for each in changed for stage in each.stages}
    cures = [
        *_with_the_settings_of_the_run(path, records, changed),
        "give another output directory (--output)",
        *_made_again(path, stages, config),
    ]
    raise ConfigError(
        f"{path} was made with other settings:\n  "
        + "\n  ".join(map(str, changed))
        + "\nEither "
        + "\nor ".join(cures)
    )


def _changed(records: Records, config: Config) -> list[Changed]:
    found = [each for used in records for each in changed_settings(used, config)]
    # Rounds that recorded the same settings give the same line.
    return list({str(each): each for each in found}.values())


def _with_the_settings_of_the_run(
    path: Path, records: Records, changed: Sequence[Changed]
) -> list[str]:
    """How to go on as the run is: it may have taken settings by flags that the file lacks."""
    in_file = ", ".join(place_in_file(each.key, each.was) for each in changed)
    put_back = f"put them back in your configuration file: {in_file}"
    try:
        has_them = not _changed(records, load_config(path / "config.toml"))
    except ConfigError:  # the file is lost or torn
        has_them = False
    resume = f"go on with the settings of the run: pivottrace run {shlex.quote(str(path))}"
    return [resume, put_back] if has_them else [put_back]


def _made_again(path: Path, stages: set[str], config: Config) -> list[str]:
    """How to make stages again with the present settings, if only late stages read them."""
    if not stages <= {"triage", "label", "train"}:
        return []
    command = "train" if stages == {"train"} else "calibrate"
    try:
        settings = as_flags(load_config(path / "config.toml"), config)
    except ConfigError:  # the file is lost or torn
        return []
    words = shlex.join(["pivottrace", "redo", str(path), command, *settings])
    return [
        f"make {' and '.join(sorted(stages))} again, and all later stages, with the labels that "
        f"are there: {words}"
    ]

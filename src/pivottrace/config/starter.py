"""The configuration file to start from: a few settings, the first ones to edit marked."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from pivottrace.config.presets import flat_values
from pivottrace.config.sections import Config
from pivottrace.config.template import toml_value

PLACE_OF_QUESTIONS = "questions.jsonl"
HEAD = """\
# PivotTrace: which questions to label, which to train on the model's own vote, which to drop.
# Edit the three settings behind >>>. Then: pivottrace validate {}
# Every other setting has a default. All of them, explained: pivottrace init all.toml --all
"""
# Comments above a setting, by dotted key. A setting of its own value None is commented out.
SHOWN: dict[str, str] = {
    "output": "The folder of this run.",
    "pool.questions": (
        ">>> 1. Your questions: a .jsonl, .json, .csv or .parquet file, or a data set of the Hub.\n"
        'Columns are found by their usual names; else add: map = { prompt = "...", answer = "..." }'
    ),
    "pool.evaluation": (
        "Held-out questions with answers. Without them nothing says whether training helped."
    ),
    "model.path": (
        '>>> 2. Your model: a folder, a .gguf file, or a name on the Hub. "embedded" is a tiny\n'
        "model for trying things out; it knows only the questions of its own world."
    ),
    "labels.budget": (
        ">>> 3. How many true answers you can pay for: a share of the pool up to 1, or a number.\n"
        "Answers that the pool has are used first. People give the others, while the run waits."
    ),
    "rollouts.max_new_tokens": "The longest response, in tokens. Models that reason need more.",
    "train.enabled": "Without training, a run ends with its route files.",
    "train.steps": "One step trains on train.questions_per_step questions.",
}


def starter(config: Config, path: Path) -> str:
    """A short configuration file: the settings of `SHOWN`, and all other changed ones."""
    lines = [HEAD.format(shlex.quote(str(path)))]
    shown = _starting_values(config)
    by_section: dict[str, list[str]] = {}
    for key, value in shown.items():
        section, _, name = key.rpartition(".")
        of_section = by_section.setdefault(section, [])
        of_section += [f"# {line}" for line in SHOWN.get(key, "").splitlines()]
        of_section.append(_line(name, value))
    for section, written in by_section.items():
        lines += [f"\n[{section}]", *written] if section else written
    return "\n".join(lines) + "\n"


def _starting_values(config: Config) -> dict[str, Any]:
    """The settings to write, by dotted key, the sections in the order of `Config`."""
    values, defaults = flat_values(config), flat_values(Config())
    wanted = {key: value for key, value in values.items() if key in SHOWN or value != defaults[key]}
    if wanted["pool.questions"] == defaults["pool.questions"]:
        wanted["pool.questions"] = PLACE_OF_QUESTIONS
    return wanted


def _line(name: str, value: Any) -> str:
    if value is None:
        return f"# {name} = ..."
    return toml_value(name, value)

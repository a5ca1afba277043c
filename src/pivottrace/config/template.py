"""The configuration as a file for people: every setting with its meaning."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from pivottrace.config.presets import PRESETS
from pivottrace.config.section import Section
from pivottrace.config.sections import Config


def inline_table(table: dict[str, Any]) -> str:
    """A table as TOML on one line."""
    pairs = []
    for key, value in table.items():
        name = tomli_w.dumps({key: 0}).removesuffix(" = 0\n")
        nested = isinstance(value, dict)
        pairs.append(f"{name} = {inline_table(value)}" if nested else tomli_w.dumps({key: value}))
    return f"{{{', '.join(pair.strip() for pair in pairs)}}}"


def toml_value(name: str, value: Any) -> str:
    """A setting as a line of its section."""
    if isinstance(value, dict):
        return f"{name} = {inline_table(value)}"
    if isinstance(value, float) and value.is_integer() and value > 1:
        value = int(value)  # a number of labels, not a share
    return tomli_w.dumps({name: value}).strip()


def place_in_file(key: str, value: Any) -> str:
    """The line of a file for a setting, and its place, in words. `key` is dotted."""
    section, _, name = key.rpartition(".")
    line = f"no `{name}`" if value is None else f"`{toml_value(name, value)}`"
    return f"{line} under [{section}]" if section else f"{line} at the top"


def template(config: Config, path: Path) -> str:
    """A configuration file with every setting and its meaning.

    Unset settings are commented out. So are the settings of the preset, because a file's keys
    override its preset: the user may then name another preset in the file.
    """
    lines = [
        f"# PivotTrace configuration. Run it with: pivottrace run {shlex.quote(str(path))}",
        "# A setting behind a # is unset, or the preset sets it. Remove the # to set it.",
        "",
    ]
    tops = [n for n in Config.model_fields if not isinstance(getattr(config, n), Section)]
    lines += _template_fields(config, tops, {})
    for name in Config.model_fields:
        section = getattr(config, name)
        if isinstance(section, Section):
            lines += _template_section(name, section, PRESETS[config.preset].get(name, {}))
    return "\n".join(lines) + "\n"


def _template_section(key: str, section: Section, by_preset: Mapping[str, Any]) -> list[str]:
    """A section under its heading, then the sections inside it, as TOML wants them."""
    inner = {n: getattr(section, n) for n in type(section).model_fields}
    sections = {n: value for n, value in inner.items() if isinstance(value, Section)}
    lines = ["", f"[{key}]", f"# {(type(section).__doc__ or '').strip()}"]
    lines += _template_fields(section, [n for n in inner if n not in sections], by_preset)
    for name, value in sections.items():
        lines += _template_section(f"{key}.{name}", value, {})
    return lines


def _template_fields(section: Section, names: list[str], by_preset: Mapping[str, Any]) -> list[str]:
    values = section.model_dump(mode="json")
    lines = []
    for name in names:
        description = type(section).model_fields[name].description
        lines += [f"# {line.strip()}" for line in (description or "").splitlines() if line.strip()]
        value = values[name]
        if value is None:
            lines.append(f"# {name} = ")
        elif isinstance(value, dict):
            lines.append(f"{name} = {inline_table(value)}")
        else:
            hidden = "# " if by_preset.get(name) == value else ""
            lines.append(hidden + tomli_w.dumps({name: value}).strip())
    return lines

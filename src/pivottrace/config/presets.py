"""The configuration is read from TOML over a preset, and written back with every value."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError

from pivottrace.config.section import Section
from pivottrace.config.sections import Config, PivotsConfig, TraceConfig
from pivottrace.errors import ConfigError

_PAPER: dict[str, dict[str, Any]] = {
    "pivots": {
        "reading": "onset",
        "statistic": "density",
        "percentile": 95.0,
        "amplitude": 0.05,
        "window": 10,
    },
    "trace": {"heads": "all"},
}
# Every preset has the same keys, so that each one undoes the others.
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "default": {
        "pivots": {key: getattr(PivotsConfig(), key) for key in _PAPER["pivots"]},
        "trace": {key: getattr(TraceConfig(), key) for key in _PAPER["trace"]},
    },
    "paper": _PAPER,
}


def load_config(path: Path) -> Config:
    """Read a TOML file over its preset.

    Raises:
        ConfigError: The file is missing, is not TOML, or has an unknown key or a wrong value. The
            message names the file, the key and the nearest valid one.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file. Write one with: pivottrace init {path}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    return parse_config(values, where=str(path))


def parse_config(values: dict[str, Any], where: str) -> Config:
    """Validate a nested dict over its preset; `where` names it in errors. Raises ConfigError."""
    merged = {**values}
    for section, defaults in _preset(values.get("preset", "default"), where).items():
        given = values.get(section, {})
        merged[section] = {**defaults, **given} if isinstance(given, dict) else given
    try:
        return Config.model_validate(merged)
    except ValidationError as error:
        raise ConfigError(explain(where, error)) from None


def apply_preset(config: Config, name: str) -> Config:
    """Put a preset's values over a configuration, as `--preset` does. Raises ConfigError."""
    sections = {
        section: getattr(config, section).model_copy(update=values)
        for section, values in _preset(name, "command line").items()
    }
    return config.model_copy(update={"preset": name, **sections})


def _preset(name: Any, where: str) -> dict[str, dict[str, Any]]:
    if name not in list(PRESETS):
        raise ConfigError(f"{where}: preset = {name!r} is not one of {', '.join(PRESETS)}")
    return PRESETS[name]


# Reasons in our words, by pydantic's type of error. Its other messages are plain enough.
_IN_WORDS = {
    "int_parsing": "give a whole number",
    "int_type": "give a whole number",
    "int_from_float": "give a whole number",
    "float_parsing": "give a number",
    "float_type": "give a number",
    "bool_parsing": "give true or false",
    "bool_type": "give true or false",
    "string_type": "give text, in quotes",
}


def explain(where: str, error: ValidationError) -> str:
    """One line per mistake, which names the key and the cure."""
    return "\n".join(_explain(where, e) for e in error.errors())


# A key or a password may stand where an address or a name should.
_NOT_SHOWN = ("rollouts.server.url", "rollouts.server.api_key_env")


def _explain(where: str, error: Any) -> str:
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] != "extra_forbidden":
        reason = _IN_WORDS.get(error["type"], error["msg"].removeprefix("Value error, "))
        value = "" if key in _NOT_SHOWN else f" = {error['input']!r}"
        return f"{where}: {key}{value}: {reason}"
    near = difflib.get_close_matches(key, valid_keys(), n=1, cutoff=0.0)
    return f"{where}: {key} is not a setting. The nearest one is {near[0]}."


def valid_keys(section: type[Section] = Config, prefix: str = "") -> list[str]:
    """Every dotted key of the tree."""
    keys = []
    for name, field in section.model_fields.items():
        keys.append(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            keys += valid_keys(field.annotation, f"{prefix}{name}.")
    return keys


def flat_values(section: Section, prefix: str = "") -> dict[str, Any]:
    """Every setting's value by dotted key, in the order of the tree. A table is one value."""
    values = section.model_dump(mode="json")
    flat: dict[str, Any] = {}
    for name in type(section).model_fields:
        inner = getattr(section, name)
        if isinstance(inner, Section):
            flat |= flat_values(inner, f"{prefix}{name}.")
        else:
            flat[prefix + name] = values[name]
    return flat


def dump_config(config: Config) -> str:
    """The resolved tree as TOML text."""
    return tomli_w.dumps(config.model_dump(mode="json", exclude_none=True))

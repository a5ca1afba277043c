"""Settings from the command line: tyro reads them, and this module checks them."""

from __future__ import annotations

import copy
import dataclasses
import shlex
import tomllib
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tyro
from pydantic import ValidationError

from pivottrace.commands.usage import SHORTCUTS
from pivottrace.config import Config, Section, apply_preset, explain, load_config
from pivottrace.config.as_flags import flag_of
from pivottrace.config.presets import valid_keys
from pivottrace.config.template import inline_table
from pivottrace.errors import ConfigError

WHERE = "command line"
# Flags of one text, which may have spaces.
_ONE_VALUE = (
    "--map",
    "--questions",
    "--model",
    "--output",
    "--pool.questions",
    "--pool.template",
    "--pool.system-prompt",
    "--pool.prompt-suffix",
    "--model.path",
    "--answers.pattern",
)
# Kinds of numbers: as a word for tyro, and as the help shows them.
_NUMBERS: dict[Any, tuple[Any, str]] = {
    int: (str, "INT"),
    float: (str, "FLOAT"),
    int | None: (str | None, "{None}|INT"),
    float | None: (str | None, "{None}|FLOAT"),
}


def load(arguments: list[str]) -> Config:
    """The configuration of a file, of a run directory, or of flags alone. Flags override it.

    Raises:
        ConfigError: The target is neither a file nor a run directory, or a key or value is wrong.
        SystemExit: Tyro has printed an error about a flag (2), or its help (0).
    """
    target, flags = split_target(arguments)
    if target is None:
        return parse(flags, Config())
    if target.is_dir():
        if not (target / "config.toml").is_file():
            raise ConfigError(
                f"{target} is a folder without config.toml, so not a run directory. Give a "
                f"configuration file or a run directory."
            )
        config = load_config(target / "config.toml")
        # A run directory may have been moved, so its present path counts, not the stored one.
        return parse(flags, config.model_copy(update={"output": target}))
    if not target.exists() and target.suffix != ".toml":
        raise ConfigError(
            f"{target} is neither a run directory nor a configuration file. Check the path; "
            f"pivottrace init my.toml writes a configuration file."
        )
    return parse(flags, load_config(target))


def split_target(arguments: list[str]) -> tuple[Path | None, list[str]]:
    """The leading file or directory, if any, and the flags."""
    if arguments and not arguments[0].startswith("-"):
        return Path(arguments[0]), arguments[1:]
    return None, arguments


def take_option(arguments: list[str], name: str) -> str | None:
    """Remove `name VALUE` or `name=VALUE` from the arguments and return the value."""
    for index, argument in enumerate(arguments):
        if argument == name and index + 1 < len(arguments):
            value = arguments[index + 1]
            del arguments[index : index + 2]
            return value
        if argument.startswith(f"{name}="):
            del arguments[index]
            return argument.removeprefix(f"{name}=")
    return None


def take_flag(arguments: list[str], name: str) -> bool:
    """Remove a flag without a value from the arguments, and return whether it was given."""
    found = name in arguments
    while name in arguments:
        arguments.remove(name)
    return found


def parse(flags: list[str], default: Config) -> Config:
    """A configuration with flags over it. Raises as `load`."""
    flags = list(flags)
    if (preset := take_option(flags, "--preset")) is not None:
        default = apply_preset(default, preset)
    _refuse_a_word_too_many(flags)
    columns = dict(default.pool.map)
    while (pair := take_option(flags, "--map")) is not None:
        source, separator, column = pair.partition("=")
        if not separator:
            raise ConfigError(f"--map {pair}: write it as --map prompt=COLUMN")
        columns[source] = column
    _refuse_unknown_flags(flags)
    default = default.model_copy(update={"pool": default.pool.model_copy(update={"map": columns})})
    start = _unchecked(default)
    given = start
    if flags:  # without any, a quarter of a second is saved
        given = tyro.cli(
            type(start),
            args=[_long_form(flag) for flag in flags],
            default=start,
            prog="pivottrace run",
            description="Every setting, with its value:",
        )
    try:
        return Config.model_validate(_values(default, given))
    except ValidationError as error:
        raise ConfigError(explain(WHERE, error)) from None


def _refuse_a_word_too_many(flags: list[str]) -> None:
    """Refuse a second word behind a flag of one value: quotes are missing. Raises ConfigError."""
    for flag, value, more in zip(flags, flags[1:], flags[2:], strict=False):
        if flag in _ONE_VALUE and not value.startswith("--") and not more.startswith("--"):
            raise ConfigError(
                f"{flag} {value} {more}: a value with spaces needs quotes: "
                f"{flag} {shlex.quote(f'{value} {more}')}"
            )


def _refuse_unknown_flags(flags: list[str]) -> None:
    """Refuse a flag that is no setting, and name the nearest one. Raises ConfigError."""
    known = {*SHORTCUTS, "--map", "--preset", "--help", "-h", *map(flag_of, valid_keys())}
    for text in flags:
        name = text.partition("=")[0]
        if not name.startswith("--") or name.replace("_", "-") in known:
            continue
        near = get_close_matches(name.replace("_", "-"), sorted(known), n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ConfigError(f"{name} is not a setting.{hint} See: pivottrace run --help")


def _long_form(flag: str) -> str:
    name, separator, value = flag.partition("=")
    return SHORTCUTS.get(name, name) + separator + value


def _unchecked(section: Section) -> Any:
    """A section as a dataclass without checks, so that a wrong value reaches `explain`.

    A table becomes its TOML text, because tyro has no flag for a table. True and false become
    words, because tyro's own switches take no value. Numbers become words, because tyro
    explains a wrong number in Python's words.
    """
    fields = []
    for name, info in type(section).model_fields.items():
        value = getattr(section, name)
        kind: Any = info.annotation
        shown = None
        if isinstance(value, Section):
            value = _unchecked(value)
            kind = type(value)
        elif isinstance(value, dict):
            kind, value, shown = str, inline_table(value), "TABLE"
        elif isinstance(value, bool):
            kind, value, shown = str, str(value).lower(), "{true,false}"
        elif info.annotation in _NUMBERS:
            kind, shown = _NUMBERS[info.annotation]
            value = None if value is None else str(value)
        argument = tyro.conf.arg(help=info.description, metavar=shown)
        default = dataclasses.field(default_factory=partial(copy.copy, value))
        fields.append((name, Annotated[kind, argument], default))
    made = dataclasses.make_dataclass(type(section).__name__, fields)
    made.__doc__ = type(section).__doc__
    return made()


def _values(default: Section, given: Any, prefix: str = "") -> dict[str, Any]:
    """The tree of values in `given`, a copy of `default` that `_unchecked` made."""
    values: dict[str, Any] = {}
    for name in type(default).model_fields:
        was, now = getattr(default, name), getattr(given, name)
        if isinstance(was, Section):
            now = _values(was, now, f"{prefix}{name}.")
        elif isinstance(was, dict):
            # A table from a file may have no inline form, so an untouched table stays unchanged.
            now = was if now == inline_table(was) else _table(prefix + name, now)
        values[name] = now
    return values


def _table(key: str, text: str) -> dict[str, Any]:
    text = text if text.lstrip().startswith("{") else f"{{{text}}}"
    try:
        table: dict[str, Any] = tomllib.loads(f"table = {text}")["table"]
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f'{WHERE}: {key} = {text} is not a table: {error}. Write it as "{{name = true}}".'
        ) from None
    return table

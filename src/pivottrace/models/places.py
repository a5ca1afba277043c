"""The place of a model's files: the package, a folder, or the Hub and its cache."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from huggingface_hub import try_to_load_from_cache

from pivottrace.config import EMBEDDED_MODEL, ModelConfig
from pivottrace.errors import ModelError
from pivottrace.ingest.hub_access import CURE, tell_of_cache, unreachable
from pivottrace.models.gguf_folder import gguf_folder, is_gguf
from pivottrace.models.packages import is_packaged, packaged


def local_path(name: str) -> Path:
    """The path that `model.path` means if the model lies on this machine.

    Raises:
        ModelError: A package is named that is not here, or has no such file.
    """
    return packaged(name) if is_packaged(name) else Path(name).expanduser()


def is_hub_id(name: str) -> bool:
    """Whether `model.path` can only be a name on the Hub. The Hub is not asked."""
    path = Path(name).expanduser()
    return not (name == EMBEDDED_MODEL or is_packaged(name) or is_gguf(path) or path.exists())


def place_for_others(config: ModelConfig) -> str:
    """`model.path` as other trainers take it: the folder of a `.gguf` file or of a packaged model.

    Raises as `place_of`.
    """
    ours = is_packaged(config.path) or is_gguf(Path(config.path).expanduser())
    return place_of(config) if ours else config.path


def place_of(config: ModelConfig) -> str:
    """The folder or Hub id to load a model from.

    A `.gguf` file is dequantised first, if it is not yet. If the Hub cannot be reached, this is the
    model's folder in the Hub's cache.

    Raises:
        ModelError: There is no such folder, file or package, or the file cannot be read. For a Hub
            id: the Hub cannot be reached, and its cache has no whole copy.
        ConfigError: The file needs the package gguf, which is not installed.
        OutOfDiskError: There is no room for the dequantised weights.
    """
    if config.path == EMBEDDED_MODEL:
        return str(files("pivottrace.world") / "reasoner")
    path = local_path(config.path)
    if is_gguf(path):
        return str(gguf_folder(path, config.path))
    if path.is_dir():
        return str(path)
    if path.exists() and is_packaged(config.path):
        raise ModelError(f"{config.path}: this is no model. Give a .gguf file or a model folder.")
    if config.path.startswith((".", "/", "~")):
        raise ModelError(
            f"{config.path}: no such model folder. Give a folder with config.json, safetensors and "
            f"tokenizer files, or a Hub id such as Qwen/Qwen3-0.6B."
        )
    why = unreachable()
    if why is None:
        return config.path
    folder = cached_folder(config)
    if folder is None:
        raise ModelError(
            f"{config.path}: no such folder here, no whole copy in the Hub's cache, and {why}. "
            f"{CURE}"
        )
    tell_of_cache(config.path, why)
    return str(folder)


def cached_folder(config: ModelConfig) -> Path | None:
    """The folder of a Hub model in the Hub's cache; None if it is not there with all its weights.

    The Hub is not asked.

    Raises:
        ModelError: The index of the weights is wrong.
    """
    from pivottrace.models.weights import weight_names  # heavy, and exports need only places

    try:
        found = try_to_load_from_cache(config.path, "config.json", revision=config.revision)
    except ValueError:  # no Hub id
        return None
    if not isinstance(found, str):
        return None
    folder = Path(found).parent
    whole = all((folder / name).is_file() for name in weight_names(folder, config.path))
    return folder if whole else None

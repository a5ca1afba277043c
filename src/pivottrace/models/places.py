"""The place of a model's files: the package, a folder, or the Hub and its cache."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from huggingface_hub import try_to_load_from_cache

from pivottrace.config import EMBEDDED_MODEL, ModelConfig
from pivottrace.errors import ModelError
from pivottrace.ingest.hub_access import CURE, tell_of_cache, unreachable
from pivottrace.models.weights import weight_names


def place_of(config: ModelConfig) -> str:
    """The folder or Hub id to load a model from.

    If the Hub cannot be reached, this is the model's folder in the Hub's cache.

    Raises:
        ModelError: There is no such folder. For a Hub id: the Hub cannot be reached, and its cache
            has no whole copy.
    """
    if config.path == EMBEDDED_MODEL:
        return str(files("pivottrace.world") / "reasoner")
    path = Path(config.path).expanduser()
    if path.is_dir():
        return str(path)
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
    try:
        found = try_to_load_from_cache(config.path, "config.json", revision=config.revision)
    except ValueError:  # no Hub id
        return None
    if not isinstance(found, str):
        return None
    folder = Path(found).parent
    whole = all((folder / name).is_file() for name in weight_names(folder, config.path))
    return folder if whole else None

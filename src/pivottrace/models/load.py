"""Load a model and its tokenizer by Hugging Face transformers; errors say what is wrong."""

from __future__ import annotations

import json
import os
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import cached_file

from pivottrace.config import EMBEDDED_MODEL, ModelConfig
from pivottrace.errors import ModelError, first_line
from pivottrace.run.markers import changed_files


def resolve_path(path: str) -> str:
    """The folder or Hub id behind a configured model path."""
    if path == EMBEDDED_MODEL:
        return str(files("pivottrace.world") / "reasoner")
    return str(Path(path).expanduser()) if path.startswith("~") else path


def choose_device(wanted: str) -> torch.device:
    """Find the device of a setting. `auto` takes CUDA if it can be used, else the CPU.

    `auto` never takes Apple's MPS, because MPS has no float64 and tracing sums in float64.

    Raises:
        ModelError: There is no such device, or this torch or this machine cannot use it.
    """
    if wanted != "auto":
        return _usable_device(wanted)
    if torch.cuda.is_available():
        # `accelerate launch` gives each process that it starts a GPU of its own.
        place = os.environ.get("LOCAL_RANK")
        return torch.device("cuda" if place is None else f"cuda:{place}")
    return torch.device("cpu")


def _usable_device(wanted: str) -> torch.device:
    try:
        device = torch.device(wanted)
        # The call fails on "meta" too, a device without memory, and on MPS, which has no float64.
        torch.zeros(1, dtype=torch.float64, device=device).item()
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ModelError(
            f"model.device = {wanted!r} cannot be used here: {first_line(error)}. Give auto, cpu, "
            f"or a device that this torch and this machine have, such as cuda or cuda:0."
        ) from error
    return device


def load_model(config: ModelConfig) -> tuple[Any, Any]:
    """Load a model in eval mode, and its tokenizer. No remote code is run.

    Weights come from safetensors files. `dtype = "auto"` is float32 on the CPU, and the
    checkpoint's own dtype on an accelerator.

    Raises:
        ModelError: There is no such folder, Hub id or device. Or the folder has no tokenizer, no
            whole safetensors weights or no token to pad with. Or the model is not a causal language
            model.
    """
    device = choose_device(config.device)
    tokenizer = load_tokenizer(config)
    path = resolve_path(config.path)
    _refuse_changed_weights(path)
    dtype = config.dtype
    if dtype == "auto" and device.type == "cpu":
        dtype = "float32"
    try:
        model = AutoModelForCausalLM.from_pretrained(
            path,
            revision=config.revision,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
        )
        if config.revision is not None:
            # If `beta` > 0, TRL loads the reference model by this name, without any revision.
            weights = cached_file(path, "config.json", revision=config.revision)
            model.config.name_or_path = Path(weights).parent
    except SafetensorError as error:
        raise _torn_weights(config.path, error) from error
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{config.path}: the model cannot be loaded: {first_line(error)}"
        ) from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token = _end_token(model, tokenizer, config.path)
    return model.to(device).eval(), tokenizer


def check_weights(config: ModelConfig) -> str:
    """Check the weights without loading them, and return a sentence on them.

    The weights of a Hub model are not checked here, because they are downloaded only when a stage
    needs them.

    Raises:
        ModelError: The folder has no safetensors weights, or a weights file is torn or missing.
    """
    folder = Path(resolve_path(config.path))
    if not folder.is_dir():
        return "weights are looked at when a stage first loads them"
    _refuse_changed_weights(folder)
    index = folder / "model.safetensors.index.json"
    names = {"model.safetensors"}
    try:
        if index.is_file():
            names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        for name in sorted(names):
            # `safe_open` reads the header and checks the length of the file.
            with safe_open(folder / name, framework="pt"):
                pass
    except FileNotFoundError:
        raise ModelError(
            f"{config.path}: {name} is missing. Save the model's weights there as safetensors, "
            f"with model.save_pretrained."
        ) from None
    except (SafetensorError, ValueError, KeyError) as error:
        raise _torn_weights(config.path, error) from error
    return f"weights of {sum((folder / n).stat().st_size for n in names) / 1e6:,.1f} MB"


def _refuse_changed_weights(path: str | Path) -> None:
    """Compare the weights of a model that PivotTrace has trained with its folder's marker."""
    for name in changed_files(Path(path), "*.safetensors"):
        raise ModelError(
            f"{path}: {name} is not what training wrote there. Put it back from a copy, or train "
            f"again in another directory (--output)."
        )


def _torn_weights(where: str, error: Exception) -> ModelError:
    return ModelError(
        f"{where}: the weights are torn: {first_line(error)}. Copy, save or download them again."
    )


def _end_token(model: Any, tokenizer: Any, path: str) -> str:
    """A token that ends the model's responses, for a tokenizer that names no end and no padding."""
    tokens = tokenizer.convert_ids_to_tokens(stop_token_ids(model, tokenizer))
    token = next((token for token in tokens if token is not None), None)
    if token is None:
        raise ModelError(
            f"{path}: neither the tokenizer nor generation_config.json names a padding or an "
            f"end-of-sequence token. Set tokenizer.pad_token (and eos_token, so that responses can "
            f"end) and save it into the model folder with tokenizer.save_pretrained."
        )
    return token


def load_tokenizer(config: ModelConfig) -> Any:
    """Load the tokenizer alone, padding on the left. A ModelError names a missing file."""
    path = resolve_path(config.path)
    local = Path(path).is_dir()
    if not local and path.startswith((".", "/")):
        raise ModelError(
            f"{config.path}: no such model folder. Give a folder with config.json, safetensors and "
            f"tokenizer files, or a Hub id such as Qwen/Qwen3-0.6B."
        )
    try:
        AutoConfig.from_pretrained(path, revision=config.revision, trust_remote_code=False)
    except (OSError, ValueError) as error:
        problem = (
            "no usable config.json" if local else "no such folder here, and not found on the Hub"
        )
        raise ModelError(
            f"{config.path}: {problem}: {first_line(error).rstrip('.')}. Give a model folder, or "
            f"a Hub id such as Qwen/Qwen3-0.6B."
        ) from error
    folder = Path(path)
    if local and not any(
        (folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")
    ):
        raise ModelError(
            f"{config.path}: the model folder has no tokenizer (tokenizer.json, tokenizer.model or "
            f"vocab.json). Save one into it with tokenizer.save_pretrained."
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            path, revision=config.revision, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{config.path}: the tokenizer cannot be loaded: {first_line(error)}"
        ) from error
    tokenizer.padding_side = "left"
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def stop_token_ids(model: Any, tokenizer: Any) -> list[int]:
    """Every token that ends a response, by the tokenizer or by the model's generation settings."""
    own = model.generation_config.eos_token_id
    own = own if isinstance(own, list) else [own]
    return sorted({token for token in (*own, tokenizer.eos_token_id) if token is not None})

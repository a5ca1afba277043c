"""Hugging Face transformers: load a model and its tokenizer, and say what is wrong with them."""

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


def resolve_path(path: str) -> str:
    """The folder or Hub id behind a configured model path."""
    if path == EMBEDDED_MODEL:
        return str(files("pivottrace.world") / "reasoner")
    return str(Path(path).expanduser()) if path.startswith("~") else path


def choose_device(wanted: str) -> torch.device:
    """`auto`: CUDA, else the CPU; Apple's MPS has no float64, which tracing sums in.

    Raises:
        ModelError: There is no such device, or this torch or this machine cannot use it.
    """
    if wanted != "auto":
        return _usable_device(wanted)
    if torch.cuda.is_available():
        # Each process that `accelerate launch` starts has a GPU of its own.
        place = os.environ.get("LOCAL_RANK")
        return torch.device("cuda" if place is None else f"cuda:{place}")
    return torch.device("cpu")


def _usable_device(wanted: str) -> torch.device:
    try:
        device = torch.device(wanted)
        # On "meta", a device without memory, this fails too, and on MPS for want of float64.
        torch.zeros(1, dtype=torch.float64, device=device).item()
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ModelError(
            f"model.device = {wanted!r} cannot be used here: {first_line(error)}. Give auto, cpu, "
            f"or a device that this torch and this machine have, such as cuda or cuda:0."
        ) from error
    return device


def load_model(config: ModelConfig) -> tuple[Any, Any]:
    """Load (model in eval mode, tokenizer); weights from safetensors, no remote code.

    `dtype = "auto"` is float32 on the CPU and the checkpoint's own on an accelerator.

    Raises:
        ModelError: No such folder or Hub id, no tokenizer, no whole safetensors weights, not a
            causal language model, no token to pad with, or no such device.
    """
    device = choose_device(config.device)
    tokenizer = load_tokenizer(config)
    path = resolve_path(config.path)
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
            # TRL loads the reference model of `beta` > 0 by this name, without any revision.
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
    """Look at the weights without loading them, and say what was found.

    A Hub model's are downloaded, and so looked at, only when a stage needs them.

    Raises:
        ModelError: A folder without safetensors weights, or with a torn or missing file.
    """
    folder = Path(resolve_path(config.path))
    if not folder.is_dir():
        return "weights are looked at when a stage first loads them"
    index = folder / "model.safetensors.index.json"
    names = {"model.safetensors"}
    try:
        if index.is_file():
            names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        for name in sorted(names):
            with safe_open(folder / name, framework="pt"):  # reads the header, checks the length
                pass
    except FileNotFoundError:
        raise ModelError(
            f"{config.path}: {name} is missing. Save the model's weights there as safetensors, "
            f"with model.save_pretrained."
        ) from None
    except (SafetensorError, ValueError, KeyError) as error:
        raise _torn_weights(config.path, error) from error
    return f"weights of {sum((folder / n).stat().st_size for n in names) / 1e6:,.1f} MB"


def _torn_weights(where: str, error: Exception) -> ModelError:
    return ModelError(
        f"{where}: the weights are torn: {first_line(error)}. Copy, save or download them again."
    )


def _end_token(model: Any, tokenizer: Any, path: str) -> str:
    """A token that ends the model's responses, where the tokenizer names neither it nor padding."""
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
    """Load the tokenizer alone, padded on the left. Raises ModelError, naming what is missing."""
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
            "no usable config.json"
            if local
            else "no such folder here, and not to be had from the Hub"
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
    """Every token that ends a response: the tokenizer's and the model's own."""
    own = model.generation_config.eos_token_id
    own = own if isinstance(own, list) else [own]
    return sorted({token for token in (*own, tokenizer.eos_token_id) if token is not None})

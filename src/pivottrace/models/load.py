"""Load a model and its tokenizer by Hugging Face transformers; errors say what is wrong."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import cached_file

from pivottrace.config import ModelConfig
from pivottrace.errors import ModelError, first_line, is_out_of_memory
from pivottrace.models.gguf_folder import is_gguf
from pivottrace.models.places import cached_folder, local_path, place_of
from pivottrace.models.template_trial import refuse_endless_template
from pivottrace.models.weights import (
    refuse_changed_weights,
    refuse_other_tensors,
    refuse_small_vocabulary,
    refuse_unfinite,
    torn_weights,
    weight_files,
)

# The errors of transformers for files that make no model. A wrong field is often noticed only by
# the first line that uses it, so these are the errors of any use of a wrong value.
UNLOADABLE = (
    OSError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    AssertionError,
    ImportError,
    RuntimeError,
    StrictDataclassError,
)


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

    Weights come from safetensors files; a `.gguf` file is made into them first. `dtype = "auto"` is
    float32 on the CPU, and the checkpoint's own dtype on an accelerator.

    Raises:
        ModelError: There is no such folder, Hub id or device. Or the folder has no tokenizer, no
            whole safetensors weights or no token to pad with. Or its files do not make one causal
            language model, with finite weights and an embedding of each token.
    """
    device = choose_device(config.device)
    tokenizer = load_tokenizer(config)
    path = place_of(config)
    if Path(path).is_dir():
        weight_files(Path(path), config.path)
        refuse_changed_weights(Path(path), config.path)
    dtype = config.dtype
    if dtype == "auto" and device.type == "cpu":
        dtype = "float32"
    try:
        model, found = AutoModelForCausalLM.from_pretrained(
            path,
            revision=config.revision,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are in `found`, by name
        )
        if config.revision is not None:
            # If `beta` > 0, TRL loads the reference model by this name, without any revision.
            weights = cached_file(path, "config.json", revision=config.revision)
            model.config.name_or_path = Path(weights).parent
    except SafetensorError as error:
        raise torn_weights(config.path, error) from error
    except UNLOADABLE as error:
        if is_out_of_memory(error):
            raise
        cure = "Check config.json, and that this version of transformers knows the model."
        if not Path(path).is_dir():
            cure = "Check the Hub id, its revision and your access to it."
        raise ModelError(
            f"{config.path}: the model cannot be loaded: {_reason(error)}. {cure}"
        ) from error
    refuse_other_tensors(model, found, config.path)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token = _end_token(model, tokenizer, config.path)
    refuse_small_vocabulary(model, tokenizer, config.path)
    model = model.to(device).eval()
    refuse_unfinite(model, config.path)
    return model, tokenizer


def check_weights(config: ModelConfig) -> str:
    """Load a model as a stage does, only to see that it is whole. Return a sentence on its weights.

    The weights of a Hub model are checked if the Hub's cache has them all. Else they are not
    downloaded here, but when a stage first needs them.

    Raises:
        ModelError: As `load_model`.
    """
    folder = Path(place_of(config))
    if not folder.is_dir():
        cached = cached_folder(config)
        if cached is None:
            return (
                f"weights not looked at: the first stage downloads them; to check them before, "
                f"validate again after {shlex.join(_download(config))}"
            )
        folder, config = cached, config.model_copy(update={"path": str(cached), "revision": None})
    load_model(config)
    size = sum(file.stat().st_size for file in weight_files(folder, config.path))
    weights, file = f"weights of {size / 1e6:,.1f} MB", local_path(config.path)
    if not is_gguf(file):
        return weights
    return f"{weights} in {folder}, dequantised from {file.stat().st_size / 1e6:,.1f} MB"


def _download(config: ModelConfig) -> list[str]:
    """The command of the Hub's own tool that downloads a model."""
    revision = [] if config.revision is None else ["--revision", config.revision]
    return ["hf", "download", config.path, *revision]


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


def load_config(config: ModelConfig) -> Any:
    """Load the configuration of a model alone: its config.json, as transformers reads it.

    Raises:
        ModelError: There is no such folder or Hub id, or config.json is missing or wrong.
    """
    path = place_of(config)
    local = Path(path).is_dir()
    if local and not (Path(path) / "config.json").is_file():
        raise ModelError(
            f"{config.path}: config.json is missing. Save the model there with "
            f"model.save_pretrained, or give another folder."
        )
    try:
        return AutoConfig.from_pretrained(path, revision=config.revision, trust_remote_code=False)
    except UNLOADABLE as error:
        if is_out_of_memory(error):
            raise
        reason = _reason(error)
        if local:
            raise ModelError(
                f"{config.path}: config.json cannot be used: {reason}. Correct it, or copy it "
                f"again from the model that it belongs to."
            ) from error
        raise ModelError(
            f"{config.path}: no such folder here, and not found on the Hub: {reason}. Give a "
            f"model folder, or a Hub id such as Qwen/Qwen3-0.6B."
        ) from error


def max_positions(config: Any) -> int | None:
    """The longest sequence that a model takes, in tokens, by its configuration; None if unsaid."""
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def _reason(error: Exception) -> str:
    """The reason why transformers cannot use a file, in one line without a full stop."""
    # The message of a wrong field stands in the cause; the error itself only names the field.
    if isinstance(error, StrictDataclassError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    words = first_line(error).rstrip(".")
    # Of these, the message alone is often a single word or number.
    is_bare = isinstance(error, LookupError | ArithmeticError | AssertionError)
    return f"{type(error).__name__}: {words}" if is_bare else words


def load_tokenizer(config: ModelConfig) -> Any:
    """Load the tokenizer alone, padding on the left.

    Raises:
        ModelError: As `load_config`. Or the tokenizer is missing or wrong, or its chat template
            takes too long.
    """
    load_config(config)
    path = place_of(config)
    local = Path(path).is_dir()
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
    except Exception as error:
        # A wrong tokenizer.json is a plain `Exception` of the library tokenizers.
        is_ours = type(error) is Exception or isinstance(error, UNLOADABLE)
        if not is_ours or is_out_of_memory(error):
            raise
        raise ModelError(
            f"{config.path}: the tokenizer cannot be loaded: {_reason(error)}. Copy its files "
            f"again, or save it there with tokenizer.save_pretrained."
        ) from error
    refuse_endless_template(tokenizer, config.path)
    tokenizer.padding_side = "left"
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def stop_token_ids(model: Any, tokenizer: Any) -> list[int]:
    """Every token that ends a response, by the tokenizer or by the model's generation settings."""
    own = model.generation_config.eos_token_id
    own = own if isinstance(own, list) else [own]
    return sorted({token for token in (*own, tokenizer.eos_token_id) if token is not None})

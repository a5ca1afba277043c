"""Hugging Face transformers: load a model, render prompts, generate."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.utils import cached_file

from pivottrace.config import EMBEDDED_MODEL, ModelConfig, PoolConfig
from pivottrace.errors import ModelError
from pivottrace.models.batches import in_batches
from pivottrace.models.compact import generate_compacting


@dataclass(frozen=True)
class Generated:
    """One response.

    Attributes:
        tokens: response token ids, without the end-of-sequence token.
        text: the tokens decoded, special tokens left out, cut before a stop string.
        finish: `stop` (end of sequence or stop string), `length` (cut at the limit) or `failed`
            (the prompt left no room for a response, so there is none).
    """

    tokens: list[int]
    text: str
    finish: str


def resolve_path(path: str) -> str:
    """The folder or Hub id behind a configured model path."""
    if path == EMBEDDED_MODEL:
        return str(files("pivottrace.world") / "reasoner")
    return str(Path(path).expanduser()) if path.startswith("~") else path


def choose_device(wanted: str) -> torch.device:
    """`auto`: CUDA, else the CPU; Apple's MPS has no float64, which tracing sums in.

    Raises:
        ModelError: there is no such device, or this torch or this machine cannot use it.
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
            f"model.device = {wanted!r} cannot be used here: {_first_line(error)}. Give auto, cpu, "
            f"or a device that this torch and this machine have, such as cuda or cuda:0."
        ) from error
    return device


def load_model(config: ModelConfig) -> tuple[Any, Any]:
    """Load (model in eval mode, tokenizer); weights from safetensors, no remote code.

    `dtype = "auto"` is float32 on the CPU and the checkpoint's own on an accelerator.

    Raises:
        ModelError: no such folder or Hub id, no tokenizer, no whole safetensors weights, not a
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
            f"{config.path}: the model cannot be loaded: {_first_line(error)}"
        ) from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token = _end_token(model, tokenizer, config.path)
    return model.to(device).eval(), tokenizer


def check_weights(config: ModelConfig) -> str:
    """Look at the weights without loading them, and say what was found.

    A Hub model's are downloaded, and so looked at, only when a stage needs them.

    Raises:
        ModelError: a folder without safetensors weights, or with one that is torn or missing.
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
        f"{where}: the weights are torn: {_first_line(error)}. Copy, save or download them again."
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
            "no usable config.json" if local else "no such folder here, nor to be had from the Hub"
        )
        raise ModelError(
            f"{config.path}: {problem}: {_first_line(error).rstrip('.')}. Give a model folder, or "
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
            f"{config.path}: the tokenizer cannot be loaded: {_first_line(error)}"
        ) from error
    tokenizer.padding_side = "left"
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def render_prompt(tokenizer: Any, messages: list[dict[str, str]], pool: PoolConfig) -> list[int]:
    """Token ids of one prompt: the chat template where there is one, plain text otherwise.

    Raises:
        ModelError: the chat template refuses the messages or the arguments.
    """
    if tokenizer.chat_template is None:
        return tokenizer(plain_text(messages))["input_ids"]
    try:
        text = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=False, **pool.chat_template_args
        )
    except (TypeError, ValueError, TemplateError) as error:
        roles = ", ".join(message["role"] for message in messages)
        raise ModelError(
            f"the chat template refuses a prompt of roles {roles}: {_first_line(error)}. Remove "
            f"pool.system_prompt if the template knows no such role (pool.prompt_suffix can say "
            f"the same), and check the prompt's own messages and pool.chat_template_args."
        ) from error
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def plain_text(messages: list[dict[str, str]]) -> str:
    """A prompt for a model without a chat template: the messages' texts, a blank line between."""
    return "\n\n".join(message["content"] for message in messages) + "\n"


def max_positions(model: Any) -> int | None:
    """The longest sequence that the model takes, where its configuration says."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


def stop_token_ids(model: Any, tokenizer: Any) -> list[int]:
    """Every token that ends a response: the tokenizer's and the model's own."""
    own = model.generation_config.eos_token_id
    own = own if isinstance(own, list) else [own]
    return sorted({token for token in (*own, tokenizer.eos_token_id) if token is not None})


def generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    *,
    num_samples: int,
    temperature: float | None,
    top_p: float = 1.0,
    max_new_tokens: int,
    stop: Sequence[str] = (),
    batch_size: int = 64,
    seed: int = 0,
) -> list[list[Generated]]:
    """Generate `num_samples` responses a prompt, batched by prompt length.

    Args:
        model: a causal language model.
        tokenizer: its tokenizer, padding on the left.
        prompts: token ids, one list a prompt.
        num_samples: responses a prompt.
        temperature: None decodes greedily.
        top_p: nucleus; 1 keeps every token (no top-k, no penalties: the model's own generation
            defaults are not taken over).
        max_new_tokens: limit of a response.
        stop: strings that end a response; they are cut from its text.
        batch_size: sequences at once; halved, down to 1, when memory runs out.
        seed: the same seed, prompts and batch size give the same samples, also where memory runs
            out at the same places.

    Returns:
        For each prompt, its responses.

    Raises:
        ModelError: memory runs out with a single sequence.
    """
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), i))
    rows = [index for index in order for _ in range(num_samples)]

    def work(start: int, batch: Sequence[int]) -> list[Generated]:
        torch.manual_seed(seed + start)
        return _generate_batch(
            model, tokenizer, [prompts[i] for i in batch], temperature, top_p, max_new_tokens, stop
        )

    results: list[list[Generated]] = [[] for _ in prompts]
    for index, response in zip(rows, in_batches(rows, batch_size, work), strict=True):
        results[index].append(response)
    return results


@torch.inference_mode()
def _generate_batch(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    temperature: float | None,
    top_p: float,
    max_new_tokens: int,
    stop: Sequence[str],
) -> list[Generated]:
    ends = stop_token_ids(model, tokenizer)
    pad = tokenizer.pad_token_id
    width = max(len(prompt) for prompt in prompts)
    input_ids = torch.full((len(prompts), width), pad)
    attention_mask = torch.zeros_like(input_ids)
    for row, prompt in enumerate(prompts):
        input_ids[row, width - len(prompt) :] = torch.tensor(list(prompt))
        attention_mask[row, width - len(prompt) :] = 1
    sampling: dict[str, Any] = {"do_sample": False}
    if temperature is not None:
        sampling = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0}
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        eos_token_id=ends or None,
        pad_token_id=pad,
        stop_strings=list(stop) or None,
        # NaN logits become a recorded failure of that question when it is traced, not a crash.
        remove_invalid_values=True,
        **sampling,
    )
    output = generate_compacting(
        model,
        input_ids.to(model.device),
        attention_mask.to(model.device),
        config,
        tokenizer=tokenizer if stop else None,
    )[:, width:].tolist()  # (B, T)
    return [_cut(tokenizer, row, set(ends), pad, max_new_tokens, stop) for row in output]


def _cut(
    tokenizer: Any,
    row: list[int],
    ends: set[int],
    pad: int,
    max_new_tokens: int,
    stop: Sequence[str],
) -> Generated:
    """Cut a generated row at its end-of-sequence token, padding or stop string."""
    length = next((i for i, token in enumerate(row) if token in ends or token == pad), len(row))
    text = tokenizer.decode(row[:length], skip_special_tokens=True)
    stops = [position for s in stop if (position := text.find(s)) >= 0]
    finish = "length" if length == max_new_tokens and not stops else "stop"
    return Generated(row[:length], text[: min(stops)] if stops else text, finish)

"""Broken weights are refused when a model is loaded, before anything is asked of it.

Transformers itself only warns if tensors are missing, and fills them with random numbers. Every
`where` is the model's path or id, for the message.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from pivottrace.errors import ModelError, first_line
from pivottrace.run.markers import changed_files

FILE, INDEX = "model.safetensors", "model.safetensors.index.json"


def weight_files(folder: Path, where: str) -> list[Path]:
    """The safetensors files of a model folder, each of them whole.

    Raises:
        ModelError: There is none, one is torn or missing, or the index is wrong.
    """
    names = weight_names(folder, where)
    for name in names:
        try:
            # `safe_open` reads the header and checks the length of the file.
            with safe_open(folder / name, framework="pt"):
                pass
        except FileNotFoundError:
            raise ModelError(
                f"{where}: {name} is missing. Save the model's weights there as safetensors, "
                f"with model.save_pretrained."
            ) from None
        except (OSError, SafetensorError) as error:
            raise torn_weights(where, error) from error
    return [folder / name for name in names]


def weight_names(folder: Path, where: str) -> list[str]:
    """The names of the safetensors files that a model folder has or should have.

    Raises:
        ModelError: The index is wrong.
    """
    index = folder / INDEX
    if not (folder / FILE).is_file() and index.is_file():
        return sorted(_names_in(index, where))
    return [FILE]


def _names_in(index: Path, where: str) -> set[str]:
    """The files that an index names."""
    problem = "it has no weight_map from tensors to files"
    try:
        read = json.loads(index.read_text(encoding="utf-8"))
    except ValueError as error:
        read, problem = None, first_line(error)
    names = read.get("weight_map") if isinstance(read, dict) else None
    if not isinstance(names, dict) or not all(isinstance(n, str) for n in names.values()):
        raise ModelError(f"{where}: {INDEX} cannot be used: {problem}. Save the model again.")
    # A link is fine, because the Hub's cache is made of links.
    outside = [n for n in names.values() if Path(n).is_absolute() or ".." in Path(n).parts]
    if outside:
        raise ModelError(
            f"{where}: {INDEX} names {outside[0]!r}, a file outside the model folder. Put all "
            f"weights into the folder, and save the model again."
        )
    return set(names.values())


def refuse_changed_weights(folder: Path, where: str) -> None:
    """Compare the weights of a model that PivotTrace has trained with its folder's marker.

    Raises:
        ModelError: They changed.
        TornFileError: The marker itself is torn.
    """
    for name in changed_files(folder, "*.safetensors"):
        raise ModelError(
            f"{where}: {name} is not what training wrote there. Put it back from a copy, or train "
            f"again in another directory (--output)."
        )


def torn_weights(where: str, error: Exception) -> ModelError:
    """The error about a weights file that cannot be read."""
    return ModelError(
        f"{where}: the weights are torn: {first_line(error)}. Copy, save or download them again."
    )


def refuse_other_tensors(model: Any, found: Mapping[str, Any], where: str) -> None:
    """Refuse weights that are not exactly the weights of the model.

    Args:
        model: The loaded model.
        found: The `output_loading_info` of `from_pretrained`. Tied weights, and buffers that the
            model makes itself, do not count there.
        where: See the module.

    Raises:
        ModelError: A tensor is missing, is not used, or has another shape than config.json says.
    """
    kind = type(model).__name__
    if found["mismatched_keys"]:
        name, stored, wanted = sorted(found["mismatched_keys"])[0]
        raise ModelError(
            f"{where}: the tensor {name!r} has the shape {list(stored)}, and config.json makes it "
            f"{list(wanted)}. Put config.json and the weights of the same model there."
        )
    if found["missing_keys"]:
        raise ModelError(
            f"{where}: the weights lack {_named(found['missing_keys'])} of a {kind}. Copy or save "
            f"them again, and put the config.json there that belongs to them."
        )
    if found["unexpected_keys"]:
        raise ModelError(
            f"{where}: the weights have {_named(found['unexpected_keys'])}, which a {kind} with "
            f"this config.json does not use. Put the config.json there that belongs to them. If "
            f"it does, save the model without them: load it with AutoModelForCausalLM, then "
            f"save_pretrained."
        )


def _named(tensors: Iterable[str]) -> str:
    """Tensors for a message: the first name, and their number."""
    names = sorted(tensors)
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"the tensor {names[0]!r}{more}"


def refuse_unfinite(model: Any, where: str) -> None:
    """Refuse NaN and infinity in weights and buffers; one pass over each. Raises ModelError."""
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        if not tensor.is_floating_point() or not tensor.numel():
            continue
        # Both are NaN if any number is.
        if not all(map(torch.isfinite, tensor.float().aminmax())):
            raise ModelError(
                f"{where}: the tensor {name!r} holds NaN or infinity. Copy the weights again, or "
                f"take an earlier checkpoint. If model.dtype is float16, try bfloat16."
            )


def refuse_small_vocabulary(model: Any, tokenizer: Any, where: str) -> None:
    """Refuse a model that has no embedding for a token of its tokenizer.

    A special token counts only if it begins, ends or pads texts. Others may stand for inputs that
    the model does not take. Gemma 3 1B, for example, has no embedding of the image token that the
    tokenizer of its family has.

    Raises:
        ModelError: The model has too few embeddings.
    """
    added = tokenizer.added_tokens_decoder
    roles = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}
    largest, token = max(
        (number, token)
        for token, number in tokenizer.get_vocab().items()
        if number in roles or number not in added or not added[number].special
    )
    rows = _num_embeddings(model)
    if largest >= rows:
        raise ModelError(
            f"{where}: the tokenizer has the token {token!r} with id {largest}, and the model has "
            f"only {rows} embeddings (vocab_size). Put the tokenizer there that belongs to the "
            f"model, or resize the model with model.resize_token_embeddings and train it."
        )


def refuse_unknown_tokens(model: Any, tokenizer: Any, prompts: Iterable[Sequence[int]]) -> None:
    """Refuse prompts with a token that the model has no embedding for. Raises ModelError."""
    largest, rows = max(map(max, prompts), default=0), _num_embeddings(model)
    if largest >= rows:
        raise ModelError(
            f"a prompt has the token {tokenizer.convert_ids_to_tokens(largest)!r} with id "
            f"{largest}, and the model has only {rows} embeddings. Take this token out of the "
            f"question or the chat template."
        )


def _num_embeddings(model: Any) -> int:
    rows: int = model.get_input_embeddings().weight.shape[0]
    return rows

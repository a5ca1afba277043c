"""A GGUF file is read by transformers, and refused where transformers would read another model.

Transformers skips what it does not know, without a word. That may be tensors, the scaling of
positions, or how a text is split before its tokens are made. Every `where` is the model's path, for
messages.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedTokenizerFast,
)

from pivottrace.errors import ModelError, first_line, is_out_of_memory

# The kinds of `tokenizer.ggml.pre` that llama.cpp splits alike (llama-vocab.cpp, llm_tokenizer_bpe
# and its table of names). Transformers takes GPT-2's split for every kind that it does not know.
LIKE_GPT2 = {"gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling", "exaone4"}
DIGITS_FIRST = {"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"}
# Tokens that end a response: of the text, of the turn, of the message.
ENDS = tuple(f"tokenizer.ggml.{name}_token_id" for name in ("eos", "eot", "eom"))
OTHER = "Take the model's folder or Hub id instead"


def read_gguf(file: Path, where: str) -> Any:
    """The `gguf.GGUFReader` of a file: its metadata and the table of its tensors.

    Raises:
        ModelError: The file is torn or is no GGUF file, or transformers would skip a part of it
            that the model needs.
    """
    from gguf import GGUFReader

    try:
        reader = GGUFReader(file)
    except Exception as error:
        # Cut files and other formats end in errors of numpy, struct and plain lookups.
        if not isinstance(error, OSError | ValueError | LookupError | TypeError):
            raise
        raise ModelError(
            f"{where}: this is no whole GGUF file: {first_line(error)}. Copy or download it again."
        ) from error
    for problem in _problems(reader):
        raise ModelError(f"{where}: {problem}.")
    return reader


def _problems(reader: Any) -> Iterator[str]:
    architecture = _value(reader, "general.architecture")
    if architecture is None:
        yield "its metadata name no architecture. Copy or download it again"
    parts = _value(reader, "split.count") or 1
    if parts > 1:
        yield (
            f"it is one of {parts} parts of a model. Merge them with llama.cpp's "
            f"llama-gguf-split --merge, and give the merged file"
        )
    scaling = _of_architecture(reader, "rope.scaling.type")
    factors = [tensor.name for tensor in reader.tensors if tensor.name.startswith("rope_")]
    if factors or scaling not in (None, "none"):
        yield (
            f"its positions are scaled ({factors[0] if factors else scaling}), and transformers "
            f"does not read that from a GGUF file. {OTHER}"
        )
    if _value(reader, "tokenizer.ggml.model") == "gpt2":
        split = _value(reader, "tokenizer.ggml.pre")
        if split not in LIKE_GPT2 | DIGITS_FIRST | _known_splits():
            yield (
                f"it splits texts by tokenizer.ggml.pre = {split!r}, which transformers does not "
                f"know. {OTHER}"
            )


def _known_splits() -> set[str]:
    """The kinds of `tokenizer.ggml.pre` that transformers knows."""
    try:
        from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS
    except ImportError:
        raise ModelError(
            "this version of transformers splits the texts of a .gguf file in a way that depends "
            "on the version. Update it: pip install 'pivottrace[gguf]'"
        ) from None
    return set(GGUF_PRE_TOKENIZER_SPLITS)


def _value(reader: Any, key: str) -> Any:
    """A value of the metadata; None if it is missing."""
    field = reader.fields.get(key)
    return None if field is None else field.contents()


def _of_architecture(reader: Any, name: str) -> Any:
    """A value of the metadata whose key begins with the architecture; None if it is missing."""
    return _value(reader, f"{_value(reader, 'general.architecture')}.{name}")


def write_model(reader: Any, file: Path, folder: Path, where: str) -> None:
    """Write the model of a GGUF file into a folder, with float32 weights, and its tokenizer.

    float32 holds each dequantised number exactly; bfloat16 would round them once more.

    Raises:
        ModelError: Transformers cannot read it, or reads other tensors than the file has.
    """
    names = {"pretrained_model_name_or_path": file.parent, "gguf_file": file.name}
    try:
        config = AutoConfig.from_pretrained(**names, trust_remote_code=False)
        _set_head_size(config, reader)
        tokenizer = AutoTokenizer.from_pretrained(**names, trust_remote_code=False)
        model, found = AutoModelForCausalLM.from_pretrained(
            **names,
            config=config,
            dtype=torch.float32,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are in `found`, by name
            **_unpacked(),
        )
    except Exception as error:
        if isinstance(error, MemoryError) or is_out_of_memory(error):
            raise
        raise ModelError(
            f"{where}: transformers cannot read it: {first_line(error).rstrip('.')}. {OTHER}."
        ) from error
    for problem in _other_tensors(reader, model, found):
        raise ModelError(f"{where}: {problem}. Copy or download it again. {OTHER}.")
    for problem in _other_settings(reader, config):
        raise ModelError(f"{where}: {problem}. {OTHER}.")
    plain = _without_quantizer(model)
    plain.generation_config = GenerationConfig(
        bos_token_id=model.config.bos_token_id,
        eos_token_id=sorted({_value(reader, key) for key in ENDS} - {None}) or None,
        pad_token_id=model.config.pad_token_id,
    )
    plain.save_pretrained(folder)
    _plain_tokenizer(tokenizer, reader).save_pretrained(folder)


def _set_head_size(config: Any, reader: Any) -> None:
    """Take the size of a Qwen3's heads from the file. Transformers takes 128 for every one."""
    if config.model_type in ("qwen3", "qwen3_moe"):
        config.head_dim = _of_architecture(reader, "attention.key_length") or config.head_dim


def _unpacked() -> dict[str, Any]:
    """The argument that keeps newer transformers from leaving weights quantised on a GPU."""
    from transformers import GgufConfig

    return {"quantization_config": GgufConfig(dequantize=True)}


def _other_tensors(reader: Any, model: Any, found: Any) -> Iterator[str]:
    """The faults of the tensors, in words. Some are skipped without being in `found`."""
    kind = type(model).__name__
    if found["mismatched_keys"]:
        name, stored, wanted = sorted(found["mismatched_keys"])[0]
        yield f"{name!r} has the shape {list(stored)}, and its metadata make it {list(wanted)}"
    for key, words in (("missing_keys", "has too little"), ("unexpected_keys", "has too much")):
        if found[key]:
            yield f"it {words} for a {kind}: the tensor {sorted(found[key])[0]!r}"
    read = sum({t.data_ptr(): t.numel() for t in model.state_dict().values()}.values())
    blocks = model.config.get_text_config().num_hidden_layers
    further = _of_architecture(reader, "nextn_predict_layers") or 0
    # Blocks that only predict further tokens follow the last layer, and are no part of the model.
    beyond = tuple(f"blk.{blocks + i}." for i in range(further))
    held = sum(int(t.n_elements) for t in reader.tensors if not t.name.startswith(beyond or "\0"))
    if held != read:
        yield f"it holds {held:,} numbers, and transformers reads {read:,} of them into a {kind}"


def _other_settings(reader: Any, config: Any) -> Iterator[str]:
    """The settings that transformers takes from elsewhere than the file, in words."""
    for key, taken in _settings(config.get_text_config()).items():
        stated = _of_architecture(reader, key)
        if stated is None or taken is None or math.isclose(stated, taken, rel_tol=1e-5):
            continue  # the file has float32
        words = "none" if taken == math.inf else f"{taken:g}"
        yield f"its {key} is {stated:g}, and transformers takes {words}"


def _settings(config: Any) -> dict[str, float | None]:
    """Settings that no tensor's shape would give away, by their names in GGUF; None if unknown."""

    def first(*names: str) -> Any:
        return next((getattr(config, name) for name in names if hasattr(config, name)), None)

    rope = first("rope_parameters") or {}
    rotated = None
    if "rope_theta" in rope:  # all layers are of one kind
        head_dim = first("head_dim") or config.hidden_size // config.num_attention_heads
        rotated = head_dim * rope.get("partial_rotary_factor", 1.0)
    eps = first("rms_norm_eps", "norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_epsilon")
    return {
        "rope.freq_base": rope.get("full_attention", rope).get("rope_theta"),
        # Phi-4-mini, for example, turns three quarters of each head only.
        "rope.dimension_count": rotated,
        "attention.layer_norm_rms_epsilon": eps,
        "attention.layer_norm_epsilon": eps,
        # A layer without a window reads all that comes before.
        "attention.sliding_window": first("sliding_window") or math.inf,
        "attn_logit_softcapping": first("attn_logit_softcapping"),
        "final_logit_softcapping": first("final_logit_softcapping"),
        "context_length": first("max_position_embeddings"),
    }


def _plain_tokenizer(tokenizer: Any, reader: Any) -> Any:
    """The tokenizer as the file describes it, of a class that is loaded again as it was saved.

    Transformers gives it the class of its architecture. Such a class splits texts in a way of its
    own when it is loaded, and has an end-of-text token even if the file has none.
    """
    parts = json.loads(tokenizer.backend_tokenizer.to_str())
    size = len(_value(reader, "tokenizer.ggml.tokens"))
    parts["added_tokens"] = [token for token in parts["added_tokens"] if token["id"] < size]
    backend = Tokenizer.from_str(json.dumps(parts))
    if _value(reader, "tokenizer.ggml.pre") in DIGITS_FIRST:
        # Each digit alone, and only then as GPT-2. Transformers does not know this split.
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(r"\p{N}"), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )
    roles = ("bos_token", "eos_token", "unk_token", "pad_token")
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        chat_template=tokenizer.chat_template,
        **{role: getattr(tokenizer, role) for role in roles},
    )


def _without_quantizer(model: Any) -> Any:
    """The same model without the mark of its quantised file, with which it could not be saved."""
    config = copy.deepcopy(model.config)
    vars(config).pop("quantization_config", None)
    with torch.device("meta"):
        plain = type(model)(config)
    plain.load_state_dict(model.state_dict(), assign=True)
    plain.tie_weights()
    return plain

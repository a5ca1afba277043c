"""GGUF files of the embedded reasoner, written by the `gguf` package as llama.cpp's converter does.

A test that imports this is skipped where the package is not installed.
"""

import json
from importlib.resources import files
from pathlib import Path

import pytest
from safetensors.torch import load_file

gguf = pytest.importorskip("gguf", reason="pip install 'pivottrace[gguf]'")

REASONER = Path(str(files("pivottrace.world") / "reasoner"))
NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "model.layers": "blk",
}


def reasoner_tensors():
    """The float32 tensors of the reasoner under their names in GGUF."""
    found = {}
    for name, tensor in load_file(REASONER / "model.safetensors").items():
        for ours, theirs in NAMES.items():
            name = name.replace(ours, theirs)
        found[name] = tensor.float().numpy()
    return found


def reasoner_metadata():
    """Keys and values of the reasoner's metadata."""
    config = json.loads((REASONER / "config.json").read_text())
    tokenizer = json.loads((REASONER / "tokenizer.json").read_text())
    vocabulary, special = tokenizer["model"]["vocab"], tokenizer["added_tokens"]
    control = {each["id"] for each in special}
    return {
        "qwen3.block_count": config["num_hidden_layers"],
        "qwen3.context_length": config["max_position_embeddings"],
        "qwen3.embedding_length": config["hidden_size"],
        "qwen3.feed_forward_length": config["intermediate_size"],
        "qwen3.attention.head_count": config["num_attention_heads"],
        "qwen3.attention.head_count_kv": config["num_key_value_heads"],
        "qwen3.attention.key_length": config["head_dim"],
        "qwen3.attention.value_length": config["head_dim"],
        "qwen3.attention.layer_norm_rms_epsilon": config["rms_norm_eps"],
        "qwen3.rope.freq_base": config["rope_parameters"]["rope_theta"],
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": sorted(vocabulary, key=vocabulary.get),
        "tokenizer.ggml.token_type": [3 if i in control else 1 for i in range(len(vocabulary))],
        "tokenizer.ggml.merges": [" ".join(pair) for pair in tokenizer["model"]["merges"]],
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": (REASONER / "chat_template.jinja").read_text(),
    }


def write_gguf(path, *, kind="F32", metadata=None, tensors=None, architecture="qwen3"):
    """Write a GGUF file of the reasoner.

    Args:
        path: The file.
        kind: Format of the matrices; vectors stay float32.
        metadata: Values instead of the reasoner's, by key; None leaves a key out.
        tensors: Arrays instead of the reasoner's, by name; None leaves a tensor out.
        architecture: Value of `general.architecture`.
    """
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in (reasoner_metadata() | (metadata or {})).items():
        if isinstance(value, list):
            writer.add_array(key, value)
        elif value is not None:
            adders = {str: writer.add_string, bool: writer.add_bool, float: writer.add_float32}
            adders.get(type(value), writer.add_uint32)(key, value)
    wanted = gguf.GGMLQuantizationType[kind]
    for name, array in (reasoner_tensors() | (tensors or {})).items():
        if array is None:
            continue
        if array.ndim < 2 or kind == "F32":
            writer.add_tensor(name, array)
        else:
            writer.add_tensor(name, gguf.quantize(array, wanted), raw_dtype=wanted)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path

"""Tiny random models of real architectures, to be compared with their own eager attention."""

from typing import Any

import torch
import transformers

VOCABULARY = 61
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.25,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": None,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "Llama": {},
    "Qwen2": {"num_key_value_heads": 1},
    "Qwen3": {"num_attention_heads": 6, "head_dim": 16},
    "Qwen3Moe": {"head_dim": 16, **EXPERTS},
    # A window shorter than the sequences.
    "Mistral": {"sliding_window": 14},
    # Soft-capping, alternating windows.
    "Gemma2": {
        "head_dim": 8,
        "sliding_window": 14,
        "attn_logit_softcapping": 3.0,
        "final_logit_softcapping": 5.0,
        "query_pre_attn_scalar": 4,
    },
    "Gemma3Text": {
        "head_dim": 8,
        "sliding_window": 14,
        "query_pre_attn_scalar": 4,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    },
    "Phi3": {},
    "Olmo2": {},
    "GPTNeoX": {},
    # Absolute positions: padding that shifts them shows.
    "GPT2": {},
    # Learned sinks.
    "GptOss": {
        "head_dim": 8,
        "sliding_window": 14,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    },
    # Latent attention: values narrower than keys.
    "DeepseekV3": {
        "num_key_value_heads": 4,
        "q_lora_rank": 16,
        "kv_lora_rank": 8,
        "qk_nope_head_dim": 8,
        "qk_rope_head_dim": 8,
        "v_head_dim": 8,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "n_group": 1,
        "topk_group": 1,
        "moe_intermediate_size": 16,
    },
    "Granite": {"attention_multiplier": 0.3},
    "Cohere": {},
    "Starcoder2": {"sliding_window": 14},
    "SmolLM3": {},
    "Glm4": {"head_dim": 8},
    # Chunks with borders of their own, beside full attention.
    "Llama4Text": {
        "head_dim": 8,
        "attention_chunk_size": 16,
        "num_local_experts": 2,
        "num_experts_per_tok": 1,
        "intermediate_size_mlp": 48,
        "layer_types": ["chunked_attention", "full_attention", "chunked_attention"],
    },
}


def build_model(family: str, **overrides: Any) -> transformers.PreTrainedModel:
    """A causal language model of random weights, in evaluation mode."""
    config = getattr(transformers, f"{family}Config")(**(SHAPE | ARCHITECTURES[family] | overrides))
    torch.manual_seed(7)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("sinks"):
            torch.nn.init.normal_(parameter)
    return model

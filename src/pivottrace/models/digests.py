"""Cheap digests that tell models and tokenizers apart."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch


def digests(model: Any, tokenizer: Any) -> dict[str, str]:
    """`model_digest` and `tokenizer_digest` of a loaded model, as hexadecimal digits."""
    return {"model_digest": model_digest(model), "tokenizer_digest": tokenizer_digest(tokenizer)}


def model_digest(model: Any) -> str:
    """SHA-256 over the name, the shape and a checksum of every weight; a cheap test of identity.

    The checksum adds the float32 bits of the weights as integers. So the order and the device of
    the addition make no difference.
    """
    digest = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        total = weight.float().view(torch.int32).sum(dtype=torch.int64).item()
        digest.update(f"{name}{tuple(weight.shape)}{total}".encode())
    return digest.hexdigest()


def tokenizer_digest(tokenizer: Any) -> str:
    """SHA-256 of the vocabulary, the special tokens and the chat template."""
    parts = [tokenizer.get_vocab(), tokenizer.special_tokens_map, tokenizer.chat_template]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()

"""Digests that tell models and tokenizers apart, cheaply."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch


def digests(model: Any, tokenizer: Any) -> dict[str, str]:
    """`model_digest` and `tokenizer_digest` of a loaded model, hex."""
    return {"model_digest": model_digest(model), "tokenizer_digest": tokenizer_digest(tokenizer)}


def model_digest(model: Any) -> str:
    """SHA-256 over names, shapes and a checksum of every weight: tells models apart, cheaply.

    The checksum adds the weights' float32 bits as integers, so that order and device of the
    addition make no difference.
    """
    digest = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        total = weight.float().view(torch.int32).sum(dtype=torch.int64).item()
        digest.update(f"{name}{tuple(weight.shape)}{total}".encode())
    return digest.hexdigest()


def tokenizer_digest(tokenizer: Any) -> str:
    """SHA-256 of vocabulary, special tokens and chat template."""
    parts = [tokenizer.get_vocab(), tokenizer.special_tokens_map, tokenizer.chat_template]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()

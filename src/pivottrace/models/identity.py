"""Which model it is: digests of its weights and tokenizer, the same at every stage of a run."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch

from pivottrace.errors import RunDirError
from pivottrace.run.directory import RunDir
from pivottrace.run.rounds import start_model


def refuse_another_model(run: RunDir, model: Any, tokenizer: Any) -> dict[str, str]:
    """Compare a model with the one that the run's rollouts came from, and return its digests.

    Returns:
        `model_digest` and `tokenizer_digest`, hex.

    Raises:
        RunDirError: weights or tokenizer are others than those of the rollouts.
    """
    now = {"model_digest": model_digest(model), "tokenizer_digest": tokenizer_digest(tokenizer)}
    was = run.begun_facts("rollout")
    names = {"model_digest": "weights", "tokenizer_digest": "tokenizer"}
    changed = [names[key] for key, digest in now.items() if was.get(key, digest) != digest]
    if changed:
        raise RunDirError(
            f"{start_model(run).path}: the model is not the one that the rollouts of {run.path} "
            f"came from: other {' and '.join(changed)}. Put the old one back (for a Hub id, set "
            f"model.revision from the start), or give another output directory (--output)."
        )
    return now


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

"""Make the tiny reasoner: pre-train a small Qwen3 from scratch on demonstrated solutions.

    python -m pivottrace.world.pretrain --output src/pivottrace/world/reasoner

Only solutions are learned (the loss leaves the question out). The weights are stored in float16.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from pivottrace.world.muon import Muon
from pivottrace.world.problems import demonstrations
from pivottrace.world.tokenizer import build_tokenizer

BATCH, STEPS, SEED = 64, 2200, 7
PEAK_MUON, PEAK_ADAMW, WARMUP_STEPS = 0.02, 3e-3, 50
# Batches are cut from a buffer sorted by length, so that padding costs little.
BUFFER_BATCHES = 32
IGNORED = -100


def build_model(tokenizer: PreTrainedTokenizerFast) -> Qwen3ForCausalLM:
    """Build a Qwen3 of four layers and about 0.8 M parameters, with random weights."""
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=320,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=1024,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Qwen3ForCausalLM(config)


def batches(
    tokenizer: PreTrainedTokenizerFast, seed: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield (input_ids, labels) without end, both (B, T), right-padded, questions ignored."""
    stream, rng = demonstrations(seed), random.Random(seed)
    while True:
        rows = []
        for problem, solution in islice(stream, BATCH * BUFFER_BATCHES):
            question = tokenizer.apply_chat_template(
                [{"role": "user", "content": problem.question}],
                add_generation_prompt=True,
                tokenize=False,
            )
            rows.append((question, f" {solution}{tokenizer.eos_token}"))
        questions = tokenizer([q for q, _ in rows], add_special_tokens=False)["input_ids"]
        solutions = tokenizer([s for _, s in rows], add_special_tokens=False)["input_ids"]
        pairs = sorted(zip(questions, solutions, strict=True), key=lambda p: len(p[0]) + len(p[1]))
        starts = list(range(0, len(pairs), BATCH))
        rng.shuffle(starts)
        for start in starts:
            yield _pad(pairs[start : start + BATCH], tokenizer.pad_token_id)


def _pad(pairs: list[tuple[list[int], list[int]]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(len(q) + len(s) for q, s in pairs)
    input_ids = torch.full((len(pairs), width), pad)
    labels = torch.full((len(pairs), width), IGNORED)
    for row, (question, solution) in enumerate(pairs):
        end = len(question) + len(solution)
        input_ids[row, :end] = torch.tensor(question + solution)
        labels[row, len(question) : end] = torch.tensor(solution)
    return input_ids, labels


def build_optimizers(model: torch.nn.Module) -> list[tuple[torch.optim.Optimizer, float]]:
    """Use Muon for the layers' matrices, AdamW for the rest; each with its peak learning rate."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "layers" in name]
    chosen = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    return [
        (Muon(matrices, lr=0.0), PEAK_MUON),
        (torch.optim.AdamW(rest, lr=0.0, betas=(0.9, 0.98), weight_decay=0.0), PEAK_ADAMW),
    ]


def schedule(step: int, steps: int) -> float:
    """Return the share of the peak learning rate: linear warm-up, then a cosine to a fiftieth."""
    if step < WARMUP_STEPS:
        return (step + 1) / WARMUP_STEPS
    progress = (step - WARMUP_STEPS) / max(1, steps - WARMUP_STEPS)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress))


def main() -> None:
    """Train, save the model folder, and write `training.json` beside it for the model card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()

    started = time.monotonic()
    torch.manual_seed(arguments.seed)
    tokenizer = build_tokenizer(arguments.seed)
    model = build_model(tokenizer)
    optimizers = build_optimizers(model)
    smoothed = float("nan")
    stream = batches(tokenizer, arguments.seed)
    for step, (input_ids, labels) in enumerate(islice(stream, arguments.steps)):
        for optimizer, peak in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = peak * schedule(step, arguments.steps)
        loss = model(
            input_ids=input_ids, attention_mask=input_ids != tokenizer.pad_token_id, labels=labels
        ).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, _ in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        smoothed = loss.item() if math.isnan(smoothed) else 0.98 * smoothed + 0.02 * loss.item()
        if step % 100 == 0 or step == arguments.steps - 1:
            minutes = (time.monotonic() - started) / 60
            print(f"step {step:5d}  loss {smoothed:.4f}  minutes {minutes:.1f}", flush=True)

    model.half().save_pretrained(arguments.output)
    tokenizer.save_pretrained(arguments.output)
    facts = {
        "command": f"python -m pivottrace.world.pretrain --output DIR --steps {arguments.steps} "
        f"--seed {arguments.seed}",
        "seed": arguments.seed,
        "steps": arguments.steps,
        "parameters": model.num_parameters(),
        "final_loss": round(smoothed, 4),
        "minutes": round((time.monotonic() - started) / 60, 1),
        "torch": torch.__version__,
    }
    (arguments.output / "training.json").write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()

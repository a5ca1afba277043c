"""Time of our generation, where ended rows leave and keys have room, against `generate`.

    python bench/generation.py [--repeats 7] [--threads 1]

Two cases. `questions`: the embedded model samples 8 answers to each of 64 of its world's questions,
at most 128 tokens at temperature 1, where most rows end long before the last. `long prompts`: four
rows of 4,096 tokens and 96 more greedy tokens each, without an end, through Qwen3's layers (hidden
size 512, 4 layers, random weights). Here only the copy of the cache at every token can be saved.
Variants run interleaved in one process; the figure is the median of the ratios to plain `generate`
in the same round, with the lowest and the highest (of seven, a 98 % interval of the median).
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import transformers

from pivottrace.config import ModelConfig, PoolConfig
from pivottrace.models.compact import generate_compacting
from pivottrace.models.load import load_model
from pivottrace.models.rendering import render_prompt
from pivottrace.world.problems import generate

LONG = {
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "num_hidden_layers": 4,
    "vocab_size": 1024,
    "max_position_embeddings": 8192,
}


def questions() -> tuple[Any, torch.Tensor, torch.Tensor, Any]:
    """Return the embedded model, (512, S) prompts with their mask, and sampling settings."""
    model, tokenizer = load_model(ModelConfig(device="cpu"))
    asked = [[{"role": "user", "content": p.question}] for p in generate("pool", 64, 0)]
    prompts = [render_prompt(tokenizer, messages, PoolConfig()) for messages in asked]
    padded = tokenizer.pad(
        {"input_ids": [p for p in prompts for _ in range(8)]}, return_tensors="pt"
    )
    config = transformers.GenerationConfig(
        max_new_tokens=128,
        do_sample=True,
        temperature=1.0,
        top_k=0,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return model, padded["input_ids"], padded["attention_mask"], config


def long_prompts() -> tuple[Any, torch.Tensor, torch.Tensor, Any]:
    """Return a random model, (4, 4096) prompts with their mask, and endless greedy settings."""
    torch.manual_seed(0)
    model = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**LONG)).eval()
    ids = torch.randint(2, LONG["vocab_size"], (4, 4096))
    nowhere = LONG["vocab_size"]  # no token
    config = transformers.GenerationConfig(
        max_new_tokens=96, do_sample=False, eos_token_id=nowhere, pad_token_id=0
    )
    return model, ids, torch.ones_like(ids), config


def measure(
    model: Any, ids: torch.Tensor, mask: torch.Tensor, config: Any, repeats: int
) -> dict[str, np.ndarray]:
    """Return the seconds of each variant in each round."""
    seconds: dict[str, list[float]] = {}
    variants: dict[str, Callable[[], Any]] = {
        "transformers": lambda: model.generate(ids, attention_mask=mask, generation_config=config),
        "ours": lambda: generate_compacting(model, ids, mask, config),
    }
    for repeat in range(repeats + 1):  # the first round warms up
        for name, variant in variants.items():
            torch.manual_seed(repeat)
            started = time.perf_counter()
            variant()
            if repeat:
                seconds.setdefault(name, []).append(time.perf_counter() - started)
    return {name: np.array(values) for name, values in seconds.items()}


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print("| case | time / transformers | lowest–highest | transformers, s | ours, s |")
    print("|---|---|---|---|---|")
    for name, case in {"questions": questions, "long prompts": long_prompts}.items():
        seconds = measure(*case(), arguments.repeats)
        ratio = seconds["ours"] / seconds["transformers"]
        print(
            f"| {name} | {np.median(ratio):.3f} | {ratio.min():.3f}–{ratio.max():.3f} "
            f"| {np.median(seconds['transformers']):.1f} | {np.median(seconds['ours']):.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()

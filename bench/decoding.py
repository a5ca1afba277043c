"""Cost of tracing during generation: tokens per second against plain `generate`.

    python bench/decoding.py [--models embedded 0.6B] [--batches 1 16] [--tokens 128] [--repeats 7]
                             [--ways decoding afterwards auto]

Greedy decoding of random prompts of 64 tokens, far mass and WAAD of all heads. `0.6B` is
Qwen3-0.6B's whole shape with random weights, float32. Other names are as in `model.path`, such as
`smollm2`. Variants run interleaved in one process; the figure is the median of the ratios to plain
`generate` in the same round, with the lowest and the highest (of seven, a 98 % interval of the
median).
"""

import argparse
import time
from typing import Any

import numpy as np
import torch
import transformers

from pivottrace.attention import AttentionDistance, FarMass, generate_traced
from pivottrace.config import ModelConfig
from pivottrace.models.load import load_model

STATS = (FarMass(), AttentionDistance())
PROMPT = 64
SHAPE = {
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "num_hidden_layers": 28,
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
    "tie_word_embeddings": True,
}
PLAIN = "plain generate"
WAYS = ("decoding", "afterwards", "auto")


def build(name: str) -> Any:
    if name != "0.6B":
        return load_model(ModelConfig(path=name, device="cpu"))[0].eval()
    torch.manual_seed(0)
    return transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**SHAPE)).eval()


def measure(
    model: Any, batch: int, tokens: int, repeats: int, ways: list[str]
) -> tuple[dict[str, Any], str]:
    """Return the seconds of each variant in each round, and the way that `auto` took."""
    torch.manual_seed(1)
    prompts = torch.randint(5, min(model.config.vocab_size, 500), (batch, PROMPT))
    mask = torch.ones_like(prompts)
    settings = {
        "max_new_tokens": tokens,
        "do_sample": False,
        "pad_token_id": 0,
        "eos_token_id": None,
    }
    seconds: dict[str, list[float]] = {}
    chosen = ""
    for repeat in range(repeats + 1):  # the first round warms up
        for name in (PLAIN, *ways):
            started = time.perf_counter()
            if name == PLAIN:
                model.generate(prompts, attention_mask=mask, **settings)
            else:
                way = generate_traced(model, prompts, mask, stats=STATS, how=name, **settings).how
                chosen = way if name == "auto" else chosen
            if repeat:
                seconds.setdefault(name, []).append(time.perf_counter() - started)
    return {name: np.array(values) for name, values in seconds.items()}, chosen


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["embedded", "0.6B"])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    arguments = parser.parse_args()
    print("| model | sequences | traced | tokens per second / plain | lowest–highest | tokens/s |")
    print("|---|---|---|---|---|---|")
    for name in arguments.models:
        model = build(name)
        for batch in arguments.batches:
            seconds, chosen = measure(
                model, batch, arguments.tokens, arguments.repeats, arguments.ways
            )
            for way, values in seconds.items():
                ratio = seconds[PLAIN] / values
                label = f"auto: {chosen}" if way == "auto" else way
                print(
                    f"| {name} | {batch} | {label} | {np.median(ratio):.3f} "
                    f"| {ratio.min():.3f}–{ratio.max():.3f} "
                    f"| {batch * arguments.tokens / np.median(values):.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()

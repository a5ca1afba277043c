"""Cost of tracing against plain SDPA on a GPU: time, peak memory, and decoding speed.

    python bench/attention_cuda.py [--shapes 4b 8b] [--lengths 1024 ... 32768] [--layers 4]

Layers of Qwen3-4B's and Qwen3-8B's shape with random weights, bfloat16, one sequence. Variants run
interleaved; time is the median of the ratios to plain SDPA in the same round, with their quartiles.
Memory is the peak that a forward allocates beyond the loaded model. A variant that does not fit is
printed as "out of memory" and is not tried at greater lengths.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
import torch
import transformers

from pivottrace.attention import AttentionDistance, FarMass, trace, trace_attention

# These are the published configurations, except for the number of layers and the vocabulary.
SHAPES = {
    "4b": {"hidden_size": 2560, "intermediate_size": 9728},
    "8b": {"hidden_size": 4096, "intermediate_size": 12288},
}
SHARED = {
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 1024,
    "max_position_embeddings": 40960,
}
STATS = (FarMass(), AttentionDistance())
PLAIN = "plain SDPA"
TOP_HEADS = 0.05
PROMPT, NEW = 512, 256
Run = Callable[[torch.Tensor], object]


def build(shape: str, layers: int) -> Any:
    torch.manual_seed(0)
    config = transformers.Qwen3Config(**SHARED, **SHAPES[shape], num_hidden_layers=layers)
    with torch.device("cuda"):
        return transformers.Qwen3ForCausalLM(config).to(torch.bfloat16).eval()


def variants(model: Any, layers: int) -> dict[str, Run]:
    """Make the compared variants; each takes (1, T) tokens and makes no logits."""
    heads = SHARED["num_attention_heads"]
    count = max(1, round(TOP_HEADS * layers * heads))
    top = {layers // 2: list(range(0, heads, max(1, heads // count)))[:count]}

    def recompute(module: Any, query: Any, key: Any, value: Any, mask: Any, **more: Any) -> Any:
        """Run plain attention, and compute the layer's whole matrix again."""
        copied = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
        scores = query @ copied.transpose(-1, -2) * more["scaling"]
        ahead = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores.masked_fill_(ahead, -torch.inf).softmax(-1).tril(-10).sum(-1)
        return transformers.AttentionInterface()["sdpa"](module, query, key, value, mask, **more)

    transformers.AttentionInterface.register("recomputed", recompute)
    transformers.AttentionMaskInterface.register(
        "recomputed", transformers.AttentionMaskInterface()["sdpa"]
    )

    def forward(implementation: str, **arguments: Any) -> Run:
        def run(tokens: torch.Tensor) -> None:
            with attention(model, implementation):
                model.model(tokens, use_cache=False, **arguments)

        return run

    def chunked(tokens: torch.Tensor) -> None:
        reason = mock.patch("pivottrace.attention.engine.why_not_fused", lambda *_: "benchmark")
        with reason:
            trace(model, tokens, stats=STATS)

    return {
        PLAIN: forward("sdpa"),
        "all heads traced": lambda tokens: trace(model, tokens, stats=STATS),
        "top 5 % of heads, early stop": lambda tokens: trace(model, tokens, stats=STATS, heads=top),
        "exact rows in chunks": chunked,
        "eager, output_attentions": forward("eager", output_attentions=True),
        "matrix recomputed a layer": forward("recomputed"),
    }


@contextmanager
def attention(model: Any, implementation: str) -> Iterator[None]:
    model.set_attn_implementation(implementation)
    try:
        yield
    finally:
        model.set_attn_implementation("sdpa")


def seconds(run: Run, tokens: torch.Tensor) -> float:
    torch.cuda.synchronize()
    started = time.perf_counter()
    run(tokens)
    torch.cuda.synchronize()
    return time.perf_counter() - started


def added_bytes(run: Run, tokens: torch.Tensor) -> int | None:
    """Return the peak of the allocated bytes of a run; None if it does not fit."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    try:
        run(tokens)
        torch.cuda.synchronize()
    except torch.cuda.OutOfMemoryError:
        return None
    return torch.cuda.max_memory_allocated() - before


def quartiles(values: np.ndarray) -> str:
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return f"{middle:.3f} ({low:.3f}–{high:.3f})"


def print_forwards(shape: str, model: Any, arguments: argparse.Namespace) -> None:
    runs = variants(model, arguments.layers)
    for length in sorted(arguments.lengths):
        tokens = torch.randint(0, SHARED["vocab_size"], (1, length), device="cuda")
        runs[PLAIN](tokens)  # workspaces that libraries keep do not count
        peaks = {name: added_bytes(run, tokens) for name, run in runs.items()}
        too_large = [name for name, peak in peaks.items() if peak is None]
        for name in too_large:
            print(f"| {shape} | {length} | {name} | out of memory | | |", flush=True)
            del runs[name]
        if PLAIN in too_large:
            return
        taken: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(arguments.repeats):
            for name, run in runs.items():
                taken[name].append(seconds(run, tokens))
        for name, values in taken.items():
            ratios = np.array(values) / np.array(taken[PLAIN])
            print(
                f"| {shape} | {length} | {name} | {quartiles(ratios)} "
                f"| {peaks[name] / peaks[PLAIN]:.2f} | {peaks[name] / 2**20:.0f} |",
                flush=True,
            )


def print_decoding(shape: str, model: Any, arguments: argparse.Namespace) -> None:
    """Print tokens per second of greedy generation with a dynamic cache, traced and not."""

    def plain(tokens: torch.Tensor) -> None:
        model.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=NEW,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )

    def traced(tokens: torch.Tensor) -> None:
        with trace_attention(model, STATS):
            plain(tokens)

    for batch in arguments.batches:
        tokens = torch.randint(2, SHARED["vocab_size"], (batch, PROMPT), device="cuda")
        rounds = [
            (seconds(plain, tokens), seconds(traced, tokens)) for _ in range(arguments.repeats + 1)
        ]
        taken = np.array(rounds[1:])  # the first warms up
        speed = batch * NEW / np.median(taken, axis=0)
        ratios = quartiles(taken[:, 0] / taken[:, 1])
        print(f"| {shape} | {batch} | {speed[0]:.0f} | {speed[1]:.0f} | {ratios} |", flush=True)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    lengths = [1024, 2048, 4096, 8192, 16384, 32768]
    parser.add_argument("--shapes", choices=list(SHAPES), nargs="+", default=list(SHAPES))
    parser.add_argument("--lengths", type=int, nargs="+", default=lengths)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("bench/attention_cuda.py needs a CUDA device; on a CPU run bench/attention.py.")
    print(
        f"{torch.cuda.get_device_name()}, torch {torch.__version__}, transformers "
        f"{transformers.__version__}, {arguments.layers} layers, {arguments.repeats} repeats\n"
    )
    print("| shape | T | variant | time / plain (median, quartiles) | memory / plain | MiB |")
    print("|---|---|---|---|---|---|")
    models = {shape: build(shape, arguments.layers) for shape in arguments.shapes}
    for shape, model in models.items():
        print_forwards(shape, model, arguments)
    print(f"\nGreedy decoding, prompt {PROMPT} tokens, {NEW} new ones, tokens per second:\n")
    print("| shape | batch | plain | traced | traced / plain (median, quartiles) |")
    print("|---|---|---|---|---|")
    for shape, model in models.items():
        print_decoding(shape, model, arguments)


if __name__ == "__main__":
    main()

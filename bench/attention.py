"""What tracing costs beside plain SDPA: time and peak memory on a Qwen3-0.6B layer shape.

    python bench/attention.py [--lengths 1024 2048 4096] [--layers 4] [--repeats 7]

Variants run interleaved in one process; time is the median ratio to plain SDPA in the same round,
with the interquartile range. Peak memory is measured in a process of its own for each variant, as
what the forward adds to the loaded model (largest resident size).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from pivottrace.attention import AttentionDistance, FarMass, trace

SHAPE = {
    "hidden_size": 1024, "intermediate_size": 3072, "num_attention_heads": 16,
    "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 1024,
    "max_position_embeddings": 40960,
}  # fmt: skip
STATS = (FarMass(), AttentionDistance())
EAGER_AT_MOST = 4096  # its matrices are 16 heads x T x T a layer


def build(layers: int) -> Any:
    torch.manual_seed(0)
    config = transformers.Qwen3Config(**SHAPE, num_hidden_layers=layers)
    return transformers.Qwen3ForCausalLM(config).eval()


def variants(model: Any, layers: int) -> dict[str, Callable[[torch.Tensor], None]]:
    """What is compared; each takes (1, T) tokens and leaves no logits behind."""
    top = {layers // 2: [3, 7, 12]}  # about 5 % of the heads, none beyond the middle layer

    def plain(tokens: torch.Tensor) -> None:
        model.model(tokens, use_cache=False)

    def eager(tokens: torch.Tensor) -> None:
        model.set_attn_implementation("eager")
        model.model(tokens, use_cache=False, output_attentions=True)
        model.set_attn_implementation("sdpa")

    def recomputed(tokens: torch.Tensor) -> None:
        """Plain attention, and each layer's whole matrix once more from its queries and keys."""
        sdpa = transformers.AttentionInterface()["sdpa"]

        def attend(module: Any, query: Any, key: Any, value: Any, mask: Any, **more: Any) -> Any:
            copied = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
            scores = query @ copied.transpose(-1, -2) * more["scaling"]
            length = query.shape[2]
            sees = torch.ones(length, length, dtype=torch.bool).tril()
            scores.masked_fill_(~sees, -torch.inf).softmax(-1).tril(-10).sum(-1)
            return sdpa(module, query, key, value, mask, **more)

        transformers.AttentionInterface.register("recomputed", attend)
        transformers.AttentionMaskInterface.register(
            "recomputed", transformers.AttentionMaskInterface()["sdpa"]
        )
        model.set_attn_implementation("recomputed")
        model.model(tokens, use_cache=False)
        model.set_attn_implementation("sdpa")

    def chunked(tokens: torch.Tensor) -> None:
        from pivottrace.attention import engine

        before = engine.why_not_fused
        engine.why_not_fused = lambda *_: "asked for by the benchmark"
        trace(model, tokens, stats=STATS)
        engine.why_not_fused = before

    return {
        "plain SDPA": plain,
        "all heads traced": lambda tokens: trace(model, tokens, stats=STATS) and None,
        "top 5 % of heads, early stop": lambda t: trace(model, t, stats=STATS, heads=top) and None,
        "exact rows in chunks": chunked,
        "eager, output_attentions": eager,
        "matrix recomputed a layer": recomputed,
    }


def peak_of(name: str, length: int, layers: int) -> float:
    """MiB that a variant adds to the loaded model, in a process of its own."""
    command = [sys.executable, __file__, "--memory-of", name, "--lengths", str(length)]
    done = subprocess.run(
        [*command, "--layers", str(layers)], capture_output=True, text=True, check=True
    )
    return float(done.stdout.split()[-1])


def added_by(run: Callable[[], None]) -> float:
    """Peak resident MiB while `run` works, less what was resident before (Linux)."""

    def field(name: str) -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(float(x.split()[1]) / 1024 for x in lines if x.startswith(name))

    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = field("VmRSS")
    run()
    return field("VmHWM") - before


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 2048, 4096, 8192, 16384])
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    model = build(arguments.layers)
    runs = variants(model, arguments.layers)
    if arguments.memory_of:
        tokens = torch.randint(0, SHAPE["vocab_size"], (1, arguments.lengths[0]))
        runs[arguments.memory_of](tokens[:, :64])
        print(added_by(lambda: runs[arguments.memory_of](tokens)))
        return
    print("| T | variant | time / plain (median, quartiles) | peak memory / plain | MiB |")
    print("|---|---|---|---|---|")
    for length in arguments.lengths:
        tokens = torch.randint(0, SHAPE["vocab_size"], (1, length))
        heavy = ("eager, output_attentions", "matrix recomputed a layer")
        chosen = {n: r for n, r in runs.items() if n not in heavy or length <= EAGER_AT_MOST}
        seconds: dict[str, list[float]] = {name: [] for name in chosen}
        for repeat in range(arguments.repeats + 1):  # the first round warms up
            for name, run in chosen.items():
                started = time.perf_counter()
                run(tokens)
                if repeat:
                    seconds[name].append(time.perf_counter() - started)
        plain = np.array(seconds["plain SDPA"])
        memory = {name: peak_of(name, length, arguments.layers) for name in chosen}
        for name, values in seconds.items():
            low, middle, high = np.quantile(np.array(values) / plain, (0.25, 0.5, 0.75))
            print(
                f"| {length} | {name} | {middle:.3f} ({low:.3f}–{high:.3f}) "
                f"| {memory[name] / max(memory['plain SDPA'], 1e-9):.2f} | {memory[name]:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()

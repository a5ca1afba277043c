"""Cost of tracing against plain SDPA: time and peak memory on a Qwen3-0.6B layer shape.

    python bench/attention.py [--lengths 1024 2048 …] [--layers 2] [--repeats 7] [--output FILE.csv]
                              [--variants "all heads traced" …]
    python bench/attention.py --model smollm2 --lengths 2048 --output build/smollm2.csv

Variants run interleaved in one process; time is the median of the ratios to plain SDPA in the same
round, with the lowest and the highest (of seven, a 98 % interval of the median). Peak memory is the
memory that a forward adds to the loaded model (largest resident size), in its own process for each
variant. Its growth is fitted as a power of T. Lengths that the output file already has are not run
again. With `--model` a whole model, named as in `model.path`, takes the place of the layers.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
import transformers

from pivottrace.attention import AttentionDistance, FarMass, trace
from pivottrace.config import ModelConfig
from pivottrace.models.load import load_model

SHAPE = {
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 1024,
    "max_position_embeddings": 40960,
}
STATS = (FarMass(), AttentionDistance())
# glibc gives freed memory back at once, so that a peak counts live memory only.
GIVE_BACK = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "0",
}
PLAIN = "plain SDPA"
# Their matrices are 16 heads x T x T per layer; rows in chunks are left out if they take hours.
UP_TO = {
    "eager, output_attentions": 4096,
    "matrix recomputed a layer": 4096,
    "exact rows in chunks": 8192,
}


def build(name: str | None, layers: int) -> Any:
    if name is not None:
        return load_model(ModelConfig(path=name, device="cpu"))[0].eval()
    torch.manual_seed(0)
    config = transformers.Qwen3Config(**SHAPE, num_hidden_layers=layers)
    return transformers.Qwen3ForCausalLM(config).eval()


def variants(model: Any) -> dict[str, Callable[[torch.Tensor], None]]:
    """Make the compared variants; each takes (1, T) tokens and keeps no logits."""
    layers, heads = model.config.num_hidden_layers, model.config.num_attention_heads
    # At least 5 % of the heads, none beyond the middle layer.
    chosen = [3, 7, 12] if heads == SHAPE["num_attention_heads"] else [heads // 2]
    number = max(1, math.ceil(0.05 * layers * heads / len(chosen)))
    top = dict.fromkeys(range(layers // 2, layers // 2 - number, -1), chosen)

    def plain(tokens: torch.Tensor) -> None:
        model.model(tokens, use_cache=False)

    def eager(tokens: torch.Tensor) -> None:
        model.set_attn_implementation("eager")
        model.model(tokens, use_cache=False, output_attentions=True)
        model.set_attn_implementation("sdpa")

    def recomputed(tokens: torch.Tensor) -> None:
        """Run plain attention, and compute each layer's whole matrix again."""
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
        PLAIN: plain,
        "all heads traced": lambda tokens: trace(model, tokens, stats=STATS) and None,
        "top 5 % of heads, early stop": lambda t: trace(model, t, stats=STATS, heads=top) and None,
        "exact rows in chunks": chunked,
        "eager, output_attentions": eager,
        "matrix recomputed a layer": recomputed,
    }


def peak_of(name: str, length: int, model: list[str]) -> float:
    """Measure the MiB that a variant adds to the loaded model, in its own process."""
    command = [sys.executable, __file__, "--memory-of", name, "--lengths", str(length)]
    done = subprocess.run(
        [*command, *model],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | GIVE_BACK,
    )
    return float(done.stdout.split()[-1])


def added_by(run: Callable[[], None]) -> float:
    """Measure the peak resident MiB during `run` minus the resident MiB before it (Linux)."""

    def field(name: str) -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(float(x.split()[1]) / 1024 for x in lines if x.startswith(name))

    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = field("VmRSS")
    run()
    return field("VmHWM") - before


def rounds(chosen: dict[str, Any], tokens: torch.Tensor, repeats: int) -> dict[str, np.ndarray]:
    """Return the seconds of each variant in each round; a first round warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in chosen}
    for repeat in range(repeats + 1):
        for name, run in chosen.items():
            started = time.perf_counter()
            run(tokens)
            if repeat:
                seconds[name].append(time.perf_counter() - started)
    return {name: np.array(values) for name, values in seconds.items()}


def measure(runs: dict[str, Any], length: int, model: str, repeats: int) -> list[dict[str, Any]]:
    """Make one row per variant; its memory is measured later."""
    tokens = torch.randint(0, 1000, (1, length))
    chosen = {name: run for name, run in runs.items() if length <= UP_TO.get(name, length)}
    seconds = rounds(chosen, tokens, repeats)
    ratios = {name: values / seconds[PLAIN] for name, values in seconds.items()}
    return [
        {
            "model": model,
            "T": length,
            "variant": name,
            "seconds": float(np.median(seconds[name])),
            "ratio": float(np.median(ratio)),
            "lowest": float(ratio.min()),
            "highest": float(ratio.max()),
            "MiB": None,
        }
        for name, ratio in ratios.items()
    ]


def print_table(rows: list[dict[str, Any]]) -> None:
    print("| T | variant | time / plain | lowest–highest | memory / plain | MiB | seconds |")
    print("|---|---|---|---|---|---|---|")
    plain = {row["T"]: row["MiB"] for row in rows if row["variant"] == PLAIN}
    for row in sorted(rows, key=lambda row: row["T"]):
        print(
            f"| {row['T']} | {row['variant']} | {row['ratio']:.3f} "
            f"| {row['lowest']:.3f}–{row['highest']:.3f} | {row['MiB'] / plain[row['T']]:.2f} "
            f"| {row['MiB']:.0f} | {row['seconds']:.2f} |"
        )
    print("\n| variant | memory grows as T to the power |\n|---|---|")
    for name in dict.fromkeys(row["variant"] for row in rows):
        points = [(row["T"], row["MiB"]) for row in rows if row["variant"] == name]
        if len(points) > 1:
            power = np.polyfit(*np.log(np.array(points).T), 1)[0]
            print(f"| {name} | {power:.2f} |")


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 2048, 4096, 8192, 16384])
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--model", help="a name or folder, as in model.path")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--variants", nargs="+", help="names, as in the table; all by default")
    parser.add_argument("--output", type=Path, default=Path("build/bench-attention.csv"))
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    model = build(arguments.model, arguments.layers)
    runs = variants(model)
    chosen = (
        ["--model", arguments.model] if arguments.model else ["--layers", str(arguments.layers)]
    )
    of_model = " ".join(chosen)
    if arguments.memory_of:
        tokens = torch.randint(0, 1000, (1, arguments.lengths[0]))
        runs[arguments.memory_of](tokens[:, :64])
        print(added_by(lambda: runs[arguments.memory_of](tokens)))
        return
    wanted = [PLAIN, *(arguments.variants or runs)]
    if unknown := set(wanted) - set(runs):
        parser.error(f"--variants: unknown: {sorted(unknown)}")
    runs = {name: run for name, run in runs.items() if name in wanted}
    path = arguments.output
    path.parent.mkdir(parents=True, exist_ok=True)
    done = pl.read_csv(path).to_dicts() if path.is_file() else []
    rows = [row for row in done if row["model"] == of_model]
    for length in arguments.lengths:
        due = {name for name in runs if length <= UP_TO.get(name, length)}
        if not due <= {row["variant"] for row in rows if row["T"] == length}:
            rows = [row for row in rows if row["T"] != length]
            rows += measure(runs, length, of_model, arguments.repeats)
            pl.DataFrame(rows).write_csv(path)
    for row in rows:
        if row["MiB"] is None:
            row["MiB"] = peak_of(row["variant"], row["T"], chosen)
            pl.DataFrame(rows).write_csv(path)
    print_table(rows)


if __name__ == "__main__":
    main()

"""Processor time of reading attention off its log-sum-exp on a CPU, by the size of the blocks.

    python bench/band.py [--repeats 25]

Far mass and WAAD of all heads of one layer, random queries and keys in float32, one thread. The
blocks of `attention.reading` beside blocks of 64 queries, one at a time, which it had before. Both
take turns; a figure is the fastest of all rounds, and the ratio is of these two.
"""

from __future__ import annotations

import argparse
import time

import torch

from pivottrace.attention import AttentionDistance, FarMass, reading
from pivottrace.attention.row_statistics import Needs

STATS = (FarMass(), AttentionDistance())
# Query heads, key heads, tokens, head width.
SHAPES = {
    "SmolLM2-135M": [(9, 3, 2048, 64), (9, 3, 8192, 64)],
    "Qwen3-0.6B": [(16, 8, 2048, 128), (16, 8, 8192, 128)],
}
SIZES = {"now": (reading.BAND_BLOCK, reading.MAX_SCORES["cpu"]), "before": (64, 0)}


def fastest(heads: int, key_heads: int, length: int, width: int, repeats: int) -> dict[str, float]:
    """Return the seconds of a layer for each of `SIZES`."""
    query = torch.randn(1, heads, length, width)
    key = torch.randn(1, key_heads, length, width)
    log_sum_exp = torch.randn(1, heads, length) + 8
    landmarks = reading.find_landmarks(torch.ones(1, length, dtype=torch.long), 1)
    best = dict.fromkeys(SIZES, float("inf"))
    for _ in range(repeats):
        for name, (block, scores) in SIZES.items():
            reading.BAND_BLOCK, reading.MAX_SCORES["cpu"] = block, scores
            start = time.thread_time()
            local = reading.read_band(
                query, key, log_sum_exp, width**-0.5, landmarks, Needs.of(STATS)
            )
            for stat in STATS:
                stat(local)
            best[name] = min(best[name], time.thread_time() - start)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=25)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| layer of | T | before, ms | now, ms | now / before |\n|---|---|---|---|---|")
    for model, shapes in SHAPES.items():
        for shape in shapes:
            best = fastest(*shape, options.repeats)
            before, now = 1000 * best["before"], 1000 * best["now"]
            print(f"| {model} | {shape[2]:,} | {before:.1f} | {now:.1f} | {now / before:.2f} |")


if __name__ == "__main__":
    main()

"""Processor time and memory of a training pass on a CPU, by the rows per pass.

    python bench/rows_of_a_pass.py [--model smollm2] [--tokens 150] [--rows 16 8 4 2]

Sixteen rows of random tokens go forward and backward through a model's decoder, in float32, in
passes of so many rows; gradients add up. Each number of rows has a process of its own. It goes
through all rows twice, and the second time is counted: seconds of the processor (user and system),
which other work on the machine changes little, and the kernel's high-water mark of the memory. The
head is left out, since TRL's goes over the tokens in pieces.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

import torch

from pivottrace.config import ModelConfig
from pivottrace.models.load import load_model

ROWS = 16


def measure(path: str, tokens: int, rows: int) -> None:
    """Print the seconds and the MiB of one number of rows per pass."""
    from training import high_water_mib

    model = load_model(ModelConfig(path=path, device="cpu", dtype="float32"))[0].train()
    torch.manual_seed(0)
    ids = torch.randint(model.config.get_text_config().vocab_size, (ROWS, tokens))
    for _ in range(2):
        before = os.times()
        for part in ids.split(rows):
            model.base_model(input_ids=part).last_hidden_state.sum().backward()
        after = os.times()
    seconds = after.user + after.system - before.user - before.system
    print(f"| {rows} | {seconds:.1f} | {high_water_mib():.0f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--tokens", type=int, default=150, help="of a row")
    parser.add_argument("--rows", type=int, nargs="+", default=[16, 8, 4, 2])
    parser.add_argument("--measure", type=int, help="one number of rows, in this process")
    options = parser.parse_args()
    if options.measure:
        measure(options.model, options.tokens, options.measure)
        return
    print("| rows per pass | processor time, s | peak MiB |\n|---|---|---|", flush=True)
    for rows in options.rows:
        given = [f"--model={options.model}", f"--tokens={options.tokens}", f"--measure={rows}"]
        subprocess.run([sys.executable, __file__, *given], check=True)


if __name__ == "__main__":
    main()

"""Measure the pool presets on the tiny reasoner, for its model card.

    python bench/world_presets.py [--model embedded] [--num 600] [--seeds 0 1 2]

By 16 samples per question: mastered (all right), hopeless (none right), majority right, majority
confidently wrong (a wrong answer holds at least half of the samples).
"""

from __future__ import annotations

import argparse
import operator
from collections.abc import Sequence

import numpy as np

from pivottrace.config import ModelConfig, PoolConfig
from pivottrace.models.asking import ask
from pivottrace.models.generate import TransformersSampler
from pivottrace.models.load import load_model
from pivottrace.models.rendering import render_prompt
from pivottrace.models.sampler import Sampler, Sampling
from pivottrace.verifier.answers import Vote, extract_answer, group_equivalent, majority_vote
from pivottrace.world.problems import PRESETS, Problem, generate, held_out_family

NUM_SAMPLES, MAX_NEW_TOKENS, BATCH = 16, 128, 512
CONFIDENT = 0.5
COLUMNS = (
    "greedy right",
    "mean correctness",
    "mastered",
    "hopeless",
    "majority right",
    "confidently wrong",
)


def measure(sampler: Sampler, problems: Sequence[Problem], seed: int) -> dict[str, float]:
    """The figures of one pool, each a share in [0, 1]."""
    prompts = [
        render_prompt(sampler.tokenizer, [{"role": "user", "content": p.question}], PoolConfig())
        for p in problems
    ]
    truths = [p.answer for p in problems]
    greedy = _answers(sampler, prompts, 1, None, seed)
    samples = _answers(sampler, prompts, NUM_SAMPLES, 1.0, seed)
    right = np.array([[a == t for a in s] for s, t in zip(samples, truths, strict=True)])
    votes = [_vote(s, t) for s, t in zip(samples, truths, strict=True)]
    vote_right = np.array([v.winner == 0 for v in votes])
    confident = np.array([v.winner is not None and v.share >= CONFIDENT for v in votes])
    return {
        "greedy right": float(np.mean([g[0] == t for g, t in zip(greedy, truths, strict=True)])),
        "mean correctness": float(right.mean()),
        "mastered": float(right.all(axis=1).mean()),
        "hopeless": float((~right.any(axis=1)).mean()),
        "majority right": float(vote_right.mean()),
        "confidently wrong": float((~vote_right & confident).mean()),
    }


def _answers(
    sampler: Sampler,
    prompts: Sequence[Sequence[int]],
    num_samples: int,
    temperature: float | None,
    seed: int,
) -> list[list[str | None]]:
    settings = Sampling(
        num_samples=num_samples,
        temperature=temperature,
        max_new_tokens=MAX_NEW_TOKENS,
        batch_size=BATCH,
        seed=seed,
    )
    asked = ask(sampler, prompts, settings)
    return [[extract_answer(response.text) for response in each.responses] for each in asked]


def _vote(answers: Sequence[str | None], truth: str) -> Vote:
    """Take the majority vote, with the truth as class 0."""
    return majority_vote(group_equivalent([truth, *answers], operator.eq)[1:])


def main() -> None:
    """Print a Markdown table: each preset's mean over seeds, with the lowest and highest seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--num", type=int, default=600)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--presets", nargs="+", default=list(PRESETS))
    arguments = parser.parse_args()
    sampler = TransformersSampler(*load_model(ModelConfig(path=arguments.model)))
    print("| pool | " + " | ".join(COLUMNS) + " |")
    print("|---|" + "---|" * len(COLUMNS))
    for preset in arguments.presets:
        pools = {seed: generate("pool", arguments.num, seed, preset) for seed in arguments.seeds}
        rows = [measure(sampler, pool, seed) for seed, pool in pools.items()]
        print(_row(preset, rows), flush=True)
    rows = [
        measure(sampler, held_out_family(arguments.num, seed), seed) for seed in arguments.seeds
    ]
    print(_row("held-out family", rows))


def _row(name: str, rows: list[dict[str, float]]) -> str:
    cells = []
    for column in COLUMNS:
        values = [100 * row[column] for row in rows]
        cells.append(f"{np.mean(values):.1f} % ({min(values):.1f}–{max(values):.1f})")
    return f"| {name} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()

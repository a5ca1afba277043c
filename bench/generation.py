"""Time of our generation, against `generate` of transformers or our own before quick drawing.

    python bench/generation.py [--repeats 7] [--threads 1] [--batches 512] [--cases questions]
    python bench/generation.py --model smollm2 --cases questions --batches 32 64 --threads 2
    python bench/generation.py --against slower-drawing --cases questions --repeats 3
    python bench/generation.py --against slower-drawing --cases questions --repeats 3 \
        --model smollm2 --dtype bfloat16 --batches 64

Cases. `questions`: the model samples 8 answers to each of some questions, at most 128 tokens at
temperature 1, where most rows end long before the last. The embedded model answers 128 questions of
its world; any other model answers 24 of the judged pool of docs/results/real-model.md. `long
prompts`: four rows of 4,096 tokens and 96 more greedy tokens each, without an end, through Qwen3's
layers (hidden size 512, 4 layers, random weights). Here only the copy of the cache at every token
can be saved. Prompts, their order, limits and batch size are the same; `generate` takes batch after
batch, and a waiting prompt takes a place that falls free in ours. The other reference,
`slower-drawing`, is our own generation with `torch.multinomial`, where each row reads its own
prompt. The case `long prompts` draws nothing and shares no prompt, so it is refused there.

Variants run interleaved in one process; the figure is the median of the ratios to the reference in
the same round, with the lowest and the highest (of seven, a 98 % interval of the median).
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import transformers

from pivottrace.config import ModelConfig, PoolConfig
from pivottrace.models import compact
from pivottrace.models.load import load_model, stop_token_ids
from pivottrace.models.rendering import render_prompt
from pivottrace.world.problems import generate

CASES = ["questions", "long prompts"]
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


@dataclass(frozen=True)
class Case:
    """A model, the tokens of its prompts, and how they are answered."""

    model: Any
    prompts: list[list[int]]
    settings: transformers.GenerationConfig
    batches: list[int]


def questions(name: str, dtype: str, batches: list[int]) -> Case:
    """Eight samples of each question."""
    model, tokenizer = load_model(ModelConfig(path=name, device="cpu", dtype=dtype))
    texts = world_questions() if name == "embedded" else pool_questions()
    asked = [[{"role": "user", "content": text}] for text in texts]
    prompts = [render_prompt(tokenizer, messages, PoolConfig()) for messages in asked]
    settings = transformers.GenerationConfig(
        max_new_tokens=128,
        do_sample=True,
        temperature=1.0,
        top_k=0,
        eos_token_id=list(stop_token_ids(model, tokenizer)),
        pad_token_id=tokenizer.pad_token_id,
    )
    return Case(model, [p for p in sorted(prompts, key=len) for _ in range(8)], settings, batches)


def world_questions() -> list[str]:
    return [problem.question for problem in generate("pool", 128, 0)]


def pool_questions() -> list[str]:
    from real_model_pools import entries, files

    return [entry["question"] for entry in entries(files()["judged-11"])][::7]


def long_prompts() -> Case:
    """A random model, and endless greedy responses."""
    torch.manual_seed(0)
    model = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**LONG)).eval()
    nowhere = LONG["vocab_size"]  # no token
    settings = transformers.GenerationConfig(
        max_new_tokens=96, do_sample=False, eos_token_id=nowhere, pad_token_id=0
    )
    return Case(model, torch.randint(2, nowhere, (4, 4096)).tolist(), settings, [4])


def in_batches(case: Case, batch: int) -> None:
    """Answer batch after batch by `generate`, padded on the left."""
    for start in range(0, len(case.prompts), batch):
        prompts = case.prompts[start : start + batch]
        width = max(map(len, prompts))
        ids = torch.full((len(prompts), width), case.settings.pad_token_id)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt) :] = torch.tensor(prompt)
            mask[row, width - len(prompt) :] = 1
        case.model.generate(ids, attention_mask=mask, generation_config=case.settings)


def refilling(case: Case, batch: int) -> None:
    for _ in compact.generate_refilling(case.model, case.prompts, case.settings, places=batch):
        pass


def slower_drawing(case: Case, batch: int) -> None:
    """Ours, but a token takes a random number per word of the vocabulary; no prompt is shared."""
    with (
        patch.object(compact, "quick_drawing", lambda _: {}),
        patch.object(compact, "_read_once", lambda *_: None),
    ):
        refilling(case, batch)


REFERENCES: dict[str, Callable[[Case, int], None]] = {
    "transformers": in_batches,
    "slower-drawing": slower_drawing,
}


def measure(case: Case, batch: int, repeats: int, against: str) -> dict[str, np.ndarray]:
    """Return the seconds of each variant in each round."""
    seconds: dict[str, list[float]] = {}
    variants = {against: REFERENCES[against], "ours": refilling}
    for repeat in range(repeats + 1):  # the first round warms up
        for name, variant in variants.items():
            torch.manual_seed(repeat)
            started = time.perf_counter()
            variant(case, batch)
            if repeat:
                seconds.setdefault(name, []).append(time.perf_counter() - started)
    return {name: np.array(values) for name, values in seconds.items()}


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="embedded", help="a name or folder, as in model.path")
    parser.add_argument(
        "--dtype", choices=["float32", "bfloat16"], default="float32", help="of the model"
    )
    parser.add_argument("--against", choices=list(REFERENCES), default="transformers")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--batches", type=int, nargs="+", default=[512], help="of the questions")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.against == "slower-drawing" and arguments.cases != ["questions"]:
        parser.error("--against slower-drawing needs --cases questions: only samples are drawn")
    torch.set_num_threads(arguments.threads)
    against = arguments.against
    print(f"| case | rows at once | time / {against} | lowest–highest | {against}, s | ours, s |")
    print("|---|---|---|---|---|---|")
    for name in arguments.cases:
        is_long = name == "long prompts"
        case = (
            long_prompts()
            if is_long
            else questions(arguments.model, arguments.dtype, arguments.batches)
        )
        for batch in case.batches:
            seconds = measure(case, batch, arguments.repeats, against)
            ratio = seconds["ours"] / seconds[against]
            theirs, ours = (np.median(values) for values in seconds.values())
            print(
                f"| {name} | {batch} | {np.median(ratio):.3f} "
                f"| {ratio.min():.3f}–{ratio.max():.3f} | {theirs:.1f} | {ours:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()

"""A short supervised warm-up on worked solutions, so that a small model half knows the tasks.

    python bench/warm_up.py runs/smollm2-warm [--questions 2400] [--seed 7000000]

The solutions are written by program (worked_solutions.py), for questions of the same tasks and
other seeds than any pool. TRL's `SFTTrainer` trains all weights for one pass, on the solutions
alone. `--questions` sets how well the model knows the tasks. 2,400 take about half an hour on two
idle cores that multiply bfloat16 (AMX, or AVX-512 BF16). Other CPUs train in float32, which takes
several times as long (two minutes of one AVX2 core per step of 16 rows) and gives other weights.
"""

import argparse
import json
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets
import reasoning_gym
import torch
from trl import SFTConfig, SFTTrainer

from pivottrace.config import ModelConfig
from pivottrace.models.half_products import cpu_multiplies
from pivottrace.models.load import load_model
from real_model_pools import OPTIONS, every_question
from worked_solutions import SOLVERS, solution

BATCH = 16


def examples(questions: int, seed: int) -> list[dict[str, Any]]:
    """Prompts and completions, the same number of each task, in turns; none is in a pool."""
    in_pools, each = every_question(), questions // len(SOLVERS)
    tasks = {}
    for task in SOLVERS:
        drawn = reasoning_gym.create_dataset(task, size=5 * each, seed=seed, **OPTIONS[task])
        new = {entry["question"]: entry for entry in drawn if entry["question"] not in in_pools}
        tasks[task] = list(new.values())[:each]
        if len(tasks[task]) < each:
            raise SystemExit(f"{task} has no {each} questions outside the pools: give fewer")
    return [
        {
            "prompt": [{"role": "user", "content": entry["question"]}],
            "completion": [{"role": "assistant", "content": solution(task, entry)}],
        }
        for of_all_tasks in zip(*tasks.values(), strict=True)
        for task, entry in zip(SOLVERS, of_all_tasks, strict=True)
    ]


def main() -> None:
    """Train, and save the model folder with a record of its making."""
    parser = argparse.ArgumentParser()
    parser.add_argument("output", type=Path)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--questions", type=int, default=2400)
    parser.add_argument("--seed", type=int, default=7_000_000, help="pools have smaller seeds")
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    options = parser.parse_args()

    model, tokenizer = load_model(ModelConfig(path=options.model, device="cpu", dtype="float32"))
    rows = datasets.Dataset.from_list(examples(options.questions, options.seed))
    settings = SFTConfig(
        output_dir=str(options.output / "checkpoints"),
        per_device_train_batch_size=BATCH,
        num_train_epochs=1,
        learning_rate=options.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=5,
        logging_steps=5,
        save_strategy="no",
        report_to="none",
        bf16=bool(cpu_multiplies(torch.bfloat16)),  # elsewhere it would be emulated
        gradient_checkpointing=False,
        use_cpu=True,
        seed=options.seed,
    )
    started = time.monotonic()
    trainer = SFTTrainer(model, args=settings, train_dataset=rows, processing_class=tokenizer)
    trainer.train()
    trainer.save_model(str(options.output))
    facts = {
        "model": options.model,
        "questions": len(rows),
        "seed": options.seed,
        "learning_rate": options.learning_rate,
        "products": "bfloat16" if settings.bf16 else "float32",
        "seconds": round(time.monotonic() - started),
        "losses": [line["loss"] for line in trainer.state.log_history if "loss" in line],
        "versions": {
            name: version(name) for name in ("torch", "transformers", "trl", "reasoning-gym")
        },
    }
    (options.output / "warm_up.json").write_text(json.dumps(facts, indent=1) + "\n")
    print(f"{options.output}: {facts['seconds']} s, last loss {facts['losses'][-1]:.3f}")


if __name__ == "__main__":
    main()

"""A short supervised warm-up on worked solutions, so that a small model half knows the tasks.

    python bench/warm_up.py runs/smollm2-warm [--questions 2400] [--seed 1001]

The solutions are written by program (worked_solutions.py), for questions of the same tasks and
other seeds than any pool. TRL's `SFTTrainer` trains all weights for one pass, on the solutions
alone. About 40 minutes on two idle cores; `--questions` sets how well the model knows the tasks.
"""

import argparse
import json
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets
import reasoning_gym
from trl import SFTConfig, SFTTrainer

from pivottrace.config import ModelConfig
from pivottrace.models.load import load_model
from worked_solutions import SOLVERS, solution

SIZES: dict[str, dict[str, Any]] = {
    "chain_sum": {"min_terms": 2, "max_terms": 5, "min_digits": 1, "max_digits": 2},
    "count_bits": {"max_n": 1023},
    "decimal_chain_sum": {"max_terms": 4, "max_digits": 2, "max_decimal_places": 1},
    "fraction_simplification": {"max_value": 30, "max_factor": 12, "styles": ("plain",)},
    "gcd": {"max_value": 200},
    "lcm": {"max_value": 30},
    "leg_counting": {"max_animals": 4, "max_instances": 9},
    "letter_counting": {"min_words": 3, "max_words": 8},
    "prime_factorization": {"max_value": 300},
    "products": {"max_digits": 2},
    "simple_geometry": {},
}
"""Options of each task, the same in every pool."""
BATCH = 32


def examples(questions: int, seed: int) -> list[dict[str, Any]]:
    """Prompts and completions, the same number of each task, in turns."""
    each = questions // len(SIZES)
    tasks = {
        task: list(reasoning_gym.create_dataset(task, size=each, seed=seed, **options))
        for task, options in SIZES.items()
    }
    return [
        {
            "prompt": [{"role": "user", "content": tasks[task][index]["question"]}],
            "completion": [{"role": "assistant", "content": solution(task, tasks[task][index])}],
        }
        for index in range(each)
        for task in SOLVERS
    ]


def main() -> None:
    """Train, and save the model folder with a record of its making."""
    parser = argparse.ArgumentParser()
    parser.add_argument("output", type=Path)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--questions", type=int, default=2400)
    parser.add_argument("--seed", type=int, default=1001, help="pools have smaller seeds")
    parser.add_argument("--learning-rate", type=float, default=2e-4)
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
        bf16=False,
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

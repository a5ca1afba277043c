"""Do labels matter in this world? Full supervision against a random 29.3 % with their labels only.

    python bench/labels_matter.py --output runs/labels-matter [--seeds 0 1 2]

This was measured before any triage. Both arms have the same model, steps, optimiser and held-out
questions; only the rows differ. Verdicts are kept in the output folder, so that a second call goes
on from the place where the first stopped, and prints the table from them. A call with other
settings is refused.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy import stats

from pivottrace.config import Config, EvaluateConfig, RolloutsConfig, TrainConfig
from pivottrace.rollouts.held_out import counts_of, sample_and_check
from pivottrace.schemas import TRAINING_ROWS
from pivottrace.stats.accuracy import average_accuracy, paired_difference
from pivottrace.verifier import Verifier
from pivottrace.verifier.answers import extract_answer
from pivottrace.world.problems import Problem, generate

SHARE = 0.293
ARMS = {"full": 1.0, "random 29.3 %": SHARE}
POOL, EVALUATION, PASSES = 480, 1000, 3
QUESTIONS_PER_STEP = 16
STEPS = POOL * PASSES // QUESTIONS_PER_STEP
# These are the demo's settings, chosen among a few on one seed, with full supervision only.
LEARNING_RATE, SCHEDULE, BETA = 2e-3, "linear", 0.1
MAX_NEW_TOKENS = 128


def main() -> None:
    """Train the arms that are missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--learning-rate", type=float, default=LEARNING_RATE)
    arguments = parser.parse_args()
    config = _config(arguments.steps, arguments.learning_rate)
    arguments.output.mkdir(parents=True, exist_ok=True)
    from pivottrace.training.trl_state import refuse_changed_settings

    refuse_changed_settings(arguments.output, _settings(config))
    for seed in arguments.seeds:
        for arm in ("before", *ARMS):
            path = _verdicts(arguments.output, arm, seed)
            if not path.is_file():
                started = time.monotonic()
                table = _arm(arguments.output, arm, seed, config)
                pq.write_table(table, path)
                print(f"{arm}, seed {seed}: {time.monotonic() - started:.0f} s", flush=True)
    _print_table(arguments.output, arguments.seeds)


def _verdicts(output: Path, arm: str, seed: int) -> Path:
    return output / f"{arm.replace(' %', '').replace(' ', '-')}-{seed}.parquet"


def _config(steps: int, learning_rate: float) -> Config:
    return Config(
        rollouts=RolloutsConfig(max_new_tokens=MAX_NEW_TOKENS, batch_size=512),
        evaluate=EvaluateConfig(),
        train=TrainConfig(
            steps=steps,
            questions_per_step=QUESTIONS_PER_STEP,
            learning_rate=learning_rate,
            schedule=SCHEDULE,
            beta=BETA,
            max_new_tokens=MAX_NEW_TOKENS,
            save_steps=10_000,
        ),
    )


def _settings(config: Config) -> dict[str, Any]:
    """Return the settings that verdicts depend on, apart from arm and seed."""
    sizes = {"share": SHARE, "pool": POOL, "evaluation": EVALUATION}
    sections = config.model_dump(mode="json", include={"rollouts", "evaluate"})
    return sizes | sections | config.train.model_dump(mode="json")


def _arm(output: Path, arm: str, seed: int, config: Config) -> pa.Table:
    from pivottrace.models.generate import TransformersSampler
    from pivottrace.models.load import load_model
    from pivottrace.rewards.mix import mixed_reward
    from pivottrace.training.trl import train_grpo

    model, tokenizer = load_model(config.model)
    with Verifier("math") as verifier:
        if arm != "before":
            reward = mixed_reward(
                extract=extract_answer,
                check=verifier.check_many,
                group=verifier.group,
                num_generations=config.train.num_generations,
            )
            folder = _verdicts(output, arm, seed).with_suffix("")
            rows = _rows(_pool(seed, ARMS[arm]))
            train_grpo(model, tokenizer, rows, reward, config.train, folder, seed=seed)
            model, tokenizer = load_model(
                config.model.model_copy(update={"path": str(folder / "model")})
            )
        questions = [
            {"id": p.id, "prompt": _prompt(p), "answer": p.answer}
            for p in generate("evaluation", EVALUATION, seed)
        ]
        return sample_and_check(
            TransformersSampler(model, tokenizer), questions, config, verifier, seed
        )


def _pool(seed: int, share: float) -> list[Problem]:
    problems = generate("pool", POOL, seed)
    return random.Random(seed).sample(problems, round(share * len(problems)))


def _prompt(problem: Problem) -> list[dict[str, str]]:
    return [{"role": "user", "content": problem.question}]


def _rows(problems: Sequence[Problem]) -> pa.Table:
    rows = [
        {
            "question_id": p.id,
            "prompt": _prompt(p),
            "route": "annotate",
            "weight": 1.0,
            "label": p.answer,
        }
        for p in problems
    ]
    return pa.Table.from_pylist(rows, schema=TRAINING_ROWS)


def _print_table(output: Path, seeds: Sequence[int]) -> None:
    """Print each seed's accuracies and paired difference, then the mean difference over seeds."""
    print(f"\n| seed | before | full | random 29.3 % | full − random (95 %) |\n|{'---|' * 5}")
    differences = []
    for seed in seeds:
        counts = {
            arm: counts_of(pq.read_table(_verdicts(output, arm, seed))) for arm in ("before", *ARMS)
        }
        gap = paired_difference(counts["random 29.3 %"], counts["full"])
        differences.append(100 * gap.mean)
        cells = [f"{100 * average_accuracy(counts[arm]).mean:.1f} %" for arm in ("before", *ARMS)]
        cells.append(f"{100 * gap.mean:+.1f} ({100 * gap.low:+.1f} to {100 * gap.high:+.1f})")
        print(f"| {seed} | " + " | ".join(cells) + " |")
    if len(differences) > 1:
        mean = np.mean(differences)
        reach = stats.t.ppf(0.975, len(differences) - 1) * stats.sem(differences)
        print(
            f"\nfull − random, mean over {len(seeds)} seeds: {mean:+.1f} points "
            f"(95 % interval over seeds {mean - reach:+.1f} to {mean + reach:+.1f})"
        )


if __name__ == "__main__":
    main()

"""Cost of our training against plain TRL: time per step and peak memory.

    python bench/training.py [--steps 12] [--questions 8] [--generations 8] [--tokens 128]
                             [--rounds 7] [--annotate 0.5] [--plain-rows 8]
                             [--checkpointing] [--no-memory]
    python bench/training.py --model smollm2 --steps 3 --rounds 3 --target 0.7

The embedded model trains on its world; any other one, named as in `model.path`, on the judged pool
of docs/results/real-model.md. Three variants with the same model, prompts and steps: TRL's own
`GRPOTrainer` with a verified reward only; ours with the same reward; ours as in a run, with the
alarms and a mix of routes (the given share is verified and the rest votes). A forward pass of
plain TRL takes as many rows as ours, or `--plain-rows`; TRL's own default is 8. Gradient
checkpointing, on by default in TRL and off in ours, is off for all of them, or on
(`--checkpointing`). The learning rate is so small that all of them sample from the starting policy.
They run interleaved in one process; a figure is the median of the ratios to plain TRL in the same
round, with the lowest and the highest (of seven, a 98 % interval of the median). A round's first
step warms up and is not counted. Peak memory (the kernel's high-water mark) is measured in one
process per variant. Above the target ratio of times the script exits with 1.
"""

from __future__ import annotations

import argparse
import copy
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from transformers import PrinterCallback, TrainerCallback
from trl import GRPOTrainer

from pivottrace.config import AlarmsConfig, ModelConfig, TrainConfig
from pivottrace.models.load import load_model
from pivottrace.refine import make_alarms
from pivottrace.rewards.mix import MixedReward, mixed_reward
from pivottrace.schemas import TRAINING_ROWS
from pivottrace.training.trl import quiet_libraries, train_grpo, training_dataset
from pivottrace.training.trl_config import grpo_arguments
from pivottrace.training.trl_rules import observe_together
from pivottrace.verifier import Verifier
from pivottrace.verifier.answers import extract_answer
from pivottrace.world.problems import generate

PLAIN, VERIFIED, MIX = "plain TRL, verified", "ours, verified", "ours, mix of routes"
VARIANTS = (PLAIN, VERIFIED, MIX)
SEED = 0
LEARNING_RATE = 1e-9

Clock = Callable[[], None]


class Ticking(TrainerCallback):
    """Look at the clock when a step has been logged, as `train_grpo` does for `on_log`."""

    def __init__(self, tick: Clock) -> None:
        self._tick = tick

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Tick once per step."""
        if "loss" in logs:
            self._tick()


def problems(model: str, number: int) -> list[tuple[str, str]]:
    """Questions and their answers."""
    if model == "embedded":
        return [(each.question, each.answer) for each in generate("pool", number, SEED)]
    from real_model_pools import entries, files

    pool = [(each["question"], each["answer"]) for each in entries(files()["judged-11"])]
    return [pool[index * 29 % len(pool)] for index in range(number)]  # tasks in turns: 28 of each


def training_rows(asked: list[tuple[str, str]], annotate: float) -> pa.Table:
    """The questions as rows: a share verified, evenly spread, the rest weak."""
    rows = []
    for index, (question, answer) in enumerate(asked):
        is_verified = int((index + 1) * annotate) > int(index * annotate)
        rows.append(
            {
                "question_id": str(index),
                "prompt": [{"role": "user", "content": question}],
                "route": "annotate" if is_verified else "weak",
                "weight": 1.0 if is_verified else 0.5,
                "label": answer if is_verified else None,
            }
        )
    return pa.Table.from_pylist(rows, schema=TRAINING_ROWS)


def train_plain(
    model: Any,
    tokenizer: Any,
    rows: pa.Table,
    reward: MixedReward,
    config: TrainConfig,
    folder: Path,
    tick: Clock,
) -> None:
    with quiet_libraries():
        trainer = GRPOTrainer(
            model=model.float(),
            reward_funcs=reward,
            args=grpo_arguments(config, folder, model, SEED, {}),
            train_dataset=training_dataset(tokenizer, rows, config, SEED),
            processing_class=tokenizer,
            callbacks=[Ticking(tick)],
        )
        trainer.remove_callback(PrinterCallback)  # as ours does
        trainer.train()


def seconds_a_step(
    variant: str,
    start: Any,
    tokenizer: Any,
    config: TrainConfig,
    plain_rows: int | None,
    asked: list[tuple[str, str]],
    annotate: float,
    verifier: Verifier,
) -> float:
    """Train one variant from the start; return seconds per step without the first."""
    model = copy.deepcopy(start)
    rows = training_rows(asked, annotate if variant == MIX else 1.0)
    alarms = make_alarms(AlarmsConfig(action="report")) if variant == MIX else None
    rules = [] if alarms is None else [alarms]
    reward = mixed_reward(
        extract=extract_answer,
        check=verifier.check_many,
        group=verifier.group,
        num_generations=config.num_generations,
        rules=rules,
        observe=observe_together(*rules) if rules else None,
    )
    times: list[float] = []

    def tick(*_: Any) -> None:
        times.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        if variant == PLAIN:
            plain = config.model_copy(update={"micro_batch_size": plain_rows})
            train_plain(model, tokenizer, rows, reward, plain, Path(folder), tick)
        else:
            train_grpo(
                model,
                tokenizer,
                rows,
                reward,
                config,
                Path(folder),
                seed=SEED,
                on_log=tick,
                alarms=alarms,
            )
    return (times[-1] - times[0]) / (len(times) - 1)


def peak_mib(variant: str, arguments: argparse.Namespace) -> float:
    """Return the peak resident memory of a process that only trains this variant."""
    options = ("model", "steps", "questions", "generations", "tokens", "annotate", "plain-rows")
    values = {name: getattr(arguments, name.replace("-", "_")) for name in options}
    given = [f"--{name}={value}" for name, value in values.items() if value is not None]
    given += ["--checkpointing"] * arguments.checkpointing
    command = [sys.executable, __file__, "--memory-of", variant, *given]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def high_water_mib() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--questions", type=int, default=8, help="a step")
    parser.add_argument("--generations", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--annotate", type=float, default=0.5)
    parser.add_argument("--plain-rows", type=int, help="of a forward pass of plain TRL")
    parser.add_argument("--checkpointing", action="store_true", help="of gradients, for all")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--target", type=float, default=1.05, help="time / plain TRL, of the mix")
    parser.add_argument("--memory-of", choices=VARIANTS, help="measure this alone, and no time")
    parser.add_argument("--no-memory", action="store_true", help="measure times alone")
    arguments = parser.parse_args()
    if arguments.steps < 2:
        parser.error("--steps: the first one is not counted, so give at least 2")
    config = TrainConfig(
        steps=arguments.steps,
        questions_per_step=arguments.questions,
        num_generations=arguments.generations,
        max_new_tokens=arguments.tokens,
        learning_rate=LEARNING_RATE,
        gradient_checkpointing=arguments.checkpointing,
        save_steps=arguments.steps + 1,
    )
    start, tokenizer = load_model(ModelConfig(path=arguments.model, device="cpu"))
    seconds: dict[str, list[float]] = {name: [] for name in VARIANTS}
    with Verifier("math", 5.0) as verifier:
        measure = partial(
            seconds_a_step,
            start=start,
            tokenizer=tokenizer,
            config=config,
            plain_rows=arguments.plain_rows,
            asked=problems(arguments.model, config.questions_per_step * config.steps),
            annotate=arguments.annotate,
            verifier=verifier,
        )
        if arguments.memory_of:
            measure(arguments.memory_of)
            print(high_water_mib())
            return 0
        for _ in range(arguments.rounds):
            for name in VARIANTS:
                seconds[name].append(measure(name))
    measured = () if arguments.no_memory else VARIANTS
    peaks = {name: peak_mib(name, arguments) for name in measured}
    return report(seconds, peaks, arguments.target)


def report(seconds: dict[str, list[float]], peaks: dict[str, float], target: float) -> int:
    """Print the table; return 1 if the mix is above the target."""
    plain = np.array(seconds[PLAIN])
    print("| variant | s a step | steps/s | time / plain TRL | lowest–highest | peak MiB |")
    print("|---|---|---|---|---|---|")
    medians = {}
    for name, values in seconds.items():
        ratio = np.array(values) / plain
        medians[name] = float(np.median(ratio))
        typical = float(np.median(values))
        peak = f"{peaks[name]:.0f}" if name in peaks else "–"
        print(
            f"| {name} | {typical:.3f} | {1 / typical:.2f} | {medians[name]:.3f} "
            f"| {ratio.min():.3f}–{ratio.max():.3f} | {peak} |"
        )
    return int(medians[MIX] > target)


if __name__ == "__main__":
    sys.exit(main())

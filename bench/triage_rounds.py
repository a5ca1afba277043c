"""How good are the routes of a second round? One more arm for the tables of `triage_quality.py`.

    python bench/triage_rounds.py [--seeds 60-62] [--presets default]

The arm `rounds-2` has `rounds.num = 2`, half of the labels in each round, and 45 steps of training
in between, at the settings of `headline-2.toml`. It is measured on the same fresh samples as every
other arm, which come from the start model: what its labels would have taught before training. Its
rows are the rows of the second round.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

from pivottrace.experiments.definition import Arm, Experiment, load_experiment
from pivottrace.experiments.forking import fork
from pivottrace.labels.budget import allowed_labels, bought
from pivottrace.pipeline import run_step, steps
from triage_quality import (
    FILE,
    MADE_ELSEWHERE,
    PRESETS,
    figures_of,
    is_measured,
    of_preset,
    prepared,
    read_fresh,
    seeds_in,
    store,
    tokens_of,
)

TRAINING = Path("bench/headline-2.toml")
NAME = "rounds-2"
LAST = (1, "triage")  # round and stage


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--presets", nargs="+", default=["default"], choices=PRESETS)
    parser.add_argument("--seeds", default="60-62", help="for instance 60-62, or 60")
    options = parser.parse_args()
    experiment = load_experiment(FILE)
    for seed in seeds_in(options.seeds):
        for preset in options.presets:
            measure_pool(of_preset(experiment, preset), preset, seed)


def measure_pool(experiment: Experiment, preset: str, seed: int) -> None:
    """Run both rounds on a pool, unless its result exists, and measure the second one's routes."""
    if is_measured(experiment, NAME, preset, seed):
        return
    fresh = read_fresh(prepared(experiment, seed))
    changes = {"rounds": {"num": 2}, "train": training(), "alarms": {"action": "report"}}
    arm = Arm(NAME, MADE_ELSEWHERE[NAME], (seed,), changes)
    run = fork(experiment, arm, seed)
    with run.locked():
        for index, stage in steps(run):
            run_step(run.in_round(index), stage)
            if (index, stage) == LAST:
                break
    last = run.in_round(1)
    rows = last.read_table("triage", made_by="triage").to_pylist()
    tokens = sum(tokens_of(run.in_round(index)) for index in (0, 1)) / fresh.tokens
    figures = figures_of(rows, list(bought(run)), allowed_labels(run), fresh)
    store(experiment, NAME, preset, seed, figures | {"tokens": tokens})
    shutil.rmtree(run.path)
    print(f"{preset} {seed} {NAME}", flush=True)


def training() -> dict[str, Any]:
    """The settings `[train]` of the second round."""
    settings: dict[str, Any] = load_experiment(TRAINING).base["train"]
    return settings


if __name__ == "__main__":
    main()

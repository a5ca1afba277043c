"""How much sooner could an experiment's arms get there? First-order ceilings, before any training.

    python bench/ceiling.py bench/headline-2.toml [--seeds 50,51]

With p the share of right samples of a question, its group of rewards has a spread of sqrt(p(1-p)).
To the first order a step moves in proportion to the mean spread of its questions. So the ceiling of
an arm is the mean spread of the rows that it trains on, divided by the mean spread of the pool. It
leaves out wrong votes, repetition, noise, and the optimizer. p is the share among 32 fresh samples
per question of the start model, which no arm sees.

Two ceilings belong to no arm. *Perfect dropping* keeps the questions with some right and some wrong
samples: they are chosen on one half of the fresh samples, and measured on the other. *Perfect
order* draws questions in proportion to p(1-p) of one half, whole pool.

The script makes the base runs, which `pivottrace lab run` then takes over, and routes forks of its
own for every arm that takes the samples of the base.
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from pivottrace.experiments.definition import Arm, Experiment, load_experiment
from pivottrace.experiments.forking import fork, shared_stages
from pivottrace.stages import truth
from triage_quality import HALVES, STAGES, prepared, read_fresh, route


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--seeds", help="for instance 50,51; all by default")
    options = parser.parse_args()
    experiment = load_experiment(options.file)
    seeds = [int(seed) for seed in options.seeds.split(",")] if options.seeds else experiment.seeds
    found: dict[str, list[float]] = {}
    for seed in seeds:
        base = prepared(experiment, seed)
        with base.locked():
            truth.run(base)
        right = read_fresh(base).right
        for name, ceiling in of_pool(right).items():
            found.setdefault(name, []).append(ceiling)
        for arm in experiment.arms:
            config = experiment.config(arm, seed)
            if seed in arm.seeds and set(STAGES) <= set(shared_stages(base.config, config)):
                rows = trained_rows(experiment, arm, seed)
                found.setdefault(arm.title, []).append(ceiling_of(right, rows))
    print("| | seeds | dead questions, or ceiling | lowest, highest |\n|---|---|---|---|")
    for name, values in found.items():
        ends = f"{min(values):.2f}, {max(values):.2f}"
        print(f"| {name} | {len(values)} | {np.mean(values):.2f} | {ends} |")


def of_pool(right: np.ndarray) -> dict[str, float]:
    """The share of dead questions, and the ceilings of perfect dropping and of perfect order.

    Args:
        right: (Q, n) whether each fresh sample is right.
    """
    dropping, order = [], []
    for chosen_on, measured_on in HALVES:
        share, measured = right[:, chosen_on].mean(axis=1), spread(right[:, measured_on])
        dropping.append(measured[(share > 0) & (share < 1)].mean() / measured.mean())
        order.append(np.average(measured, weights=share * (1 - share)) / measured.mean())
    share = right.mean(axis=1)
    return {
        "dead questions": float(((share == 0) | (share == 1)).mean()),
        "perfect dropping": float(np.mean(dropping)),
        "perfect order": float(np.mean(order)),
    }


def ceiling_of(right: np.ndarray, rows: np.ndarray) -> float:
    """The mean spread of the rows (Q,) bool, divided by the mean spread of the pool."""
    every = spread(right)
    return float(every[rows].mean() / every.mean())


def spread(right: np.ndarray) -> np.ndarray:
    """The standard deviation (Q,) of the rewards of a question's samples."""
    share = right.mean(axis=1)
    deviation: np.ndarray = np.sqrt(share * (1 - share))
    return deviation


def trained_rows(experiment: Experiment, arm: Arm, seed: int) -> np.ndarray:
    """Whether an arm trains on each question (Q,), by a fork that is removed again."""
    run = fork(experiment, replace(arm, name=f"ceiling.{arm.name}"), seed)
    route(run, arm)
    routes = run.read_table("triage", made_by="triage", columns=["route"])["route"].to_pylist()
    shutil.rmtree(run.path)
    return np.isin(routes, ["annotate", "weak"])


if __name__ == "__main__":
    main()

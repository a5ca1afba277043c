"""Held-out accuracy of stored arms by task of reasoning-gym, and how sure the models are.

    python bench/arms_by_task.py docs/results/real-model/training/arms

The folder has the results of an experiment, ARM-SEED.json. Printed are each arm's accuracy per task
less that of `before`, in points with a 95 % interval over questions (bootstrap; questions of all
seeds together), and per seed; then the shares of questions with a right sample, and with no wrong
one, means over seeds.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

DRAWS = 4000


def read(folder: Path) -> dict[str, dict[int, np.ndarray]]:
    """Return the shares of right samples per question, by arm and seed."""
    found: dict[str, dict[int, np.ndarray]] = {}
    for path in sorted(folder.glob("*.json")):
        result = json.loads(path.read_text())
        shares = np.array(result["num_correct"]) / result["num_samples"]
        found.setdefault(result["arm"], {})[result["seed"]] = shares
    return found


def tasks(folder: Path, seed: int) -> np.ndarray:
    """Return the task of each question; its id is TASK-SEED-NUMBER."""
    ids = json.loads((folder / f"before-{seed}.json").read_text())["question_ids"]
    return np.array([each.rsplit("-", 2)[0] for each in ids])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    found, random = read(folder), np.random.default_rng(0)
    seeds = sorted(found["before"])
    task_of = {seed: tasks(folder, seed) for seed in seeds}
    print("| arm | task | less before, points | per seed |\n|---|---|---|---|")
    for arm in [name for name in found if name != "before"]:
        gains = {seed: 100 * (found[arm][seed] - found["before"][seed]) for seed in seeds}
        for task in np.unique(task_of[seeds[0]]):
            parts = [gains[seed][task_of[seed] == task] for seed in seeds]
            values = np.concatenate(parts)
            drawn = random.choice(values, (DRAWS, len(values))).mean(axis=1)
            low, high = np.percentile(drawn, [2.5, 97.5])
            each = ", ".join(f"{part.mean():+.1f}" for part in parts)
            print(f"| {arm} | {task} | {values.mean():+.1f} [{low:+.1f}, {high:+.1f}] | {each} |")
    print("\n| arm | a right sample | no wrong sample |\n|---|---|---|")
    for arm, shares in found.items():
        some = 100 * np.mean([(each > 0).mean() for each in shares.values()])
        every = 100 * np.mean([(each == 1).mean() for each in shares.values()])
        print(f"| {arm} | {some:.1f} % | {every:.1f} % |")


if __name__ == "__main__":
    main()

"""Which figure of the routes foretells the accuracy that training gains?

    python bench/triage_foretells.py

docs/results/triage-quality/foretells.json has one row per arm and seed of the first headline (nine
arms whose routes need no training, seeds 20 to 24): the held-out accuracy gained, and figures of
its routes on 32 fresh samples per question, as `bench/triage_quality.py` defines them, but not
divided by the figures of perfect routes. The code of commit 5851f10 made the routes again, and they
have the counts of the headline. The script prints Spearman's rank correlation with the gain within
each seed, its mean, and a 90 % interval by resampling arms and seeds.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
from scipy.stats import ConstantInputWarning, spearmanr

FILE = Path("docs/results/triage-quality/foretells.json")
RESAMPLES, FEWEST_ARMS = 1_000, 4
FIGURES = {
    "new_answers": "new answers: labels where the most frequent answer is wrong",
    "weak_half": "captured, weak rows counted half",
    "harm_twice": "captured, wrong votes counted twice",
    "captured": "learning captured",
    "square_roots": "captured, with square roots",
    "labels_alone": "labelled rows alone",
    "no_harm": "captured, wrong votes harmless",
    "per_row": "captured per row",
    "rows": "number of rows",
}


def main() -> None:
    warnings.simplefilter("ignore", ConstantInputWarning)
    rows = json.loads(FILE.read_text())
    seeds = sorted({row["seed"] for row in rows})
    arms = sorted({row["arm"] for row in rows})
    rng = np.random.default_rng(0)
    draws = [(rng.choice(arms, len(arms)), rng.choice(seeds, len(seeds))) for _ in range(RESAMPLES)]
    print("| figure | rank correlation with the gain | each seed |\n|---|---|---|")
    for name, title in FIGURES.items():
        by = {(row["arm"], row["seed"]): (row[name], row["gain"]) for row in rows}
        each = [_correlation(by, arms, seed) for seed in seeds]
        found = [[_correlation(by, chosen, int(seed)) for seed in some] for chosen, some in draws]
        # A draw whose arms are all alike has no correlation.
        means = [np.nanmean(each_seed) for each_seed in found if np.isfinite(each_seed).any()]
        low, high = np.nanquantile(means, (0.05, 0.95))
        shown = ", ".join(f"{value:.2f}" for value in each)
        print(f"| {title} | {np.mean(each):.2f} [{low:.2f}, {high:.2f}] | {shown} |")


def _correlation(by: dict[tuple[str, int], tuple[float, float]], arms: object, seed: int) -> float:
    pairs = [by[arm, seed] for arm in arms if (arm, seed) in by]  # type: ignore[attr-defined]
    if len(set(pairs)) < FEWEST_ARMS:
        return float("nan")
    return float(spearmanr(*zip(*pairs, strict=True))[0])


if __name__ == "__main__":
    main()

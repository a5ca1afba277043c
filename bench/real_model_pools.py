"""The questions of docs/results/real-model.md, as files for `pool.questions` and `pool.evaluation`.

    python bench/real_model_pools.py runs/real-model/pools

Tasks of reasoning-gym with the same options everywhere. `development` pools choose settings;
`judged` pools have other tasks and other seeds. Each has a held-out file of its own tasks.
`unseen.toml` has a task that no pool and no warm-up has.
"""

import argparse
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import reasoning_gym
import tomli_w

OPTIONS: dict[str, dict[str, Any]] = {
    "chain_sum": {"min_terms": 3, "max_terms": 6, "min_digits": 1, "max_digits": 1},
    "count_bits": {"max_n": 511},
    "decimal_chain_sum": {"max_terms": 4, "max_digits": 1, "max_decimal_places": 1},
    "fraction_simplification": {"max_value": 12, "max_factor": 9, "styles": ["plain"]},
    "gcd": {"max_value": 80},
    "lcm": {"max_value": 25},
    "leg_counting": {"min_animals": 2, "max_animals": 4, "max_instances": 5},
    "letter_counting": {"min_words": 3, "max_words": 8},
    "prime_factorization": {"max_value": 400},
    "products": {"min_digits": 1, "max_digits": 2},
    "simple_equations": {"max_terms": 2, "max_value": 9},
    "simple_geometry": {"max_sides": 4},
}
DEVELOPMENT = ("chain_sum", "count_bits", "gcd", "leg_counting", "letter_counting")
JUDGED = (
    "decimal_chain_sum",
    "fraction_simplification",
    "lcm",
    "prime_factorization",
    "products",
    "simple_geometry",
)
UNSEEN = "simple_equations"
HALVES = {"development": (DEVELOPMENT, 32, (1, 2)), "judged": (JUDGED, 28, (11, 12, 13))}
"""The tasks of each half, questions per task in a pool, and the pools' seeds."""
HELD_OUT = 20
SPACING = 10_000
"""Question i of the seed s is made from s + i, so seeds must be far apart."""


def files() -> dict[str, list[dict[str, Any]]]:
    """The tables of each file, by name."""
    made = {"unseen": [_task(UNSEEN, 2 * HELD_OUT, 0)]}
    for half, (tasks, size, seeds) in HALVES.items():
        for seed in seeds:
            made[f"{half}-{seed}"] = [_task(each, size, seed * SPACING) for each in tasks]
            apart = (100 + seed) * SPACING
            made[f"{half}-{seed}-held-out"] = [_task(each, HELD_OUT, apart) for each in tasks]
    return made


def every_question() -> set[str]:
    """The texts of all questions in the files: a warm-up must not see them."""
    return {entry["question"] for tables in files().values() for entry in entries(tables)}


def entries(tables: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """The questions of a file, as reasoning-gym makes them."""
    for table in tables:
        options = {key: value for key, value in table.items() if key != "name"}
        yield from reasoning_gym.create_dataset(table["name"], **options)


def _task(name: str, size: int, seed: int) -> dict[str, Any]:
    return {"name": name, "size": size, "seed": seed, **OPTIONS[name]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, tables in files().items():
        (folder / f"{name}.toml").write_text(tomli_w.dumps({"task": tables}))
        print(folder / f"{name}.toml")


if __name__ == "__main__":
    main()

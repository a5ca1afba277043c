"""The estimator study: which uncertainty estimator deserves trust on labelled pools, and how sure.

`run_study` runs the missing stages, computes every figure and writes study.json, study.md,
study.svg and, with a grid, grid.csv. It reads a run's tables, and does not buy labels.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pivottrace.config import Config
from pivottrace.errors import ConfigError
from pivottrace.run.records import installed_versions
from pivottrace.run.storage import write_text


def run_study(
    configs: Sequence[Config], output: Path | None, with_grid: bool, command: str
) -> tuple[Path, dict[str, Any]]:
    """Study one pool per configuration, all together.

    Args:
        configs: Run configurations with labelled pools. The first one gives the seed, the number of
            resamples and the default pivots of the study.
        output: Folder for the results. By default it is beside the first run's directory and has
            that directory's name with `-study`.
        with_grid: Whether to try every combination of settings too, on these questions.
        command: The command line, which is recorded.

    Returns:
        The folder, and the content of study.json.

    Raises:
        ConfigError: There is no configuration, two have one run directory, or the grid would use
            reserved questions.
        DataError: Too few questions have an answer, or a traced response.
    """
    from pivottrace.study.grid import as_csv, grid, refuse_reserved_questions
    from pivottrace.study.picture import draw
    from pivottrace.study.pools import prepare, read_evidence
    from pivottrace.study.text import markdown

    _refuse_repeated(configs)
    if with_grid:
        refuse_reserved_questions([config.pool for config in configs])
    pools = [read_evidence(run) for run in [prepare(config) for config in configs]]
    results = _results(pools, command)
    first = configs[0].output.expanduser()
    folder = output or first.with_name(f"{first.name}-study")
    folder.mkdir(parents=True, exist_ok=True)
    if with_grid:
        rows = grid(pools)
        results["grid"] = rows[:15]
        write_text(folder / "grid.csv", as_csv(rows))
    write_text(folder / "study.json", json.dumps(results, indent=2) + "\n")
    write_text(folder / "study.svg", draw(pools, results))
    write_text(folder / "study.md", markdown(results))
    return folder, results


def _results(pools: Sequence[Any], command: str) -> dict[str, Any]:
    from pivottrace.study.calibrations import compare_calibrations
    from pivottrace.study.composition import composition
    from pivottrace.study.estimator_metrics import ORACLE, compare
    from pivottrace.study.pools import default_pivots, inferences, seconds_per_question
    from pivottrace.study.sensitivity import sensitivity

    config = pools[0].run.config
    default = default_pivots(config)
    comparison = compare(pools, default)
    for name, figures in comparison["estimators"].items():
        if name != ORACLE:
            figures["inferences"] = inferences(name, config)
            seconds = [seconds_per_question(name, pool.run) for pool in pools]
            known = [s for s in seconds if s is not None]
            figures["seconds"] = sum(known) / len(known) if len(known) == len(pools) else None
    return {
        "command": command,
        "date": datetime.now(UTC).date().isoformat(),
        "versions": installed_versions(),
        "seed": config.seed,
        "resamples": config.study.resamples,
        "truth_samples": config.study.truth_samples,
        "default": default,
        "settings": {
            "pivots": config.pivots.model_dump(mode="json"),
            "trace": config.trace.model_dump(mode="json"),
            "rollouts": config.rollouts.model_dump(mode="json"),
        },
        "pools": [_describe(pool) for pool in pools],
        "composition": composition(pools),
        **comparison,
        "calibrations": compare_calibrations(pools, default),
        "sensitivity": sensitivity(pools),
    }


def _describe(pool: Any) -> dict[str, Any]:
    return {
        "name": pool.name,
        "questions": pool.run.config.pool.questions,
        "model": pool.run.config.model.path,
        "seed": pool.run.config.seed,
        "num_questions": int(pool.wrong.size),
        "num_failed": pool.num_failed,
        "num_unanswered": pool.num_unanswered,
        "greedy_wrong": float(pool.wrong.mean()),
        "mean_correctness": float(pool.correctness.mean()),
        "majority_right": float(pool.vote_right.mean()),
        "kind_column": pool.kind_column,
    }


def _refuse_repeated(configs: Sequence[Config]) -> None:
    if not configs:
        raise ConfigError("study needs a configuration: pivottrace study my.toml")
    outputs = [config.output.expanduser().resolve() for config in configs]
    twice = next((path for path in outputs if outputs.count(path) > 1), None)
    if twice is not None:
        raise ConfigError(
            f"two configurations have the run directory {twice}: give each its own `output`"
        )
    models = {config.model.path for config in configs}
    if len(models) > 1:
        raise ConfigError(
            f"the configurations have different models ({', '.join(sorted(models))}): study one "
            f"model at a time"
        )

"""The pivot settings that a grid chose, judged on other pools beside the default.

    python bench/chosen_pivots.py runs/real-model/development/study/grid.csv RUN [RUN ...]

Takes the best row of the grid that a configuration can name: pivots of far mass. Prints the figures
of `pivottrace study` for it and for its rivals on these runs, which have been studied before; the
chosen one less the default with an interval; and how many responses have a re-check word.
"""

import argparse
import csv
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pivottrace.run.directory import RunDir
from pivottrace.study.estimator_metrics import compare
from pivottrace.study.far_mass import Tracer
from pivottrace.study.grid import ALL_HEADS, ZETAS
from pivottrace.study.pivot_scores import PivotSettings, pivot_scores
from pivottrace.study.pools import PoolEvidence, default_pivots, read_evidence
from pivottrace.study.text import HEADERS, RANKING

CHOSEN = "chosen"
RIVALS = (CHOSEN, "consistency", "length", "entropy_mean", "combination", "random")
METRICS = {metric: HEADERS[metric] for metric in RANKING if metric != "auprc"}


def best_row(grid: Path) -> dict[str, str]:
    """The first row of the grid, which is sorted, that reads far mass."""
    with grid.open() as file:
        return next(row for row in csv.DictReader(file) if row["signal"] == "far_mass")


def with_chosen(pool: PoolEvidence, row: Mapping[str, str]) -> PoolEvidence:
    """The pool with one score more: pivots by the settings of the row."""
    window = int(row["window"])
    tracer = Tracer(pool.run, pool.question_ids)
    heads = None
    if row["heads"] != ALL_HEADS:
        by, percentile = row["heads"].split()
        heads = tracer.choose_heads([window], [float(percentile)])[window, by, float(percentile)]
    signals = tracer.means([window], {(window, CHOSEN): heads})[window, CHOSEN]
    settings = PivotSettings(float(row["zeta"] or ZETAS[-1]), float(row["psi"]), window)
    reading = row["reading"]
    scores = pivot_scores(signals, pool.question_ids, tracer.reference_ids, settings, (reading,))
    return replace(pool, scores=pool.scores | {CHOSEN: scores[f"{reading}_{row['statistic']}"]})


def lines(pools: list[PoolEvidence]) -> Iterator[str]:
    """The tables, as Markdown."""
    default = default_pivots(pools[0].run.config)
    results = compare(pools, default)
    yield f"| estimator | {' | '.join(METRICS.values())} |\n|---|{'---|' * len(METRICS)}"
    for name in (default, *RIVALS):
        if name in results["estimators"]:
            cells = [_cell(results["estimators"][name][metric]) for metric in METRICS]
            yield f"| {name} | {' | '.join(cells)} |"
    yield f"\n| {CHOSEN} less {default}, above 0 is better | {' | '.join(METRICS.values())} |"
    yield f"|---|{'---|' * len(METRICS)}"
    gains = [_cell(results["advantages"][CHOSEN][metric]) for metric in METRICS]
    yield f"| | {' | '.join(gains)} |"
    if "recheck_words" in pools[0].scores:
        words = np.concatenate([pool.scores["recheck_words"] for pool in pools])
        yield f"\nResponses with a re-check word: {np.mean(words > 0):.1%}."


def _cell(figure: Mapping[str, Any]) -> str:
    if figure["value"] is None:
        return "–"
    return f"{figure['value']:.2f} [{figure['low']:.2f}, {figure['high']:.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("grid", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    arguments = parser.parse_args()
    row = best_row(arguments.grid)
    print(", ".join(f"{key} {value or '–'}" for key, value in row.items()) + "\n")
    pools = [with_chosen(read_evidence(RunDir.open(run)), row) for run in arguments.runs]
    print("\n".join(lines(pools)))


if __name__ == "__main__":
    main()

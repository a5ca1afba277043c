"""Are the chances of votes right? Predicted against the world's truth, by number of samples.

    python bench/vote_chances.py RUN [RUN ...]

Reads runs of the embedded world that have been triaged. Chances are judged on the questions without
a label. The log loss is in nats per question.
"""

import argparse
from pathlib import Path

import numpy as np
import polars as pl

from pivottrace.experiments.rival_routes import every_answer
from pivottrace.run.directory import RunDir
from pivottrace.run.storage import read_parquet
from pivottrace.verifier import Verifier

LEAST = 1e-6


def votes_of(run: RunDir) -> pl.DataFrame:
    """`num_samples`, `share`, `route`, `chance`, `labelled` and `right` of each vote."""
    votes = read_parquet(run.table_path("votes"))
    routes = read_parquet(run.table_path("triage"))
    truth, ids = every_answer(run), votes["question_id"].to_pylist()
    with Verifier.of(run.config.answers) as verifier:
        right = verifier.check_many(votes["vote_answer"].to_pylist(), [truth[i] for i in ids])
    table = pl.DataFrame(
        {
            "num_samples": votes["num_samples"].to_numpy(),
            "share": votes["vote_share"].to_numpy(),
            "route": routes["route"].to_pylist(),
            "chance": routes["vote"].to_numpy(),
            "reason": votes["vote_reason"].to_pylist(),
            "failed": votes["failure"].is_valid().to_pylist(),
            "is_probe": routes["is_probe"].to_pylist(),
            "right": right,
        }
    )
    labelled = pl.col("is_probe") | (pl.col("route") == "annotate")
    table = table.with_columns(labelled=labelled)
    return table.filter((pl.col("reason") == "ok") & ~pl.col("failed"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+")
    paths = parser.parse_args().runs
    pools = [votes_of(RunDir.open(path)) for path in paths]
    print("| run | unanimous | votes right | weak | of these right | log loss |")
    print("|---|---|---|---|---|---|")
    for path, pool in zip(paths, pools, strict=True):
        weak, judged = pool.filter(pl.col("route") == "weak"), pool.filter(~pl.col("labelled"))
        chance = np.clip(judged["chance"].to_numpy(), LEAST, 1 - LEAST)
        loss = -np.log(np.where(judged["right"].to_numpy(), chance, 1 - chance)).mean()
        shares = f"{np.mean(pool['share'].to_numpy() == 1):.1%} | {_mean(pool, 'right'):.1%}"
        print(f"| {path.name} | {shares} | {len(weak)} | {_mean(weak, 'right'):.1%} | {loss:.3f} |")
    print("\n| samples | votes | foretold right | right | of these weak | foretold right | right |")
    print("|---|---|---|---|---|---|---|")
    judged = pl.concat(pools).filter(~pl.col("labelled"))
    for number in sorted(judged["num_samples"].unique()):
        votes = judged.filter(pl.col("num_samples") == number)
        cells = [str(number)]
        for each in (votes, votes.filter(pl.col("route") == "weak")):
            cells += [str(len(each)), *(f"{_mean(each, c):.3f}" for c in ("chance", "right"))]
        print(f"| {' | '.join(cells)} |")


def _mean(table: pl.DataFrame, column: str) -> float:
    return float(np.mean(table[column].to_numpy()))


if __name__ == "__main__":
    main()

"""Are the chances of votes right? Predicted against the world's truth, by number of samples.

    python bench/vote_chances.py RUN [RUN ...]

Reads runs of the embedded world that have been triaged. Labelled questions are left out. The log
loss is in nats per question.
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
    """`num_samples`, `route`, `vote` (the chance) and `right` of each vote without a label."""
    votes = pl.from_arrow(read_parquet(run.table_path("votes")))
    routes = pl.from_arrow(read_parquet(run.table_path("triage")))
    assert isinstance(votes, pl.DataFrame) and isinstance(routes, pl.DataFrame)
    both = votes.join(routes.select("question_id", "route", "vote", "is_probe"), on="question_id")
    both = both.filter(pl.col("vote_answer").is_not_null() & (pl.col("route") != "annotate"))
    both = both.filter(~pl.col("is_probe") & pl.col("vote").is_not_null())
    truth = every_answer(run)
    with Verifier.of(run.config.answers) as verifier:
        right = verifier.check_many(
            both["vote_answer"].to_list(), [truth[i] for i in both["question_id"]]
        )
    return both.select("num_samples", "route", "vote").with_columns(right=pl.Series(right))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+")
    pools = [votes_of(RunDir.open(path)) for path in parser.parse_args().runs]
    for pool in pools:
        chance = np.clip(pool["vote"].to_numpy(), LEAST, 1 - LEAST)
        loss = -np.log(np.where(pool["right"].to_numpy(), chance, 1 - chance))
        print(f"log loss {loss.mean():.3f}, {len(pool)} votes")
    print("\n| samples | votes | predicted | right | weak | predicted | right |")
    print("|---|---|---|---|---|---|---|")
    together = pl.concat(pools)
    for number in sorted(together["num_samples"].unique()):
        votes = together.filter(pl.col("num_samples") == number)
        cells = [str(number)]
        for each in (votes, votes.filter(pl.col("route") == "weak")):
            cells += [
                str(len(each)),
                *(f"{np.mean(each[c].to_numpy()):.3f}" for c in ("vote", "right")),
            ]
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()

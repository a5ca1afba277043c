"""How many votes of an experiment's weak rows were right before training, by the world's truth.

    python bench/weak_votes.py [bench/headline.toml]

The script reads the routes in the experiment's run directories, so run it after `pivottrace lab
run`. The arms do not see this truth. It prints right votes of weak rows, with one line per arm and
one column per seed.
"""

import argparse
import re
from pathlib import Path

import pyarrow.parquet as pq

from pivottrace.experiments.definition import load_experiment
from pivottrace.ingest import read_questions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, nargs="?", default=Path("bench/headline.toml"))
    experiment = load_experiment(parser.parse_args().file)
    truth = {
        seed: _answers(experiment.base_config(seed).pool.questions) for seed in experiment.seeds
    }
    print("| arm | all | " + " | ".join(map(str, experiment.seeds)) + " |")
    print("|---|---|" + "---|" * len(experiment.seeds))
    for arm in experiment.arms:
        cells, right, total = [], 0, 0
        for seed in experiment.seeds:
            path = experiment.run_path(arm.name, seed) / "rounds" / "00" / "triage.parquet"
            if not path.is_file():
                cells.append("–")
                continue
            rows = pq.read_table(path, columns=["question_id", "route", "pseudo_label"]).to_pylist()
            weak = [row for row in rows if row["route"] == "weak"]
            good = sum(row["pseudo_label"] == truth[seed][row["question_id"]] for row in weak)
            cells.append(f"{good} of {len(weak)}")
            right, total = right + good, total + len(weak)
        print(f"| {arm.title} | {right} of {total} | {' | '.join(cells)} |")


def _answers(source: str) -> dict[str, str]:
    # The truth, independent of the pool's labels.
    source = re.sub(r"(?<=[?&])noise=[^&]*", "noise=0", source)
    table = read_questions(source, column_map={}, split=None, limit=None)
    return dict(zip(table["id"].to_pylist(), table["answer"].to_pylist(), strict=True))


if __name__ == "__main__":
    main()

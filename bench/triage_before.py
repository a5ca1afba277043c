"""How good were the routes of an earlier commit? Its arms, beside the arms of `triage_quality.py`.

    python bench/triage_before.py [--commit 5851f10] [--seeds 40-49] [--presets default ...]
                                  [--model FOLDER]

The commit's own code calibrates and routes, in a worktree and processes of its own, with its own
default settings. It takes over the rollouts of the base run of `triage_quality.py` (16 samples of
every question), so both codes know the same samples. This code then measures the routes, and the
report of `triage_quality.py` shows them as the arms `today` and `today-consistency`. The base runs
must exist.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq

from pivottrace.experiments.definition import Experiment, load_experiment
from pivottrace.experiments.forking import link
from pivottrace.labels.budget import allowed_labels
from pivottrace.run.directory import RunDir
from triage_quality import (
    FILE,
    PRESETS,
    Fresh,
    figures_of,
    is_measured,
    of_model,
    of_preset,
    read_fresh,
    seeds_in,
    store,
)

COMMIT = "5851f10"  # the last one before triage by expected gains
ARMS = {"today": "pivots", "today-consistency": "consistency"}
ROLLOUTS = ("rollouts_greedy", "rollouts_sampled")
EXPERIMENT = """
[experiment]
name = "before"
output = "{output}"
seeds = [{seed}]
reference = "today"
[base.model]
path = "{model}"
[base.pool]
questions = "{questions}"
evaluation = "world:default?split=evaluation&num=8&seed={seed}"
[base.labels]
source = "oracle"
budget = {budget}
[base.rollouts]
max_new_tokens = {max_new_tokens}
batch_size = {batch_size}
"""
ARM = """
[[arms]]
name = "{name}"
score.estimator = "{estimator}"
"""
# Runs with the commit's package. Its base has the rollouts already.
MAKE = """
import sys
from pathlib import Path
from pivottrace.experiments.definition import load_experiment
from pivottrace.experiments.forking import fork
from pivottrace.pipeline import run_step
from pivottrace.run.directory import RunDir

experiment, seed = load_experiment(Path(sys.argv[1])), int(sys.argv[2])
base = RunDir.create(experiment.base_config(seed))
with base.locked():
    for stage in ("pool", "rollout", "trace", "score"):
        run_step(base, stage)
for arm in experiment.arms:
    run = fork(experiment, arm, seed)
    with run.locked():
        for stage in ("calibrate", "triage"):
            run_step(run, stage)
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--commit", default=COMMIT)
    parser.add_argument("--presets", nargs="+", default=list(PRESETS), choices=PRESETS)
    parser.add_argument("--seeds", default="40-49", help="for instance 40-49, or 60")
    parser.add_argument("--model", type=Path, help="as in triage_quality.py")
    options = parser.parse_args()
    experiment = load_experiment(FILE)
    code = experiment.output / f"commit-{options.commit}"
    if not code.is_dir():
        add = ["git", "worktree", "add", "--detach", str(code), options.commit]
        subprocess.run(add, check=True)
    experiment = of_model(experiment, options.model)
    for seed in seeds_in(options.seeds):
        for preset in options.presets:
            measure_pool(of_preset(experiment, preset), preset, seed, code)


def measure_pool(experiment: Experiment, preset: str, seed: int, code: Path) -> None:
    """Let the commit's code route a pool, unless its results exist, and measure the routes."""
    if all(is_measured(experiment, name, preset, seed) for name in ARMS):
        return
    base = RunDir.open(experiment.base_config(seed).output)
    output = (experiment.output / "before").resolve()
    theirs = output / "runs" / f"before-{seed}" / "rounds" / "00"
    for name in ROLLOUTS:
        if not (theirs / name).exists():
            link(base.part_path(name, 0).parent, theirs / name)
    file = output / f"{seed}.toml"
    rollouts = base.config.rollouts
    head = EXPERIMENT.format(
        output=output,
        seed=seed,
        model=base.config.model.path,
        questions=base.config.pool.questions,
        budget=base.config.labels.budget,
        max_new_tokens=rollouts.max_new_tokens,
        batch_size=rollouts.batch_size,
    )
    arms = [ARM.format(name=name, estimator=estimator) for name, estimator in ARMS.items()]
    file.write_text(head + "".join(arms))
    environment = os.environ | {"PYTHONPATH": str(code.resolve() / "src")}
    command = [sys.executable, "-c", MAKE, str(file), str(seed)]
    subprocess.run(command, check=True, env=environment)
    fresh, budget = read_fresh(base), allowed_labels(base)
    for name in ARMS:
        made = output / "runs" / f"{name}-{seed}" / "rounds" / "00"
        store(experiment, name, preset, seed, figures_in(made, budget, fresh))
        print(f"{preset} {seed} {name}", flush=True)


def figures_in(made: Path, budget: int, fresh: Fresh) -> dict[str, object]:
    """The figures of the routes in a round's folder; every arm took all samples."""
    rows = pq.read_table(made / "triage.parquet").to_pylist()
    probes = pq.read_table(made / "probes.parquet")["question_id"].to_pylist()
    return figures_of(rows, probes, budget, fresh) | {"tokens": 1.0}


if __name__ == "__main__":
    main()

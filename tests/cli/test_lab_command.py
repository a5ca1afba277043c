"""`pivottrace lab` through the real command: killed and gone on with, a failing arm, the report."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pivottrace.cli import main
from pivottrace.experiments.running import CHILD
from pivottrace.run.directory import RunDir

EXPERIMENT = """
[experiment]
name = "tiny"
output = "{folder}/tiny"
seeds = [3]
reference = "full"
compare = [["half", "full"]]
cluster_by = "expression"
also_evaluate.journeys = "world:default?split=held_out&num=4&seed={{seed}}"

[base]
pool.questions = "world:default?num=6&seed={{seed}}"
pool.evaluation = "world:default?split=evaluation&num=3&seed={{seed}}"
labels = {{ source = "oracle", budget = 0.5 }}
rollouts = {{ num_samples = 2, max_new_tokens = 96 }}

[base.train]
steps = 1
questions_per_step = 2
num_generations = 2
learning_rate = 1e-4
max_new_tokens = 96
evaluate_steps = 1
evaluate_limit = 2

[[arms]]
name = "full"
title = "all labels"
own_rollouts = false
labels.budget = 1.0
calibrate.num_probes = 0
triage = {{ mode = "fixed", annotate_fraction = 1.0, discard_fraction = 0.0 }}

[[arms]]
name = "broken"
calibrate.num_probes = 5

[[arms]]
name = "half"
score.estimator = "random"
calibrate.num_probes = 0
triage = {{ mode = "fixed", annotate_fraction = 0.5, discard_fraction = 0.0 }}
"""


def wait_for(path: Path, process) -> None:
    until = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None and time.monotonic() < until, f"{path} did not appear"
        time.sleep(0.05)


@pytest.mark.slow
def test_an_experiment_killed_and_gone_on_with(tmp_path, capfd):
    file = tmp_path / "tiny.toml"
    file.write_text(EXPERIMENT.format(folder=tmp_path))
    output = tmp_path / "tiny"
    arms = output / "results" / "arms"

    line = [sys.executable, "-c", CHILD, "lab", "run", str(file)]
    process = subprocess.Popen(line, start_new_session=True)
    wait_for(output / "logs" / "full-3.log", process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert [path.name for path in arms.iterdir()] == ["before-3.json"]
    base = output / "runs" / "before-3"
    written = {path: path.stat().st_mtime_ns for path in base.rglob("*.parquet")}
    assert written

    # The second arm asks for more probes than its budget of three has labels.
    capfd.readouterr()
    assert main(["lab", "run", str(file)]) == 1
    printed = capfd.readouterr()
    assert "full" in printed.out and "accuracy" in printed.out and "broken" in printed.out
    assert "1 of 3 jobs failed" in printed.err
    assert "broken, seed 3: calibrate.num_probes = 5 is more than the 3 labels" in printed.err
    assert f"all of it: {output / 'logs' / 'broken-3.log'}" in printed.err
    assert written == {path: path.stat().st_mtime_ns for path in base.rglob("*.parquet")}

    full = json.loads((arms / "full-3.json").read_text())
    assert (full["labels"], full["steps"], full["rows"]) == (6, 1, {"annotate": 6, "weak": 0})
    assert len(full["num_correct"]) == 3 and full["num_samples"] == 4
    assert full["curve"]["step"] == [0, 1] and full["curve"]["questions"] == 2
    assert full["curve"]["training_tokens"][0] == 0 < full["curve"]["training_tokens"][1]
    half = json.loads((arms / "half-3.json").read_text())
    assert (half["labels"], half["rows"]["annotate"]) == (3, 3)
    assert half["rows"]["weak"] <= 3  # without those whose two samples tie
    # The fork shares the base's very files, and has begun where the base ended.
    fork = RunDir.open(output / "runs" / "half-3")
    assert (fork.path / "pool.parquet").samefile(base / "pool.parquet")
    assert fork.seconds().get("trace", 0.0) < 0.5

    # The further questions: the same models, what each was made with, and nothing trained anew.
    elsewhere = output / "results" / "journeys" / "arms"
    assert {p.name for p in elsewhere.iterdir()} == {"before-3.json", "full-3.json", "half-3.json"}
    further = json.loads((elsewhere / "half-3.json").read_text())
    assert further["config"]["pool"]["evaluation"].endswith("split=held_out&num=4&seed=3")
    assert further["config"]["model"] == half["config"]["model"]
    assert further["config"]["train"] == half["config"]["train"]
    assert len(further["num_correct"]) == 4
    journeys = RunDir.open(output / "journeys" / "runs" / "half-3")
    assert Path(journeys.config.model.path) == fork.round_path / "train" / "model"

    # Again, without the broken arm: nothing is left to do.
    assert main(["lab", "run", str(file), "--arms", "full,half"]) == 0
    assert "has its result" in capfd.readouterr().out
    # Questions that were asked for later are put to the model that is there.
    (elsewhere / "half-3.json").unlink()
    weights = fork.round_path / "train" / "model" / "model.safetensors"
    trained = weights.stat().st_mtime_ns
    assert main(["lab", "run", str(file), "--arms", "full,half"]) == 0
    assert json.loads((elsewhere / "half-3.json").read_text()) == further
    assert weights.stat().st_mtime_ns == trained
    assert main(["lab", "report", str(file)]) == 0
    page = (output / "results" / "tiny.md").read_text()
    assert "| all labels | 1 | 100.0 % |" in page and "| half | 1 | 50.0 % |" in page
    assert "Not finished: `broken`, seeds 3." in page
    assert "| half | all labels | 1 |" in page and "the same expression" in page
    figures = json.loads((output / "results" / "tiny.json").read_text())
    right = sum(half["num_correct"]) - sum(full["num_correct"])
    assert figures["arms"]["half"]["difference"]["mean"] == pytest.approx(right / 12, abs=1e-6)
    assert figures["arms"]["full"]["tokens"]["own"] == 0 < figures["arms"]["half"]["tokens"]["own"]
    assert figures["elsewhere"]["journeys"]["arms"]["half"]["seeds"] == [3]
    assert "## On journeys" in page and page.count("| half | all labels | 1 |") == 2
    for name in ("tiny-labels.svg", "tiny-curves.svg", "tiny-journeys-labels.svg"):
        assert "<svg" in (output / "results" / name).read_text()


@pytest.mark.slow
def test_every_rival_trains(tmp_path):
    source = Path(__file__).parents[2] / "bench" / "rivals.toml"
    file = tmp_path / "rivals.toml"
    file.write_text(source.read_text().replace('"runs/rivals"', f'"{tmp_path}/rivals"'))
    assert main(["lab", "run", str(file), "--processes", "2"]) == 0
    assert main(["lab", "report", str(file)]) == 0
    figures = json.loads((tmp_path / "rivals" / "results" / "rivals.json").read_text())
    assert not figures["missing"]
    arms = figures["arms"]
    assert arms["full"]["labels"] == 12 and arms["ttrl"]["labels"] == 0
    assert all(arm["labels"] <= 6 for name, arm in arms.items() if name != "full")
    curves = {name: arm["curve"]["step"] for name, arm in arms.items()}
    assert curves.pop("label-refinement") == [0, 4, 6], "one pass more"
    assert all(steps == [0, 4] for steps in curves.values())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give run or report, then a file"),
        (["walk", "x.toml"], "give run or report, then a file"),
        (["run", "{file}", "--processes", "3"], "--processes 3: give 1 or 2"),
        (["run", "{file}", "--seeds", "a"], "--seeds a: give whole numbers"),
        (["run", "{file}", "--arms", "ful"], "no arm 'ful'. The nearest one is 'full'"),
        (["run", "nowhere.toml"], "nowhere.toml: no such file"),
    ],
)
def test_wrong_words_are_refused(tmp_path, capsys, arguments, message):
    file = tmp_path / "tiny.toml"
    file.write_text(EXPERIMENT.format(folder=tmp_path))
    assert main(["lab", *(word.format(file=file) for word in arguments)]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "tiny").exists()


def test_a_report_without_the_reference_says_how_to_get_it(tmp_path, capsys):
    file = tmp_path / "tiny.toml"
    file.write_text(EXPERIMENT.format(folder=tmp_path))
    assert main(["lab", "report", str(file)]) == 1
    assert f"pivottrace lab run {file} --arms full" in capsys.readouterr().err

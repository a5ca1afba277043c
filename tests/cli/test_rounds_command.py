"""Two small rounds through the real command, and the same after a kill between them."""

import hashlib
import signal
import subprocess
import sys
import time

import pytest

from pivottrace.cli import main
from pivottrace.labels import budget
from pivottrace.run.directory import RunDir

pytestmark = pytest.mark.slow


def arguments(output):
    return [
        "run",
        "--output",
        str(output),
        "--questions",
        "world:default?num=24&seed=3",
        "--evaluation",
        "world:default?split=evaluation&num=6",
        "--labels.source",
        "oracle",
        "--budget",
        "0.5",
        "--calibrate.num-probes",
        "6",
        "--triage.most-rows",
        "24",
        "--rollouts.num-samples",
        "4",
        "--rollouts.max-new-tokens",
        "128",
        "--rollouts.part-size",
        "12",
        "--train.steps",
        "3",
        "--train.questions-per-step",
        "4",
        "--train.num-generations",
        "4",
        "--train.max-new-tokens",
        "128",
        "--train.learning-rate",
        "1e-4",
        "--rounds.num",
        "2",
    ]


def digests(folder):
    """Of every table and of the trained models; reports and timings have seconds in them."""
    paths = [*folder.rglob("*.parquet"), *folder.rglob("model.safetensors")]
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in paths
    }


def test_two_rounds_and_the_same_after_a_kill_between_them(tmp_path, capsys):
    assert main(arguments(tmp_path / "whole")) == 0
    printed = capsys.readouterr().out
    assert "held-out" in printed and "95 % interval" in printed
    assert f"model       {tmp_path / 'whole' / 'rounds' / '01' / 'train' / 'model'}" in printed

    run = RunDir.open(tmp_path / "whole")
    first, second = run.in_round(0), run.in_round(1)
    facts = [view.stage_facts("triage") for view in (first, second)]
    # 12 labels, 6 of them probes, and half of the others in each round.
    assert facts[0]["labels_planned"] <= 9
    assert facts[0]["labels_planned"] <= facts[1]["labels_planned"] <= 12
    assert len(budget.bought(run)) == facts[1]["labels_planned"]
    assert sum(facts[1]["moves"].values()) == 24
    trained = [view.stage_facts("train") for view in (first, second)]
    assert [view.get("steps") for view in trained if view["trained"]] == [2, 1]
    models = [view.stage_facts("greedy")["model_digest"] for view in (first, second)]
    assert models[0] != models[1]
    assert "Moves between the rounds" in (run.path / "report.html").read_text()
    assert main(["status", str(run.path)]) == 0
    assert "moves since round 0: " in capsys.readouterr().out

    killed = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-m", "pivottrace.cli", *arguments(killed)], stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 300
    reached = killed / "rounds" / "01" / "rollouts_greedy" / "part-00000.parquet"
    while not reached.is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not RunDir.open(killed).in_round(1).is_done("trace")
    assert main(["status", str(killed)]) == 0
    assert "round 1 (the first is 0) of 2" in capsys.readouterr().out
    assert main(["run", str(killed)]) == 0
    assert digests(killed) == digests(run.path)

"""The list of stages, and what status and report leave untouched."""

import pytest

from pivottrace import pipeline
from pivottrace.cli import main
from pivottrace.commands.status import describe
from pivottrace.errors import ConfigError
from pivottrace.labels import intake
from pivottrace.labels.store import Given
from pivottrace.pipeline import command_of, run_all, run_step, stages_of, unfinished
from pivottrace.report import build_report
from pivottrace.run.directory import RunDir


def test_until_train_without_training_says_what_to_do(make_run):
    run = make_run(train={"enabled": False})
    with pytest.raises(ConfigError, match=r"train\.enabled is false.*--until label"):
        run_all(run, "train")
    assert not run.is_done("pool")


def test_a_stop_in_the_middle_of_a_run_begins_no_further_round(make_run, monkeypatch):
    """No label is bought for a round that will not train."""
    done = []

    def run_step(run, name):
        done.append((run.round_index, name))
        if name == "train":
            run.mark_done("train", trained=True, stopped="step 2: votes")

    monkeypatch.setattr(pipeline, "run_step", run_step)
    monkeypatch.setattr(pipeline, "write_report", lambda run: None)
    run_all(make_run(rounds={"num": 3}))
    assert [name for index, name in done if name == "train"] == ["train"]
    assert {index for index, _ in done} == {0} and done[-1] == (0, "evaluate_after")


def test_a_finished_stage_is_not_announced(make_run, capsys):
    run = make_run()
    for expected in ("· pool\n", ""):
        run_step(run, "pool")
        assert capsys.readouterr().err == expected


def test_one_command_stands_for_both_evaluations():
    assert stages_of("evaluate") == ("evaluate_before", "evaluate_after")
    assert stages_of("train") == ("train",)
    assert [command_of(stage) for stage in ("train", "evaluate_before", "evaluate_after")] == [
        "train",
        "evaluate",
        "evaluate",
    ]


def test_the_second_evaluation_waits_for_training(make_run, monkeypatch):
    done = []
    monkeypatch.setattr(pipeline, "run_step", lambda run, name: done.append(name))
    run = make_run()
    pipeline.run_command(run, "evaluate")
    assert done == ["evaluate_before"]
    run.mark_done("train", trained=True)
    pipeline.run_command(run, "evaluate")
    assert done[1:] == ["evaluate_before", "evaluate_after"]


@pytest.mark.parametrize(
    ("enabled", "until", "last"),
    [
        (True, None, (0, "evaluate_after")),
        (True, "evaluate", (0, "evaluate_after")),
        (True, "label", (0, "label")),
        (False, None, (0, "triage")),
        (False, "evaluate", (0, "evaluate_before")),
    ],
)
def test_the_last_step_is_the_last_stage_of_the_command_that_is_asked_for(
    make_run, enabled, until, last
):
    assert list(pipeline.steps(make_run(train={"enabled": enabled}), until))[-1] == last


def test_until_takes_commands_and_no_stage_that_is_none(make_run):
    with pytest.raises(ConfigError, match=r"--until evaluate_before: not one of pool, .*evaluate"):
        run_all(make_run(), "evaluate_before")


def snapshot(run):
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in run.path.rglob("*")}


def test_status_writes_nothing_and_report_only_its_report(make_run):
    run = make_run()
    run_step(run, "pool")
    intake.open_store(run).add_many([Given("a question", "7", "oracle", "probe")])
    before = snapshot(run)
    assert "labels: 1 of 12 allowed" in list(describe(RunDir.open(run.path)))
    assert snapshot(run) == before
    build_report(RunDir.open(run.path), unfinished(run))
    changed = {path.name for path, state in snapshot(run).items() if before.get(path) != state}
    assert changed == {"report.html"}


def test_status_counts_labels_while_the_store_is_open(make_run):
    import sqlite3

    run = make_run()
    run_step(run, "pool")
    intake.open_store(run).add_many([Given("a question", "7", "oracle", "probe")])
    with sqlite3.connect(run.path / "labels.sqlite") as writer:
        writer.execute("UPDATE answers SET answer = '8'")
        writer.commit()
        assert (run.path / "labels.sqlite-wal").exists()
        assert "labels: 1 of 12 allowed" in list(describe(RunDir.open(run.path)))
    writer.close()


def test_resuming_under_other_versions_is_told_once(make_run, capsys):
    run = make_run()
    run.update_manifest(versions=run.manifest["versions"] | {"torch": "1.0", "trl": "0.1"})
    assert main(["run", str(run.path), "--until", "pool"]) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "was begun with" in line]
    assert len(told) == 1 and "torch 1.0 (now " in told[0] and "trl 0.1 (now " in told[0]

"""What `redo` takes away with the stages that it forgets, and what it leaves."""

import json
import shutil
from fnmatch import fnmatch

import pyarrow as pa
import pytest
from report_run import make_run

from pivottrace.cli import main
from pivottrace.commands.redo import FROM, redo
from pivottrace.run.directory import RunDir
from pivottrace.schemas import EVIDENCE

PLAN = {f"rounds/00/plan.{kind}" for kind in ("parquet", "csv", "json", "svg")}
# What goes with each command, and with those that follow it.
GONE = {
    "evaluate": {"rounds/00/evaluation_after.parquet", "report.html", "view/*"},
    "train": {"rounds/00/training_rows.parquet", "rounds/00/train/*"},
    "calibrate": {
        "rounds/00/calibration.parquet",
        "rounds/00/evidence.parquet",
        "rounds/00/labelled.parquet",
        "rounds/00/ranking.parquet",
        "rounds/00/triage.parquet",
        "rounds/00/vote_model.json",
        "rounds/00/flows.parquet",
        "rounds/00/routes/*",
        "export/*",
        "audit.csv",
        *PLAN,
    },
}
# Files that the made-up run lacks: of other stages, of people, and of nobody.
ADDED = (
    "annotate_to_label.csv",
    "my-notes.txt",
    "rounds/00-backup/triage.parquet",
    "rounds/00/flows.parquet",
    "rounds/00/ranking.parquet",
    "rounds/00/rollouts_truth/part-00000.parquet",
    "rounds/00/train/tensorboard/events",
    "rounds/00/training_rows.parquet",
    "rounds/00/truth.parquet",
    "reference.json",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run with a file of every kind that docs/run-directory.md names."""
    run = make_run(tmp_path_factory.mktemp("whole") / "run")
    for command in (
        ["plan"],
        ["audit"],
        ["report"],
        ["view", "q-0003"],
        ["export", "--to", "jsonl"],
    ):
        assert main([command[0], str(run.path), *command[1:]]) == 0
    assert main(["export", str(run.path), "--to", "parquet"]) == 0
    for name in set(ADDED) - files_of(run):
        (run.path / name).parent.mkdir(parents=True, exist_ok=True)
        (run.path / name).write_text("")
    return run


@pytest.fixture
def run(finished, tmp_path):
    return RunDir.open(shutil.copytree(finished.path, tmp_path / "run"))


def files_of(run):
    found = {p.relative_to(run.path).as_posix() for p in run.path.rglob("*") if p.is_file()}
    return {name for name in found if not name.rpartition("/")[2].startswith(".")}


@pytest.mark.parametrize("command", FROM)
def test_what_shows_a_forgotten_stage_goes_with_it_and_nothing_else(run, command, capsys):
    before = files_of(run)
    patterns = set().union(*(GONE[name] for name in FROM[FROM.index(command) :]))
    going = {name for name in before if any(fnmatch(name, pattern) for pattern in patterns)}
    assert all(any(fnmatch(name, pattern) for name in going) for pattern in patterns)
    assert main(["redo", str(run.path), command]) == 0
    assert before - files_of(run) == going and files_of(run) <= before
    told = capsys.readouterr().out
    removed = told.splitlines()[1].removeprefix("removed with them: ").split(", ")
    assert {"report.html", "view"} <= set(removed)
    assert (set(removed) >= PLAN | {"audit.csv", "export/jsonl"}) == (command == "calibrate")
    assert told.splitlines()[-1] == f"next: pivottrace run {run.path}"


def test_an_export_that_somebody_changed_stays_and_is_named(run, capsys):
    checkpoint = run.path / "export" / "jsonl" / "checkpoint.bin"
    checkpoint.write_text("of the user's trainer")
    assert main(["redo", str(run.path), "calibrate"]) == 0
    assert checkpoint.is_file() and not (run.path / "export" / "parquet").exists()
    assert "export/jsonl stays, and has the routes of before: checkpoint.bin was added" in (
        capsys.readouterr().out
    )


def test_a_redone_training_takes_what_shows_later_rounds(run):
    later = run.in_round(1)
    later.write_table("evidence", pa.Table.from_pylist([], schema=EVIDENCE))
    later.mark_done("calibrate", num_probes=0)
    record = run.path / "export" / "jsonl" / "export.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"round": 1}))
    forgotten = redo(run, "train")
    assert forgotten.beside == ["audit.csv", "report.html", "view", "export/jsonl", "rounds/01"]
    assert not (run.path / "rounds" / "01").exists() and files_of(run) >= PLAN


def test_a_label_correction_says_what_goes_too(run, capsys):
    probe = run.read_table("evidence", made_by="calibrate")["question_id"][0].as_py()
    correct = ["label", "correct", str(run.path), probe, "9999"]
    capsys.readouterr()
    assert main(correct) == 2
    assert "Files that show their results go: rounds/00/plan.parquet" in capsys.readouterr().err
    assert (run.path / "audit.csv").is_file()
    assert main([*correct, "--redo"]) == 0
    assert capsys.readouterr().out.startswith("removed with them: rounds/00/plan.parquet")
    assert not (run.path / "audit.csv").exists()


def test_a_folder_with_files_of_somebody_else_only_loses_the_pages(run):
    notes = run.path / "view" / "questions" / "notes.txt"
    notes.write_text("of the user")
    pages = {name for name in files_of(run) if name.startswith("view/")} - {
        "view/questions/notes.txt"
    }
    forgotten = redo(run, "train")
    assert pages and pages <= set(forgotten.beside) and notes.is_file()
    assert not pages & files_of(run)


def test_a_training_on_another_disk_is_forgotten_with_its_link(run, tmp_path):
    train, disk = run.round_path / "train", tmp_path / "disk"
    shutil.move(train, disk)
    train.symlink_to(disk)
    redo(run, "train")
    assert not disk.exists() and not train.is_symlink()


def test_settings_that_the_pool_cannot_have_are_refused_before_a_stage_is_forgotten(run, capsys):
    before, record = files_of(run), (run.path / "manifest.json").read_text()
    for flags, words in (
        (["--labels.budget", "1000"], "is more than the pool's"),
        (["--labels.budget", "2"], "are bought already"),
        (["--calibrate.num-probes", "40", "--labels.budget", "30"], "Nothing was changed"),
    ):
        for command in (["redo", str(run.path), "calibrate"], ["run", str(run.path)]):
            assert main([*command, *flags]) != 0
            refusal = capsys.readouterr().err
            assert words in refusal and f"pivottrace run {run.path} goes on" in refusal
            assert "pivottrace redo" not in refusal
    assert files_of(run) == before
    assert (run.path / "manifest.json").read_text() == record


def test_a_file_that_lacks_what_the_run_took_by_flags_is_told_to_go_on_with_the_run(run, capsys):
    file = run.path.parent / "my.toml"
    file.write_text((run.path / "config.toml").read_text())
    assert main(["redo", str(run.path), "calibrate", "--labels.partial", "true"]) == 0
    again = RunDir.open(run.path)
    with again.locked():
        again.begin("label")
    capsys.readouterr()
    assert main(["run", str(file), "--output", str(run.path)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[1] == "  labels.partial: was True, now False (used by label)"
    assert lines[2] == f"Either go on with the settings of the run: pivottrace run {run.path}"
    assert lines[3].endswith("in your configuration file: `partial = true` under [labels]")
    assert lines[-1].endswith(f"pivottrace redo {run.path} calibrate --labels.partial false")
    assert RunDir.open(run.path).config.labels.partial  # the run is as it was

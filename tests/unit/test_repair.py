"""Damaged files of a finished run are made again, byte for byte, by the command that is named."""

import shutil

import pytest

from pivottrace.cli import main
from pivottrace.config import parse_config
from pivottrace.errors import RunDirError, TornFileError
from pivottrace.labels import intake
from pivottrace.labels.budget import labels_of
from pivottrace.labels.store import Given
from pivottrace.pipeline import run_all
from pivottrace.run.directory import RunDir
from pivottrace.run.storage import read_json, read_parquet, write_json, write_parquet

TABLES = (
    "evaluation.parquet",
    "overlap.parquet",
    "pool.parquet",
    "reference.json",
    "rounds/00/calibration.parquet",
    "rounds/00/evaluation_before.parquet",
    "rounds/00/evidence.parquet",
    "rounds/00/probes.parquet",
    "rounds/00/rollouts_greedy/part-00001.parquet",
    "rounds/00/rollouts_sampled/part-00000.parquet",
    "rounds/00/routes/annotate.jsonl",
    "rounds/00/routes/weak.parquet",
    "rounds/00/scores.parquet",
    "rounds/00/signals/part-00000.parquet",
    "rounds/00/triage.parquet",
    "rounds/00/vote_model.json",
    "rounds/00/votes.parquet",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, one_thread):
    """A small run of two parts that has bought its labels."""
    values = {
        "output": str(tmp_path_factory.mktemp("finished") / "run"),
        "pool": {
            "questions": "world:default?num=8&seed=3",
            "evaluation": "world:default?num=2&seed=9",
        },
        "labels": {"source": "oracle", "budget": 0.5},
        "rollouts": {"num_samples": 8, "max_new_tokens": 48, "part_size": 4},
        "train": {"enabled": False},
    }
    run = RunDir.create(parse_config(values, "test"))
    run_all(run, "evaluate")
    return run


@pytest.fixture
def run(finished, tmp_path):
    shutil.copytree(finished.path, tmp_path / "run")
    return RunDir.open(tmp_path / "run")


def contents(run):
    """The bytes of every file of data, and the manifest's records."""
    ends = (".parquet", ".json", ".jsonl")
    files = [p for p in run.path.rglob("*") if p.suffix in ends and p.name != "timings.jsonl"]
    tables = {str(p.relative_to(run.path)): p.read_bytes() for p in files}
    del tables["manifest.json"]
    return tables, run.manifest["rounds"]


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_every_kind_of_file_is_made_again_and_the_run_is_as_it_was(run, capsys):
    before, labels = contents(run), (run.path / "labels.sqlite").read_bytes()
    assert set(before[0]) >= set(TABLES)
    for name in TABLES:
        cut(run.path / name)
    assert main(["run", str(run.path)]) == 1
    assert f"pivottrace repair {run.path}" in capsys.readouterr().err
    assert main(["repair", str(run.path)]) == 0
    *told, following = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in told] == sorted(TABLES)
    assert following == f"next: pivottrace run {run.path}"
    assert main(["run", str(run.path), "--until", "evaluate"]) == 0
    assert contents(run) == before
    assert (run.path / "labels.sqlite").read_bytes() == labels
    capsys.readouterr()
    assert main(["repair", str(run.path)]) == 0
    assert capsys.readouterr().out == "nothing is damaged\n"


def test_a_damaged_plan_is_planned_again(run, capsys):
    assert main(["plan", str(run.path)]) == 0
    cut(run.round_path / "plan.parquet")
    assert main(["status", str(run.path)]) == 1
    capsys.readouterr()
    assert main(["repair", str(run.path)]) == 0
    told, following = capsys.readouterr().out.splitlines()
    assert told.startswith("damaged: rounds/00/plan.parquet")
    assert following == f"next: pivottrace plan {run.path}"
    assert main(following.split()[2:]) == 0


def test_only_the_lost_part_is_sampled_again(run):
    before = contents(run)
    lost, kept = (run.part_path("rollouts_sampled", index) for index in (1, 0))
    lost.unlink()
    others = kept.stat().st_ino, (run.round_path / "triage.parquet").stat().st_ino
    with pytest.raises(TornFileError, match=r"part-00001.parquet is missing.* pivottrace repair"):
        run.read_parts("rollouts_sampled", "sample")
    assert main(["repair", str(run.path)]) == 0
    assert main(["sample", str(run.path)]) == 0
    assert contents(run) == before
    assert (kept.stat().st_ino, (run.round_path / "triage.parquet").stat().st_ino) == others


def test_a_part_that_comes_out_otherwise_is_taken_away_again(run, capsys):
    lost = run.part_path("rollouts_greedy", 1)
    copy = lost.read_bytes()
    cut(lost)
    assert main(["repair", str(run.path)]) == 0
    rounds = run.manifest["rounds"]
    rounds["0"]["greedy"]["checksums"] = {"rounds/00/rollouts_greedy": "0" * 8}
    versions = run.manifest["versions"] | {"torch": "1.0"}
    run.update_manifest(rounds=rounds, versions=versions)
    capsys.readouterr()
    assert main(["run", str(run.path)]) == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert "part-00001.parquet was made again, and it is not what it was" in message
    assert "because of torch 1.0 (now" in message and "--output" in message
    assert not lost.exists() and not run.is_done("greedy")
    lost.write_bytes(copy)


def test_a_stage_that_nothing_followed_may_come_out_otherwise(run):
    run.reopen("label", ["rounds/00/none.parquet"])
    run.mark_done("label", labels_used=4)
    assert "lost" not in run.stage_facts("label")


def test_files_of_an_older_version_are_made_again_too(run):
    rounds = run.manifest["rounds"]
    for facts in rounds["0"].values():
        facts.pop("checksums")
    run.update_manifest(rounds=rounds)
    before = contents(run)[0]
    for name in ("rounds/00/scores.parquet", "rounds/00/rollouts_greedy/part-00001.parquet"):
        cut(run.path / name)
    assert main(["repair", str(run.path)]) == 0
    assert not run.is_done("score") and not run.is_done("greedy") and run.is_done("trace")
    assert main(["run", str(run.path), "--until", "evaluate"]) == 0
    assert contents(run)[0] == before


def test_a_calibration_that_is_made_again_knows_the_answers_that_it_knew(run):
    assert main(["redo", str(run.path), "calibrate"]) == 0  # bought answers are known to it, too
    assert main(["run", str(run.path), "--until", "evaluate"]) == 0
    before = contents(run)
    assert run.read_table("labelled", made_by="calibrate").num_rows
    later = [Given(i, "no such answer", "file", "probe", "Ann") for i in labels_of(run)]
    assert len(intake.open_store(run).add_many(later).differing) == len(later)
    for name in ("labelled", "evidence", "probes"):
        cut(run.table_path(name))
    assert main(["repair", str(run.path)]) == 0
    assert main(["run", str(run.path), "--until", "evaluate"]) == 0
    assert contents(run) == before


def test_a_part_of_another_run_is_seen_although_it_is_whole(run):
    before = contents(run)
    part = run.part_path("rollouts_greedy", 0)
    write_parquet(part, read_parquet(part).slice(1))
    assert main(["repair", str(run.path)]) == 0
    assert main(["run", str(run.path), "--until", "evaluate"]) == 0
    assert contents(run) == before


def test_a_users_own_files_are_left_alone(run, capsys):
    own = [run.path / name for name in ("questions.json", "answers.parquet")]
    for path in own:
        path.write_text("[]")
    assert main(["repair", str(run.path)]) == 0
    assert capsys.readouterr().out == "nothing is damaged\n"
    assert all(path.read_text() == "[]" for path in own)


@pytest.mark.parametrize("name", ["manifest.json", "config.toml"])
@pytest.mark.parametrize("how", ["gone", "empty"])
def test_without_its_manifest_or_configuration_a_run_is_no_new_one(run, capsys, name, how):
    before = contents(run)[0]
    path = run.path / name
    path.unlink() if how == "gone" else path.write_text("")
    assert main(["run", str(run.path), "--seed", "7"]) in (1, 2)
    assert name in capsys.readouterr().err
    files = {p: p.read_bytes() for p in run.path.rglob("*.parquet")}
    assert {str(p.relative_to(run.path)): data for p, data in files.items()} == {
        name: data for name, data in before.items() if name.endswith(".parquet")
    }


def test_labels_are_never_removed(run, capsys):
    store = run.path / "labels.sqlite"
    store.write_bytes(b"x" * 4096)
    cut(run.table_path("scores"))
    assert main(["repair", str(run.path)]) == 2
    assert "labels.sqlite is damaged" in capsys.readouterr().err
    assert store.read_bytes() == b"x" * 4096 and run.table_path("scores").exists()


FORMS = {
    "rounds is a text": {"rounds": "x"},
    "rounds is a list": {"rounds": []},
    "a round is a number": {"rounds": {"0": 5}},
    "a round has no number": {"rounds": {"x": {}}},
    "a stage is a number": {"rounds": {"0": {"greedy": 5}}},
    "a stage has no settings": {"rounds": {"0": {"greedy": {}}}},
    "settings are a list": {"rounds": {"0": {"greedy": {"settings": []}}}},
    "versions are a text": {"versions": "1.0"},
    "the version is a text": {"schema_version": "one"},
}
COMMANDS = ("run", "status", "report", "repair", "plan", "audit", "greedy", "label")


def test_a_manifest_of_another_form_is_one_line(run, capsys):
    path = run.path / "manifest.json"
    whole = read_json(path)
    for form, wrong in FORMS.items():
        write_json(path, whole | wrong)
        with pytest.raises(TornFileError, match=r"manifest.json is torn \(") as caught:
            print(form, run.manifest)
        assert str(caught.value).endswith("start again in another directory (--output).")
    for command in COMMANDS:
        assert main([command, str(run.path)]) == 1
        assert capsys.readouterr().err == f"error: {caught.value}\n"


@pytest.mark.parametrize("text", ["[]", "null", "5", "{", "", '{"rounds": {}, "crc32": "0"}', "\0"])
def test_a_manifest_that_is_no_whole_object_is_one_line(run, capsys, text):
    (run.path / "manifest.json").write_text(text)
    for command in ("run", "status"):
        assert main([command, str(run.path)]) == 1
        assert "manifest.json is torn (" in capsys.readouterr().err


def test_a_manifest_of_a_newer_version_is_refused_and_an_older_one_is_read(run, capsys):
    manifest = read_json(run.path / "manifest.json")
    assert manifest["schema_version"] == 1
    write_json(run.path / "manifest.json", manifest | {"schema_version": 2})
    with pytest.raises(RunDirError, match=r"made by a newer version of .* Update pivottrace\."):
        RunDir.create(run.config)
    assert main(["status", str(run.path)]) == 1
    assert "made by a newer version of pivottrace" in capsys.readouterr().err
    del manifest["schema_version"]
    write_json(run.path / "manifest.json", manifest)
    assert main(["status", str(run.path)]) == 0
    RunDir.create(run.config)
    assert run.manifest["schema_version"] == 1

import json
import os

import pyarrow as pa
import pytest
import report_run

from pivottrace.config import parse_config
from pivottrace.errors import ConfigError, OutOfDiskError, RunDirError, TornFileError
from pivottrace.run.directory import RunDir
from pivottrace.run.part_work import run_parts
from pivottrace.run.storage import digest_file
from pivottrace.stages import calibrate, score, triage


def make(tmp_path, **sections):
    return RunDir.create(parse_config({"output": str(tmp_path / "run"), **sections}, "test"))


def test_table_round_trip_and_missing_table_names_the_command(tmp_path):
    run = make(tmp_path)
    with pytest.raises(RunDirError, match=r"pivottrace run .*run --until score"):
        run.read_table("scores", made_by="score")
    table = pa.table({"a": [1, 2]})
    run.write_table("scores", table)
    assert run.read_table("scores", made_by="score").equals(table)
    assert not list(run.round_path.glob(".*tmp"))


def test_finished_parts_are_not_repeated_and_a_torn_one_is(tmp_path):
    run, made = make(tmp_path), []

    def part(index):
        made.append(index)
        return pa.table({"i": [index]})

    run_parts(run, "signals", 3, part)
    run_parts(run, "signals", 3, part)
    assert made == [0, 1, 2]
    torn = run.part_path("signals", 2)
    torn.write_bytes(torn.read_bytes()[:-5])
    run_parts(run, "signals", 3, part)
    assert made == [0, 1, 2, 2]
    run.mark_done("trace", num_parts=3)
    assert run.read_parts("signals", "trace")["i"].to_pylist() == [0, 1, 2]


def test_parts_that_the_stage_did_not_make_and_missing_ones_are_refused(tmp_path):
    run = make(tmp_path)
    for index in range(3):
        run.write_part("signals", index, pa.table({"i": [index]}))
    run.mark_done("trace", num_parts=2)
    with pytest.raises(RunDirError, match=r"2 parts: part-00002.parquet is surplus .*Take it away"):
        run.read_parts("signals", "trace")
    run.part_path("signals", 2).unlink()
    assert len(run.read_parts("signals", "trace")) == 2
    run.part_path("signals", 0).unlink()
    with pytest.raises(TornFileError, match=r"part-00000.parquet is missing.* pivottrace repair"):
        run.read_parts("signals", "trace")


def test_parts_of_an_unfinished_stage_are_refused(tmp_path):
    run = make(tmp_path)
    run.write_part("signals", 0, pa.table({"i": [0]}))
    with pytest.raises(RunDirError, match=r"not complete.*pivottrace run .* --until trace"):
        run.read_parts("signals", "trace")


def test_changed_configuration_names_the_keys(tmp_path):
    make(tmp_path).mark_done("score")
    with pytest.raises(ConfigError) as caught:
        make(tmp_path, pivots={"percentile": 90.0, "window": 7})
    message = str(caught.value)
    assert "pivots.percentile: was 95.0, now 90.0 (used by score)" in message
    assert "pivots.window: was 10, now 7 (used by score)" in message
    assert "--output" in message


def test_what_an_interrupted_stage_keeps_binds_its_settings(tmp_path):
    run = make(tmp_path)
    run.write_table("probes", pa.table({"question_id": ["q0"]}))
    make(tmp_path, calibrate={"num_probes": 9})  # no label was bought for them yet
    make(tmp_path).begin("calibrate")
    assert not run.is_done("calibrate") and run.stage_facts("calibrate") == {}
    with pytest.raises(ConfigError, match=r"calibrate.num_probes: was None, now 9 \(used by calib"):
        make(tmp_path, calibrate={"num_probes": 9})
    run.write_part("evaluation_before", 0, pa.table({"i": [0]}))
    with pytest.raises(ConfigError, match=r"evaluate.num_samples: was 4, now 2 \(used by evaluate"):
        make(tmp_path, evaluate={"num_samples": 2})


def test_what_an_older_version_recorded_and_nothing_reads_now_binds_nobody(tmp_path):
    run = make(tmp_path)
    run.mark_done("score")
    run.mark_done("calibrate")
    rounds = run.manifest["rounds"]
    whole = run.config.model_dump(mode="json")
    rounds["0"]["score"]["settings"] = {"pivots": whole["pivots"], "score": whole["score"]}
    rounds["0"]["calibrate"]["settings"]["labels.budget"] = 0.293
    run.update_manifest(rounds=rounds)
    make(tmp_path, labels={"budget": 0.5})
    with pytest.raises(ConfigError) as caught:
        make(tmp_path, pivots={"percentile": 90.0, "reading": "onset"})
    message = str(caught.value)
    assert "pivots.percentile: was 95.0, now 90.0 (used by score)" in message
    assert "pivots.reading: was 'peak', now 'onset' (used by calibrate)" in message


def test_settings_that_an_older_version_did_not_have_were_as_their_defaults_are(tmp_path):
    run = make(tmp_path)
    run.mark_done("train")
    rounds = run.manifest["rounds"]
    used = rounds["0"]["train"]["settings"]
    del used["train"]["precision"], used["weak"]
    run.update_manifest(rounds=rounds)
    make(tmp_path)
    with pytest.raises(ConfigError, match=r"weak.reward: was 'majority', now 'token_entropy'"):
        make(tmp_path, weak={"reward": "token_entropy"})


def test_one_line_names_every_stage_that_used_a_setting(tmp_path):
    run = make(tmp_path)
    run.mark_done("score")
    run.mark_done("calibrate")
    with pytest.raises(ConfigError, match=r"seed: was 0, now 1 \(used by calibrate, score\)"):
        make(tmp_path, seed=1)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("pool", "prompt_suffix", "Think."),
        ("answers", "verifier", "exact"),
        ("rollouts", "max_new_tokens", 7),
        ("rollouts", "stop", ["x"]),
        ("rollouts", "part_size", 7),
        ("model", "dtype", "float32"),
    ],
)
def test_evaluation_is_bound_to_all_that_it_reads(tmp_path, section, key, value):
    make(tmp_path).mark_done("evaluate_before")
    with pytest.raises(ConfigError, match=rf"{section}\.{key}: was .* \(used by evaluate_before\)"):
        make(tmp_path, **{section: {key: value}})


def test_settings_of_stages_to_come_and_speed_settings_may_change(tmp_path):
    make(tmp_path).mark_done("trace")
    run = make(tmp_path, train={"steps": 3}, trace={"batch_size": 2})
    assert run.config.train.steps == 3


def test_open_takes_the_directory_from_where_it_lies(tmp_path):
    make(tmp_path).mark_done("pool", num_questions=4)
    (tmp_path / "run").rename(tmp_path / "moved")
    run = RunDir.open(tmp_path / "moved")
    assert run.path == tmp_path / "moved"
    assert run.stage_facts("pool")["num_questions"] == 4


def test_open_refuses_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(ConfigError, match="pivottrace run CONFIG"):
        RunDir.open(tmp_path)


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(RunDirError, match="file is in the way"):
        make(tmp_path)


def test_permission_and_full_disk_errors_say_what_to_do(tmp_path, monkeypatch):
    run = make(tmp_path)
    for number, words in ((13, "no permission"), (28, "disk is full")):

        def fail(*args, number=number, **kwargs):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr("pyarrow.parquet.write_table", fail)
        with pytest.raises(RunDirError, match=words):
            run.write_table("scores", pa.table({"a": [1]}))


def test_a_second_process_is_kept_out(tmp_path):
    run = make(tmp_path)
    with (
        run.locked(),
        pytest.raises(RunDirError, match="another process"),
        RunDir.open(run.path).locked(),
    ):
        pass


def test_a_process_that_is_kept_out_changes_nothing(tmp_path):
    run = make(tmp_path)
    written = (run.path / "config.toml").read_bytes(), run.manifest
    with run.locked(), pytest.raises(RunDirError, match="another process"):
        make(tmp_path, train={"steps": 3})
    assert ((run.path / "config.toml").read_bytes(), run.manifest) == written


def test_opening_writes_nothing(tmp_path):
    run = make(tmp_path)
    (run.path / ".lock").unlink()
    files = {path: path.stat().st_mtime_ns for path in run.path.rglob("*")}
    RunDir.open(run.path)
    assert {path: path.stat().st_mtime_ns for path in run.path.rglob("*")} == files


def test_manifest_has_the_digest_of_the_configuration(tmp_path):
    run = make(tmp_path)
    assert run.manifest["config_digest"] == digest_file(run.path / "config.toml")
    changed = make(tmp_path, train={"steps": 3})
    assert changed.manifest["config_digest"] == digest_file(run.path / "config.toml")


def test_other_versions_are_named(tmp_path):
    run = make(tmp_path)
    assert run.other_versions() == []
    versions = run.manifest["versions"]
    run.update_manifest(versions=versions | {"torch": "1.0", "pyarrow": "1.0"})
    run = make(tmp_path)
    assert run.other_versions() == [f"torch 1.0 (now {versions['torch']})"]


def test_timings_add_up_outside_the_tables(tmp_path):
    run = make(tmp_path)
    for _ in range(2):
        with run.timed("score"):
            pass
    lines = (run.path / "timings.jsonl").read_text().splitlines()
    assert [json.loads(line)["stage"] for line in lines] == ["score", "score"]
    assert set(run.seconds()) == {"score"}


def test_a_time_that_cannot_be_written_hides_no_error(tmp_path):
    run = make(tmp_path)
    (run.path / "timings.jsonl").mkdir()  # opening it to append is an OSError
    with pytest.raises(OutOfDiskError), run.timed("score"):
        raise OutOfDiskError("full")
    with run.timed("score"):
        pass


def test_a_torn_line_of_timings_is_left_out(tmp_path):
    run = make(tmp_path)
    with run.timed("score"):
        pass
    with (run.path / "timings.jsonl").open("a") as file:
        file.write('{"stage": "tri')
    assert set(run.seconds()) == {"score"}


def test_columns_that_an_older_version_did_not_write_are_named_with_their_stage(tmp_path):
    stages = report_run.stages_of(tmp_path / "old")
    run = next(run for stage, run in stages if stage == "trace")
    first = next(run.iter_parts("signals", "trace"))
    run.write_part("signals", 0, first.drop_columns(["log_prob", "layer_path"]))
    with pytest.raises(RunDirError) as caught:
        score.run(run)
    assert str(caught.value) == (
        f"{run.part_path('signals', 0)} has no column layer_path, log_prob: an older version of "
        f"pivottrace made it. Make the stage trace again, in another run directory (--output)."
    )
    run.write_part("signals", 0, first)
    assert [next(stages)[0] for _ in range(2)] == ["score", "sample"]
    scores = run.read_table("scores", "score")
    for stage in (calibrate, triage):
        run.write_table("scores", scores.drop_columns(["peak_count"]))
        with pytest.raises(RunDirError, match=r"no column peak_count.* Make the stage score again"):
            stage.run(run)
        run.write_table("scores", scores)
        stage.run(run)


def test_further_processes_of_a_training_write_nothing(make_run, monkeypatch):
    from pivottrace.errors import ConfigError
    from pivottrace.pipeline import run_step

    run = make_run()
    before = {p: p.read_bytes() for p in run.path.rglob("*") if p.is_file()}
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with run.locked(), run.timed("train"):  # while the first one may hold it
        run.mark_done("train", trained=True)
    assert {p: p.read_bytes() for p in run.path.rglob("*") if p.is_file()} == before
    with pytest.raises(ConfigError, match=r"pool runs in one process.*accelerate launch -m"):
        run_step(run, "pool")


def test_forgotten_files_outside_the_run_are_never_removed(make_run, tmp_path):
    run = make_run()
    (inside := run.round_path / "scores.parquet").touch()
    (outside := tmp_path / "mine.txt").touch()
    for name in ("../mine.txt", str(outside), "."):
        run.update_manifest(to_remove=["rounds/00/scores.parquet", name])
        with pytest.raises(RunDirError, match="not inside the run"):
            run.remove_forgotten()
        assert inside.exists() and outside.exists()
    run.update_manifest(to_remove=["rounds/00/scores.parquet"])
    run.remove_forgotten()
    assert not inside.exists() and outside.exists()

"""Several workers on one run: each part once, a dead worker's parts too, and the same tables."""

import subprocess
import sys
import time
from contextlib import contextmanager

import pyarrow as pa
import pytest

from pivottrace.cli import main
from pivottrace.errors import ConfigError, RunDirError
from pivottrace.run import crew as module
from pivottrace.run.crew import Crew
from pivottrace.run.directory import RunDir
from pivottrace.run.part_work import run_parts

# A worker that says which parts it makes, and takes its time with each.
WORKER = """
import sys, time
from pathlib import Path
from pivottrace.run.crew import Crew

folder, shard, seconds = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
lock = (crew := Crew.of_shard(shard)).lock(folder)

def make(index):
    print("makes", index, flush=True)
    time.sleep(seconds)

def is_written(index):
    return (folder / f"part-{index}").exists()

missing = [i for i in range(6) if not is_written(i)]
for index, _ in crew.make_parts(folder, "table", missing, make, is_written):
    (folder / f"part-{index}").touch()
print("done", flush=True)
"""


@contextmanager
def worker(folder, shard, seconds=0.05):
    command = [sys.executable, "-c", WORKER, str(folder), shard, str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def lines_of(process):
    return [line.strip() for line in process.stdout]


def test_two_workers_make_each_part_once(tmp_path):
    with worker(tmp_path, "1/2", 0.4) as first, worker(tmp_path, "2/2", 0.4) as second:
        lines = lines_of(first), lines_of(second)
    made = [line for of_worker in lines for line in of_worker if line.startswith("makes")]
    assert sorted(made) == [f"makes {i}" for i in range(6)]
    assert (lines[0][0], lines[1][0]) == ("makes 0", "makes 1")
    assert [of_worker[-1] for of_worker in lines] == ["done", "done"]


def test_the_part_of_a_killed_worker_is_taken_over_while_the_other_waits(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LOOK_AGAIN_S", 0.01)
    made, crew = [], Crew(1, 2)
    with worker(tmp_path, "1/2", 60) as other:
        assert other.stdout.readline().strip() == "makes 0"

        def make(index):
            made.append(index)
            return pa.table({"i": [index]})

        def is_written(index):
            if len(made) == 5:
                other.kill()
            return False

        parts = list(crew.make_parts(tmp_path, "table", range(6), make, is_written))
    assert made == [1, 3, 5, 2, 4, 0]
    assert [index for index, _ in parts] == made


def test_a_run_is_shared_by_workers_only(make_run):
    run = make_run()
    shared = RunDir(run.path, run.config, crew=Crew(0, 2))
    with shared.locked():
        with worker(run.path, "2/2") as other:
            assert lines_of(other)[-1] == "done"
        with pytest.raises(RunDirError, match="another process is working"), run.locked():
            pass
    with run.locked(), pytest.raises(RunDirError, match="another process"), shared.locked():
        pass


def test_other_settings_are_refused_once_a_worker_has_begun(make_run):
    run, other = make_run(), make_run(rollouts={"max_new_tokens": 100})
    run.begin("greedy")
    with pytest.raises(ConfigError, match=r"(?s)was 128, now 100.*same settings"):
        other.begin("greedy")


def test_one_worker_at_a_time_has_the_turn(make_run):
    code = (
        "import sys, pathlib, time; from pivottrace.run.crew import Crew\n"
        "with Crew(1, 2).turn(pathlib.Path(sys.argv[1])):\n"
        "    print('has it', flush=True); time.sleep(0.3)\n"
    )
    run = make_run()
    run.crew = Crew(0, 2)
    command = [sys.executable, "-c", code, str(run.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "has it\n"
        started = time.monotonic()
        with run.turn(), run.turn():  # it may be nested
            assert other.poll() is not None or time.monotonic() - started > 0.1


def test_parts_that_others_used_and_removed_are_not_made_again(make_run):
    run, made = make_run(), []
    run.crew = Crew(0, 2)
    run_parts(run, "evaluation_before", 2, made.append, is_over=lambda: True)
    assert made == []


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "a/b", "1/4/2", "-1/4"])
def test_a_shard_is_a_worker_of_a_number(text):
    with pytest.raises(ConfigError, match=rf"--shard {text}: give the worker's number"):
        Crew.of_shard(text)


@pytest.mark.parametrize(
    "arguments",
    [["run", "my.toml"], ["run", "my.toml", "--until", "triage"], ["train", "my.toml"]],
)
def test_stages_for_one_process_are_not_shared(tmp_path, monkeypatch, capsys, arguments):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.toml").write_text("seed = 1\n")
    assert main([*arguments, "--shard", "1/2"]) == 2
    assert "several workers may share greedy, trace, score, sample" in capsys.readouterr().err


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(module.fcntl, "flock", refuse)
    with pytest.raises(RunDirError, match="gives no locks"):
        Crew().lock(tmp_path)

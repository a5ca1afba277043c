"""Two workers share a pool, one is killed, and every table is that of one worker."""

import os
import signal
import subprocess
import sys
import time

import pytest

from pivottrace.run.storage import digest_file

pytestmark = pytest.mark.slow
CONFIG = """\
[pool]
questions = "world:default?num=32&seed=3"
evaluation = "world:default?num=16&seed=4"
[labels]
source = "oracle"
budget = 20
[rollouts]
num_samples = 8
max_new_tokens = 320
part_size = 4
[evaluate]
num_samples = 2
"""


def start(folder, *arguments):
    command = [sys.executable, "-m", "pivottrace", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)


def tables(run):
    return {str(p.relative_to(run)): digest_file(p) for p in sorted(run.rglob("*.parquet"))}


def test_a_killed_worker_costs_its_unfinished_part_and_no_byte(tmp_path):
    (tmp_path / "my.toml").write_text(CONFIG)
    shared, alone = tmp_path / "shared", tmp_path / "alone"
    until = ["run", "my.toml", "--until", "sample"]
    first, second = (start(tmp_path, *until, f"--output={shared}", f"--shard={i}/2") for i in "12")
    part = shared / "rounds/00/rollouts_greedy/part-00001.parquet"  # the second one's first
    while not part.exists() and second.poll() is None:
        time.sleep(0.02)
    second.send_signal(signal.SIGKILL)
    second.communicate()
    assert first.communicate()[0] is None and first.returncode == 0

    single = start(tmp_path, *until, f"--output={alone}")
    assert single.communicate() and single.returncode == 0
    assert tables(shared) == tables(alone)

    workers = [start(tmp_path, "evaluate", str(shared), f"--shard={i}/2") for i in "12"]
    assert [w.communicate() and w.returncode for w in workers] == [0, 0]
    single = start(tmp_path, "evaluate", str(alone))
    assert single.communicate() and single.returncode == 0
    assert tables(shared) == tables(alone)

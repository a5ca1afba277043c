"""A real Ray cluster of two nodes on this machine, of which one is killed among the parts.

Ray is installed into an environment that also sees the packages of this one. The test takes two
minutes on two idle cores.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from real_packages import environment

import pivottrace
from pivottrace.run.storage import digest_file

pytestmark = pytest.mark.timeout(1800)
CONFIG = """\
[pool]
questions = "world:default?num=96&seed=3"
[labels]
source = "oracle"
budget = 20
[rollouts]
num_samples = 8
max_new_tokens = 320
part_size = 8
[train]
enabled = false
"""
VARIABLES = {"RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1"}  # on loopback only


@pytest.fixture(scope="module")
def python():
    found = environment("ray", "ray==2.60.0")
    ours = [Path(pytest.__file__).parents[1], Path(pivottrace.__file__).parents[1]]
    for packages in (found.parents[1] / "lib").glob("python*/site-packages"):
        (packages / "ours.pth").write_text("".join(f"{path}\n" for path in ours))
    return found


@contextmanager
def node(python, *options):
    """A node of a cluster, in a group of processes of its own."""
    command = [python, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=1"]
    command += ["--object-store-memory=120000000", "--disable-usage-stats", *options]
    process = subprocess.Popen(
        list(map(str, command)),
        env=os.environ | VARIABLES,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        kill(process)


def kill(process):
    """Kill a node with all that it has started."""
    children = subprocess.run(["ps", "-eo", "pid=,sess="], capture_output=True, text=True).stdout
    for pid, session in (line.split() for line in children.splitlines()):
        if int(session) == process.pid:
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                continue
    process.wait()


@pytest.fixture
def cluster(python):
    """The address of a cluster of two nodes with one CPU each, and the second one's process."""
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # paths of its sockets must be short
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    head = ("--head", "--node-ip-address=127.0.0.1", f"--port={port}", f"--temp-dir={folder}")
    address = f"127.0.0.1:{port}"
    with node(python, *head, "--include-dashboard=false"):
        wait_for_nodes(python, address, 1)
        with node(python, f"--address={address}", "--node-ip-address=127.0.0.2") as second:
            wait_for_nodes(python, address, 2)
            yield address, second
    shutil.rmtree(folder, ignore_errors=True)


def wait_for_nodes(python, address, number):
    code = (
        "import ray, sys, logging, time\n"
        "ray.init(sys.argv[1], log_to_driver=False, logging_level=logging.ERROR)\n"
        "while sum(n['Alive'] for n in ray.nodes()) < int(sys.argv[2]): time.sleep(0.2)"
    )
    deadline = time.monotonic() + 120
    command = [str(python), "-c", code, address, str(number)]
    while subprocess.run(command, env=os.environ | VARIABLES, capture_output=True).returncode:
        assert time.monotonic() < deadline
        time.sleep(0.5)


def start(python, folder, *arguments):
    command = [str(python), "-m", "pivottrace", "run", "my.toml", *arguments]
    return subprocess.Popen(
        command, cwd=folder, env=os.environ | VARIABLES, stderr=subprocess.PIPE, text=True
    )


def tables(run):
    return {str(p.relative_to(run)): digest_file(p) for p in sorted(run.rglob("*.parquet"))}


def test_a_killed_node_costs_its_unfinished_part_and_no_byte(python, cluster, tmp_path):
    address, second = cluster
    (tmp_path / "my.toml").write_text(CONFIG)
    spread, alone = tmp_path / "spread", tmp_path / "alone"
    process = start(python, tmp_path, f"--output={spread}", f"--ray={address}")
    parts = spread / "rounds/00/rollouts_first"
    # Parts of two lanes: after five, both have finished one.
    while len(list(parts.glob("*.parquet"))) < 5 and process.poll() is None:
        time.sleep(0.05)
    kill(second)
    said = process.communicate()[1]
    assert process.returncode == 0, said
    assert "sampling on 2 actors" in said
    lost = [line for line in said.splitlines() if "is made again" in line]
    assert len(lost) == 1 and "1 actor is left" in lost[0], said

    single = start(sys.executable, tmp_path, f"--output={alone}")
    assert single.communicate() and single.returncode == 0
    assert tables(spread) == tables(alone)


def test_a_cluster_without_nodes_ends_the_run_and_what_is_finished_is_kept(
    python, cluster, tmp_path
):
    address, second = cluster
    (tmp_path / "my.toml").write_text(CONFIG)
    run = tmp_path / "run"
    kill(second)
    broken = CONFIG + '[model]\npath = "no/such/folder"\n'
    (tmp_path / "broken.toml").write_text(broken)
    arguments = [f"--output={tmp_path / 'other'}", f"--ray={address}"]
    process = start(python, tmp_path, *arguments, "--model.path=no/such/folder")
    said = process.communicate()[1]
    assert process.returncode and "no/such/folder" in said and "Traceback" not in said, said
    process = start(python, tmp_path, f"--output={run}", "--ray=127.0.0.1:9")
    said = process.communicate()[1]
    assert process.returncode == 2 and "no Ray cluster can be used there" in said, said
    assert not run.exists()

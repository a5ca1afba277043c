"""A program in another interpreter: its log, its end, and the folder that it holds."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from pivottrace.errors import RunDirError
from pivottrace.training.child_process import run_child

# Two processes, as a trainer has: the second does not end by itself. Both write their numbers.
PARENT = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open("pids", "w").write(f"{os.getpid()} {child.pid}")
time.sleep(600)
"""


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def wait_for(path):
    deadline = time.monotonic() + 60
    while not (path.is_file() and len(path.read_text().split()) == 2):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return [int(pid) for pid in path.read_text().split()]


def run(tmp_path, source, **variables):
    log = tmp_path / "log"
    run_child("the program", [sys.executable, "-c", source], tmp_path, log, variables)
    return log.read_text()


def test_its_output_is_added_to_the_log_and_it_gets_variables(tmp_path):
    source = "import os, sys; print(os.environ['GIVEN'], os.getcwd()); print('e', file=sys.stderr)"
    assert run(tmp_path, source, GIVEN="first") == f"first {tmp_path}\ne\n"
    assert run(tmp_path, source, GIVEN="second").startswith(f"first {tmp_path}\ne\nsecond")


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("print('fine'); import nothing.here", r"exit code 1: ModuleNotFoundError: .* (all of"),
        # Ray puts its own lines after the error.
        (
            "import sys; print('ValueError: no GPU'); print('(pid=1) more'); sys.exit(3)",
            "exit code 3: ValueError: no GPU ",
        ),
        ("import sys; sys.exit(2)", "exit code 2: it printed nothing"),
        ("import os; os.kill(os.getpid(), 9)", "exit code -9"),
    ],
)
def test_a_failure_is_one_line_with_the_last_error(tmp_path, source, told):
    with pytest.raises(RunDirError, match=told.replace("(", r"\(")) as caught:
        run(tmp_path, source)
    assert "\n" not in str(caught.value) and str(tmp_path / "log") in str(caught.value)


def test_it_and_its_processes_end_when_we_are_stopped(tmp_path):
    def stopped():
        if (tmp_path / "pids").is_file():
            raise KeyboardInterrupt

    command = [sys.executable, "-c", PARENT]
    with pytest.raises(KeyboardInterrupt):
        run_child("the program", command, tmp_path, tmp_path / "log", {}, stopped)
    pids = wait_for(tmp_path / "pids")
    deadline = time.monotonic() + 10
    while any(map(is_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_alive, pids))


def test_a_program_that_outlives_us_holds_its_folder(tmp_path):
    """We are killed without a chance to end it. A second call must not start a second training."""
    ours = (
        f"import sys; from pathlib import Path; from pivottrace.training.child_process import "
        f"run_child; run_child('the program', [sys.executable, '-c', {PARENT!r}], "
        f"Path({str(tmp_path)!r}), Path({str(tmp_path / 'log')!r}), {{}})"
    )
    we = subprocess.Popen([sys.executable, "-c", ours])
    pids = wait_for(tmp_path / "pids")
    we.kill()
    we.wait()
    try:
        told = rf"the program of an earlier call is still running \(process {pids[0]}\)"
        with pytest.raises(RunDirError, match=told):
            run(tmp_path, "print('second')")
    finally:
        os.killpg(pids[0], signal.SIGKILL)
    deadline = time.monotonic() + 60
    while True:  # the lock ends with the last process that holds it
        try:
            assert "second" in run(tmp_path, "print('second')")
            break
        except RunDirError:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_it_is_polled_while_it_runs_and_once_more_at_its_end(tmp_path):
    seen = []

    def poll():
        seen.append((tmp_path / "made").exists())

    source = "import time; time.sleep(1.2); open('made', 'w')"
    command = [sys.executable, "-c", source]
    run_child("the program", command, tmp_path, tmp_path / "log", {}, poll)
    assert seen[0] is False and seen[-1] is True and threading.active_count() < 50

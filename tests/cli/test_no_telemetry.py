"""Nothing is sent anywhere: no look-up of a name and no connection, by the command or as a library.

A child process counts its attempts by an audit hook, which Python calls before each of them. Where
the system allows it, the child has a network of its own without a way out.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pivottrace

COUNTER = """
import os, sys

EVENTS = ("socket.getaddrinfo", "socket.gethostbyname", "socket.connect", "socket.sendto")


def count(event, arguments):
    if event in EVENTS:
        with open(os.environ["ATTEMPTS"], "a") as file:
            file.write(f"{event} {arguments}\\n")


sys.addaudithook(count)
"""
SHORT_DEMO = [
    *("demo", "--output", "run", "--questions", "world:default?num=24&seed=1"),
    *("--evaluation", "world:default?split=evaluation&num=2&seed=1"),
    *("--rollouts.num-samples", "4", "--budget", "0.5", "--train.steps", "1"),
    *("--train.questions-per-step", "2", "--train.num-generations", "2"),
]
SWITCHES = (
    *("HF_HUB_DISABLE_TELEMETRY", "DISABLE_TELEMETRY", "DO_NOT_TRACK"),
    *("HF_UPDATE_DOWNLOAD_COUNTS", "HF_HUB_OFFLINE"),
)


@pytest.fixture
def attempts(tmp_path):
    """Run Python with some arguments; return its attempts to reach the network."""
    (tmp_path / "sitecustomize.py").write_text(COUNTER)
    log = tmp_path / "attempts"
    # TRL sends nothing where CI is set, so a test that keeps CI would see nothing.
    kept = {k: v for k, v in os.environ.items() if k not in ("CI", *SWITCHES)}
    package = str(Path(pivottrace.__file__).parents[1])
    alone = ["unshare", "-rn"] if shutil.which("unshare") else []
    if subprocess.run([*alone, "true"], capture_output=True).returncode:
        alone = []

    def run(*arguments, **variables):
        subprocess.run(
            [*alone, sys.executable, *arguments],
            cwd=tmp_path,
            env=kept
            | {"HOME": str(tmp_path), "HF_HOME": str(tmp_path), "ATTEMPTS": str(log)}
            | {"PYTHONPATH": os.pathsep.join([str(tmp_path), package])}
            | variables,
            capture_output=True,
            text=True,
            check=True,
            timeout=400,
        )
        return log.read_text().splitlines() if log.is_file() else []

    return run


@pytest.mark.slow
def test_the_demo_asks_nobody(attempts):
    assert attempts("-m", "pivottrace.cli", *SHORT_DEMO) == []


SEND = """
from huggingface_hub.utils import send_telemetry
from huggingface_hub.utils._telemetry import _TELEMETRY_QUEUE
send_telemetry("trl/test", library_name="trl")
_TELEMETRY_QUEUE.join()
from datasets.load import increase_load_count
increase_load_count("test")
"""


@pytest.mark.parametrize("imports", ["import pivottrace.config", "import datasets, pivottrace"])
def test_a_program_that_imports_the_package_sends_nothing(attempts, imports):
    assert attempts("-c", imports + SEND) == []


def test_a_user_who_wants_telemetry_has_it(attempts):
    """It shows too that attempts are counted. The address is this machine's own."""
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9"}
    found = attempts("-c", "import pivottrace" + SEND, HF_HUB_DISABLE_TELEMETRY="0", **nowhere)
    assert found and "127.0.0.1" in found[0]

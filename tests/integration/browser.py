"""A real Chromium, and axe-core in it, for pages that people see.

The browser is the system's. Its driver and axe-core come from pip. A test is skipped with the
reason where one of them cannot be had.
"""

import json
import os
import shutil
import subprocess
import sys

import pytest
from real_packages import environment, run_check

DRIVER = "playwright==1.65.2 axe-playwright-python==0.1.8"
NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
INSTALL = (("apt-get", "update", "-q"), ("apt-get", "install", "-y", "-q", "chromium"))
INSTALL_S = 1200


def chromium():
    """The path of a Chromium. It is installed where that needs no password."""
    found = _found()
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        for command in INSTALL:
            subprocess.run(command, capture_output=True, timeout=INSTALL_S, check=False)
        found = _found()
    if found is None:
        pytest.skip(f"no browser: install one of {', '.join(NAMES)}")
    return found


def _found():
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def in_browser(script, tmp_path, timeout=900, **facts):
    """Run a script of this folder with the driver, on a JSON file of facts; what it prints last."""
    python = environment("browser", DRIVER)
    told = tmp_path / f"{script.removesuffix('.py')}.json"
    told.write_text(json.dumps({"chromium": chromium(), **facts}))
    return run_check(python, script, told, timeout=timeout)


def server_command(run, port):
    """The command that serves the labelling page of a run, and its environment."""
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "PYTHONPATH")}
    return {
        "command": [
            *(sys.executable, "-m", "pivottrace", "label", "serve", str(run.path)),
            *("--port", str(port)),
        ],
        "environment": kept | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
    }

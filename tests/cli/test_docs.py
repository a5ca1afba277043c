"""The commands that the documentation shows are run, in order, in an empty folder for each page.

A fenced block after `<!-- file: NAME -->` is written to that file; in `console` blocks, lines that
start with `$ ` are run, and `python` blocks are run whole. A comment `# exit code N` says how a
command must end; 0 otherwise. A page's first command goes through the shell, as a reader's does;
later ones are run in this process, which has torch loaded already: that is most of their time.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from pivottrace.cli import main

DOCS = Path(__file__).parents[2] / "docs"
FENCE = re.compile(
    r"(?:<!-- file: (?P<file>\S+) -->\n)?```(?P<kind>\w*)[^\n]*\n(?P<body>.*?)```", re.S
)
RUN = re.compile(r"```(console|python)")
PAGES = sorted(page for page in DOCS.glob("*.md") if RUN.search(page.read_text()))

NEEDS = {"reasoning-gym": "reasoning_gym"}
"""Packages that a page needs, and that are no dependency of the tests."""


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_of_the_page(page, tmp_path, monkeypatch):
    if page.stem in NEEDS:
        pytest.importorskip(NEEDS[page.stem], reason=f"the page {page.stem} needs it")
    monkeypatch.chdir(tmp_path)
    commands = 0
    for fence in FENCE.finditer(page.read_text()):
        if fence["file"]:
            (tmp_path / fence["file"]).write_text(fence["body"])
        elif fence["kind"] == "python":
            commands += 1
            (tmp_path / "example.py").write_text(fence["body"])
            run_in_shell("python example.py", tmp_path)
        elif fence["kind"] == "console":
            for line in fence["body"].splitlines():
                if line.startswith("$ "):
                    commands += 1
                    run_line(line.removeprefix("$ "), tmp_path, in_shell=commands == 1)
    assert commands


def run_line(line, folder, in_shell):
    command, _, comment = line.partition("#")
    found = re.search(r"exit code (\d+)", comment)
    expected = int(found[1]) if found else 0
    program, *arguments = shlex.split(command)
    if in_shell or program != "pivottrace":
        run_in_shell(command, folder, expected)
    else:
        assert main(arguments) == expected, line


def run_in_shell(command, folder, expected=0):
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    # As many threads as the tests have: two processes that each take all cores wait for each other.
    # And the package that the tests import, if that is not the one that is installed.
    kept = ("OMP_NUM_THREADS", "PYTHONPATH")
    inherited = {k: v for k, v in os.environ.items() if k in kept}
    done = subprocess.run(
        command,
        shell=True,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=500,
        env={"PATH": path, "HOME": str(folder), "HF_HUB_OFFLINE": "1", **inherited},
    )
    assert done.returncode == expected, done.stdout + done.stderr

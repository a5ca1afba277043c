"""Real packages, each in a virtual environment of its own, installed from its registry.

The environments lie in the folder that PIVOTTRACE_INTEGRATION names, and are kept for the next run.
A test is skipped with the reason where its package cannot be installed.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import pivottrace.world

CACHE = Path(
    os.environ.get("PIVOTTRACE_INTEGRATION", Path.home() / ".cache" / "pivottrace-integration")
)
HERE = Path(__file__).parent
MODEL = Path(pivottrace.world.__file__).parent / "reasoner"
# A Python that only prints its arguments, and what it is told by the environment.
STUB = f"""#!{sys.executable}
import json, os, sys
names = ("VERL_USE_EXTERNAL_MODULES", "PYTHONPATH")
told = {{name: os.environ[name] for name in names if name in os.environ}}
print(json.dumps({{"arguments": sys.argv[1:], "environment": told}}))
"""
INSTALL_S = 3600
# A plain `verl` lacks what its trainer imports.
VERL = ("torch==2.13.0", "verl[verl-core]==0.9.1 math-verify==0.9.0")


def environment(name, *steps):
    """A virtual environment's Python.

    Args:
        name: Name of its folder.
        steps: The arguments of each `pip install`, in order. torch goes first where a package needs
            it, so that nothing pulls in another build.
    """
    folder = CACHE / name
    mark = folder / "installed.json"
    python = folder / "bin" / "python"
    if mark.is_file() and json.loads(mark.read_text()) == list(steps):
        return python
    commands = [[sys.executable, "-m", "venv", "--clear", str(folder)]]
    commands += [[str(python), "-m", "pip", "install", "--quiet", *step.split()] for step in steps]
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
            pytest.skip(f"{' '.join(command[1:])}: {reason}")
    mark.write_text(json.dumps(list(steps)))
    return python


def run_check(python, script, *arguments, timeout=900, **variables):
    """Run a script of this folder in an environment, and return the JSON that it prints last."""
    # Nothing of PivotTrace may be found there.
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PIVOTTRACE"))}
    done = subprocess.run(
        [str(python), str(HERE / script), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=clean | {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""} | variables,
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return json.loads(done.stdout.strip().splitlines()[-1])


def prompts_of(answered):
    """The prompts that every trainer gets, in pool order."""
    from pivottrace.exports.training_data import training_data

    rows = training_data(answered.run, "reward", "formatted").train
    return {row.id: row.prompt for row in rows}

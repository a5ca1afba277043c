#!/usr/bin/env bash
# verl's file of metrics loses the steps before a resume.
#
#     bash findings/verl-metrics-file.sh [PYTHON]
#
# verl goes on from its last checkpoint by default. It is expected to go on with the file of the
# logger "file" as well, and to keep the lines of the steps before. Each start opens that file anew
# and empties it, before its first step. So a training that was resumed at step 3 has no metrics of
# steps 1 and 2. It is the same with the default path and with VERL_FILE_LOGGER_PATH.
# Here verl's own Tracking is made twice, with the same names, as by two starts of its trainer.
# Measured with verl 0.9.1. Status 1: it no longer holds.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${1:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0
"$folder/venv/bin/pip" install --quiet transformers==5.10.4 tensordict==0.10.0 ray==2.60.0 \
    omegaconf==2.3.1
"$folder/venv/bin/pip" install --quiet --no-deps verl==0.9.1
cd "$folder"
CUDA_VISIBLE_DEVICES="" "$folder/venv/bin/python" - <<'PYTHON'
import json
import os
import sys
from importlib.metadata import version
from pathlib import Path

from verl.utils.tracking import Tracking


def steps_in(path):
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def train(steps, path):
    """The steps in the file of metrics when the logger is made, and at the end."""
    tracking = Tracking("my_project", "my_experiment", default_backend=["file"])
    begun = steps_in(path)
    for step in steps:
        tracking.log({"critic/score/mean": step / 10}, step)
    tracking.finish()
    return begun, steps_in(path)


def compared(name, path):
    """Whether the first training's lines are there at its end, and gone at the resume."""
    first, resumed = train((1, 2), path), train((3, 4), path)
    print(f"{name}: the first training ends with steps {first[1]} in the file")
    print(f"  the resume begins: expected [1, 2], real {resumed[0]}")
    print(f"  the resume ends: expected [1, 2, 3, 4], real {resumed[1]}")
    return first[1] == [1, 2] and resumed == ([], [3, 4])


print(f"verl {version('verl')}")
holds = compared("default path", Path("my_project/my_experiment.jsonl"))
os.environ["VERL_FILE_LOGGER_PATH"] = "metrics.jsonl"
holds &= compared("VERL_FILE_LOGGER_PATH", Path("metrics.jsonl"))
sys.exit(not holds)
PYTHON

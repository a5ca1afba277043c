"""Fixtures that several test files share."""

import os
from pathlib import Path

import pytest

# The command line sets this before libraries are imported. Here a test may have imported them.
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

from pivottrace.config import parse_config
from pivottrace.run.directory import RunDir


@pytest.fixture
def gsm8k() -> Path:
    """The 1,319 test questions of GSM8K, where the checkout has them."""
    path = Path(__file__).parents[2] / "shared" / "data" / "gsm8k" / "test.jsonl"
    if not path.is_file():
        pytest.skip(f"GSM8K's test questions are not beside this checkout, at {path}")
    return path


@pytest.fixture
def make_run(tmp_path):
    """Make a run directory on the embedded world, small enough for a test."""

    def make(name: str = "run", **sections) -> RunDir:
        values = {
            "output": str(tmp_path / name),
            "pool": {"questions": "world:default?num=24&seed=3"},
            "labels": {"source": "oracle", "budget": 0.5},
            "rollouts": {"num_samples": 4, "max_new_tokens": 128, "part_size": 8},
            "train": {"steps": 2, "max_new_tokens": 128, "learning_rate": 1e-4},
        }
        for section, changes in sections.items():
            values[section] = {**values.get(section, {}), **changes}
        return RunDir.create(parse_config(values, "test"))

    return make

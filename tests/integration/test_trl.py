"""An export is read, rewarded and trained on by the real TRL."""

import json
import os
import subprocess
import sys

import pytest
from real_packages import MODEL, environment, prompts_of, run_check


@pytest.fixture(scope="module")
def python():
    return environment(
        "trl",
        "torch==2.13.0",
        "trl==1.16.0 transformers==5.23.0 math-verify[antlr4_13_2]==0.9.0 jinja2",
    )


def test_rows_prompts_and_rewards_are_ours(python, answered, tmp_path):
    folder, _, cases = answered.exported("trl", tmp_path / "my export")
    found = run_check(python, "check_trl.py", folder, cases, MODEL)
    assert found["rows"] == {"train": 200, "validation": 2}
    assert found["prompts"] == prompts_of(answered)
    assert found["rewards"] == {i: reward for i, (reward, _) in answered.expected().items()}
    assert found["logged"] == ["acc", "failed"]
    assert found["scale"] == "none" and found["test"] == "validation"
    assert found["learning_rate"] == answered.run.config.train.learning_rate
    print(json.dumps(found["versions"]))


def test_trl_takes_a_step_from_the_command_line(python, answered, tmp_path):
    folder, _, _ = answered.exported("trl", tmp_path / "my export")
    small = {
        "model_name_or_path": MODEL,
        "output_dir": tmp_path / "model",
        "use_cpu": "true",
        "bf16": "false",
        "max_steps": "1",
        "max_completion_length": "16",
        "per_device_train_batch_size": "8",
        "gradient_accumulation_steps": "1",
        "eval_strategy": "steps",
        "eval_steps": "1",
    }
    arguments = [word for name, value in small.items() for word in (f"--{name}", str(value))]
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PIVOTTRACE"))}
    done = subprocess.run(
        [str(python), "-m", "trl.cli.main", "grpo", "--config", "trl.yaml", *arguments],
        cwd=folder,
        env=clean | {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert "rewards/weighted_correctness/mean" in done.stdout
    assert (tmp_path / "model" / "model.safetensors").is_file()
    assert sys.executable != str(python)

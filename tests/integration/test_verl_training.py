"""`train.backend = "verl"` with the real verl, as far as a machine without a GPU can go.

verl's own code answers the probe, composes the configuration, starts Ray, reads the rows, writes a
sharded checkpoint and merges it. Only its training steps need a GPU.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tomli_w
import torch
import yaml
from real_packages import HERE, MODEL, VERL, environment
from safetensors.torch import load_file

from pivottrace.cli import main
from pivottrace.config import parse_config
from pivottrace.errors import ConfigError, RunDirError
from pivottrace.run.directory import RunDir
from pivottrace.training import verl_run
from pivottrace.training.verl_environment import VerlEnvironment, verl_environment

STEPS = 4
CALL = """
import sys
from pathlib import Path
from pivottrace.training import verl_run
from pivottrace.training.verl_environment import VerlEnvironment
environment = VerlEnvironment(Path(sys.argv[1]), {"verl": "0.9.1", "vllm": "none"}, 1)
verl_run.train(environment, sys.argv[2], Path(sys.argv[3]), lambda rows: None)
"""


@pytest.fixture(scope="module")
def python():
    return environment("verl", *VERL)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The embedded model in a folder of its own, whose name has a space."""
    return Path(shutil.copytree(MODEL, tmp_path_factory.mktemp("models") / "a model"))


@pytest.fixture
def arguments(python, model, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    values = {
        "pool": {
            "questions": "world:default?num=24&seed=3",
            "evaluation": "world:default?num=8&seed=4",
        },
        "model": {"path": str(model)},
        "rollouts": {"num_samples": 4, "max_new_tokens": 128},
        "labels": {"source": "oracle", "budget": 12},
        "triage": {"most_rows": 24},  # votes are trained on too, although the steps are few
        "weak": {"reward": "frozen_majority"},
        "alarms": {"enabled": False},
        "train": {
            "backend": "verl",
            "verl_python": str(python),
            "steps": STEPS,
            "questions_per_step": 4,
            "num_generations": 4,
            "save_steps": 2,
            "beta": 0.01,
        },
    }
    config = tmp_path / "my.toml"
    config.write_text(tomli_w.dumps(values))
    return [str(config), "--output", str(tmp_path / "my run")]


@pytest.fixture
def folder(arguments, tmp_path, capsys):
    """The folder of the training, after a run that stopped for want of a GPU."""
    assert main(["run", *arguments]) == 1
    told = capsys.readouterr().err
    assert "note: " in told and "sees no CUDA device, and verl trains on one" in told
    return tmp_path / "my run" / "rounds" / "00" / "train" / "verl"


def test_the_environment_is_told_by_verl_itself(python, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")

    def told(*words):
        train = {"backend": "verl", "verl_python": str(python), "verl_arguments": list(words)}
        return verl_environment(parse_config({"train": train}, "test").train)

    found = told("actor_rollout_ref.rollout.gpu_memory_utilization=0.4")
    assert found.versions["verl"] == "0.9.1" and found.num_gpus == 0
    assert "sees no CUDA device" in found.lacks()
    with pytest.raises(ConfigError, match=r"verl 0.9.1 says: Could not override 'trainer.stepps'"):
        told("trainer.stepps=3")


def composed(folder, *words):
    done = subprocess.run(
        [folder / "command.sh", *words, "--cfg", "job"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return yaml.safe_load(done.stdout[done.stdout.index("actor_rollout_ref:") :])


@pytest.mark.parametrize(
    "further",
    [
        (),
        ("--train.lora-rank", "4", "--train.lora-target", "q_proj, v_proj"),
        (
            "--train.micro-batch-size",
            "2",
            "--train.evaluate-steps",
            "2",
            "--train.evaluate-limit",
            "3",
        ),
    ],
    ids=["plain", "adapters", "micro-batches"],
)
def test_the_command_is_composed_by_verls_own_configuration(arguments, tmp_path, further):
    """Hydra refuses unknown keys, and values that it cannot read."""
    assert main(["run", *arguments, *further]) == 1
    folder = tmp_path / "my run" / "rounds" / "00" / "train" / "verl"
    found = composed(folder)
    actor, trainer = found["actor_rollout_ref"], found["trainer"]
    assert (trainer["total_training_steps"], trainer["save_freq"]) == (STEPS, 2)
    assert trainer["default_local_dir"] == str(folder / "checkpoints")
    assert trainer["logger"] == ["console", "file"] and trainer["experiment_name"] == "my run"
    assert found["data"]["train_files"] == str(folder / "export" / "train.parquet")
    assert found["data"]["train_batch_size"] == 4 and actor["rollout"]["n"] == 4
    assert found["data"]["max_response_length"] == 128
    assert actor["actor"]["use_kl_loss"] is True and actor["actor"]["kl_loss_coef"] == 0.01
    assert actor["actor"]["optim"]["lr"] == 1e-6
    lora = "--train.lora-rank" in further
    assert actor["model"]["lora_rank"] == (4 if lora else 0)
    assert actor["model"]["target_modules"] == (["q_proj", "v_proj"] if lora else "all-linear")
    micro = "--train.micro-batch-size" in further
    assert actor["actor"]["ppo_micro_batch_size_per_gpu"] == (2 if micro else None)
    assert actor["actor"]["use_dynamic_bsz"] is not micro
    assert (trainer["test_freq"], found["data"]["val_max_samples"]) == (
        (2, 3) if micro else (-1, -1)
    )


def test_the_trainer_starts_and_stops_at_the_missing_gpu(python, model, folder):
    """verl checks its settings, starts Ray and reads the rows. Then it looks for a GPU."""
    pretended = VerlEnvironment(python, {"verl": "0.9.1", "vllm": "none"}, 1)
    with pytest.raises(
        RunDirError, match="Total available GPUs 0 is less than total desired GPUs 1"
    ):
        verl_run.train(pretended, str(model), folder, lambda rows: None)
    log = (folder / "verl.log").read_text()
    assert "All configuration checks passed" in log
    assert "train dataset size: 14, val dataset size: 8" in log and "Total training steps: 4" in log
    assert (folder / "hydra" / ".hydra" / "overrides.yaml").is_file()


def processes_of(folder):
    """The processes whose environment names the folder: the trainer's and Ray's."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            variables = path.read_bytes()
        except OSError:
            continue
        if f"VERL_FILE_LOGGER_PATH={folder}".encode() in variables:
            found.append(int(path.parent.name))
    return found


def test_ctrl_c_ends_the_trainer_and_all_of_ray(python, model, folder):
    ours = subprocess.Popen([sys.executable, "-c", CALL, str(python), str(model), str(folder)])
    deadline = time.monotonic() + 600  # a busy machine imports verl for minutes
    log = folder / "verl.log"
    while not (log.is_file() and "Started a local Ray instance" in log.read_text(errors="replace")):
        assert ours.poll() is None and time.monotonic() < deadline
        time.sleep(0.2)
    time.sleep(2)
    assert len(processes_of(folder)) > 3, "the trainer, Ray's servers and workers"
    ours.send_signal(signal.SIGINT)
    assert ours.wait(60) != 0
    deadline = time.monotonic() + 30
    while processes_of(folder) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not processes_of(folder)


@pytest.mark.parametrize("adapters", [False, True], ids=["whole", "adapters"])
def test_a_checkpoint_that_comes_back_is_merged_and_evaluated(
    python, model, arguments, tmp_path, adapters
):
    further = ["--train.lora-rank", "4", "--train.lora-alpha", "8"] if adapters else []
    assert main(["run", *arguments, *further]) == 1
    run = RunDir.open(tmp_path / "my run")
    folder = run.round_path / "train" / "verl"
    checkpoints = folder / "checkpoints"
    made = subprocess.run(
        [
            *(python, HERE / "write_verl_checkpoint.py", model, checkpoints, str(STEPS)),
            "adapters" if adapters else "whole",
        ],
        capture_output=True,
        text=True,
        env={k: v for k, v in os.environ.items() if not k.startswith("PYTHON")},
    )
    assert made.returncode == 0, made.stderr[-2000:]
    expected = torch.load(checkpoints / "expected.pt")
    start = load_file(model / "model.safetensors")
    assert main(["run", str(run.path)]) == 0

    trained = load_file(run.round_path / "train" / "model" / "model.safetensors")
    assert (
        trained.keys() == start.keys() and not (run.round_path / "train" / "lora_adapter").exists()
    )
    moved = 0.0
    for name, weights in trained.items():
        assert weights.dtype == torch.bfloat16
        # Adapters are rounded to bfloat16 before they are added up.
        assert torch.allclose(weights.float(), expected[name].float(), rtol=2**-7, atol=1e-4)
        moved = max(moved, (expected[name].float() - start[name].float()).abs().max().item())
    assert moved > 5e-4, "the checkpoint is not the start model"
    facts = run.stage_facts("train")
    assert (facts["steps"], facts["rollouts"]) == (STEPS, STEPS * 16)
    assert facts["trainer"] == "verl 0.9.1" and facts["trainer_versions"]["transformers"]
    assert facts["command"] == "rounds/00/train/verl/command.sh"
    assert run.stage_facts("evaluate_after")["figures"]["num_questions"] == 8
    assert "trainer: verl 0.9.1" in (run.round_path / "train" / "model" / "README.md").read_text()
    assert not checkpoints.exists() and (folder / "verl.log").is_file()
    assert main(["run", str(run.path)]) == 0, "and nothing is done twice"

"""Contracts with trainers that cannot be installed without accelerators, against their source.

PIVOTTRACE_SOURCES names a folder with checkouts `nemo-rl`, `skyrl` and `slime`. Nothing of them is
run but the reading of NeMo-RL's configuration.
"""

import ast
import json
import os
import re
import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from real_packages import STUB, environment, run_check

SOURCES = Path(os.environ.get("PIVOTTRACE_SOURCES", "no folder of sources"))


def source(name, path):
    """The text of a file of a checkout."""
    file = SOURCES / name / path
    if not file.is_file():
        pytest.skip(f"PIVOTTRACE_SOURCES has no {name}/{path}")
    return file.read_text(encoding="utf-8")


def told(folder, tmp_path, *words, **variables):
    """The words that `train.sh` starts its trainer with."""
    stub = tmp_path / "stub"
    stub.write_text(STUB)
    stub.chmod(0o755)
    (tmp_path / "ray").symlink_to(stub)
    clean = {"PYTHON": str(stub), "MODEL": "my/model", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        [str(folder / "train.sh"), *words],
        env=os.environ | clean | variables,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])["arguments"]


def fields_of(tree):
    """Fields of each dataclass of a file, with the annotation of each, by the class's name."""
    return {
        node.name: {
            part.target.id: ast.unparse(part.annotation)
            for part in node.body
            if isinstance(part, ast.AnnAssign)
        }
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }


def test_skyrl_knows_every_key_of_the_script(answered, tmp_path):
    classes = fields_of(ast.parse(source("skyrl", "skyrl/train/config/config.py")))
    folder, _, _ = answered.exported("skyrl", tmp_path / "out")
    entry, *words = told(folder, tmp_path, "trainer.epochs=3")
    assert entry == str(folder / "skyrl_main.py") and words[-1] == "trainer.epochs=3"
    assert len(words) > 30
    for word in words:
        kind = "SkyRLTrainConfig"
        for name in word.partition("=")[0].split("."):
            assert name in classes[kind], word
            kind = re.sub(r"^Optional\[(\w+)\]$", r"\1", classes[kind][name])


def test_skyrl_reads_the_columns_and_the_environment(answered, tmp_path):
    reader = source("skyrl", "skyrl/train/dataset/dataset.py")
    assert 'env_class_key: str = "env_class"' in reader and 'prompt_key: str = "prompt"' in reader
    folder, _, _ = answered.exported("skyrl", tmp_path / "out")
    names = pq.read_schema(folder / "train.parquet").names
    assert {"prompt", "env_class", "reward_spec", "extra_info"} <= set(names)
    base = source("skyrl", "skyrl-gym/skyrl_gym/envs/base_text_env.py")
    for name in ("class BaseTextEnv(", "class BaseTextEnvStepOutput(", "def get_metrics(self)"):
        assert name in base
    made = source("skyrl", "skyrl/train/generators/skyrl_gym_generator.py")
    assert "skyrl_gym.make(env_class, env_config=env_config, extras=env_extras)" in made
    assert "class BasePPOExp" in source("skyrl", "skyrl/train/entrypoints/main_base.py")
    tools = source("skyrl", "skyrl/train/utils/utils.py")
    assert "def validate_cfg(" in tools and "def initialize_ray(" in tools


def test_slime_knows_every_flag_of_the_script(answered, tmp_path):
    known = source("slime", "slime/utils/arguments.py")
    folder, _, _ = answered.exported("slime", tmp_path / "out")
    words = told(folder, tmp_path, "--hf-checkpoint", "my/model")
    assert words[:2] == ["job", "submit"] and words[-2:] == ["--hf-checkpoint", "my/model"]
    ours = words[words.index("train.py") + 1 : -2]
    flags = [word for word in ours if word.startswith("--")]
    of_megatron = {"--lr", "--lr-decay-style", "--lr-warmup-iters", "--weight-decay", "--clip-grad"}
    of_megatron |= {"--save-interval", "--calculate-per-token-loss", "--global-batch-size"}
    missing = [f for f in flags if f'"{f}"' not in known and f not in of_megatron]
    assert len(flags) > 20 and not missing


def test_slime_calls_the_reward_and_reads_the_columns_as_it_is_written(answered, tmp_path):
    rewards = source("slime", "slime/rollout/rm_hub/__init__.py")
    assert "return await rm_function(args, sample, **kwargs)" in rewards
    assert "return await rm_function(args, samples, **kwargs)" in rewards
    types = source("slime", "slime/utils/types.py")
    assert "self.reward[args.reward_key]" in types
    assert re.search(r"label: str \| None = None", types) and "metadata: dict" in types
    reader = source("slime", "slime/utils/data.py")
    assert "data.get(metadata_key) or {}" in reader and 'path.endswith(".parquet")' in reader
    folder, _, _ = answered.exported("slime", tmp_path / "out")
    assert pq.read_schema(folder / "train.parquet").names == ["prompt", "label", "metadata"]


def test_nemo_rl_reads_the_configuration_of_the_script(answered, tmp_path):
    config = SOURCES / "nemo-rl" / "examples" / "configs" / "grpo_math_1B.yaml"
    source("nemo-rl", "nemo_rl/utils/config.py")
    source("nemo-rl", "examples/configs/grpo_math_1B.yaml")
    python = environment("omegaconf", "hydra-core==1.3.2")
    folder, _, _ = answered.exported("nemo-rl", tmp_path / "my out, 1")
    words = told(folder, tmp_path, "policy.train_micro_batch_size=2", CONFIG=str(config))
    assert words[:3] == [str(folder / "nemo_main.py"), "--config", str(config)]
    code = SOURCES / "nemo-rl" / "nemo_rl" / "utils" / "config.py"
    found = run_check(python, "check_nemo_rl.py", code, *words[2:])
    train = answered.run.config.train
    assert found["data"]["train"]["dataset_name"] == "nemo_pivottrace.Rows"
    assert found["data"]["train"]["data_path"] == str(folder / "train.parquet")
    assert found["data"]["validation"]["data_path"] == str(folder / "validation.parquet")
    assert found["data"]["default"]["env_name"] == "pivottrace" in found["env"]
    assert found["grpo"]["adv_estimator"]["normalize_rewards"] is False
    assert found["policy"]["train_micro_batch_size"] == 2
    assert found["policy"]["optimizer"]["kwargs"]["lr"] == train.learning_rate
    warm_up = found["policy"]["scheduler"][0]
    assert warm_up["kwargs"]["total_iters"] == train.warmup_steps


def test_nemo_rl_has_the_names_that_the_parts_use():
    expected = {
        "nemo_rl/data/datasets/raw_dataset.py": ["class RawDataset", "val_dataset"],
        "nemo_rl/data/datasets/utils.py": ["def load_dataset_from_path", "def resolve_external_"],
        "nemo_rl/data/processors.py": ["def register_processor(", "extra_env_info"],
        "nemo_rl/environments/utils.py": ["def register_env(env_name: str, actor_class_fqn: str)"],
        "nemo_rl/environments/interfaces.py": ["class EnvironmentInterface", "answers: list"],
        "nemo_rl/distributed/virtual_cluster.py": ["class PY_EXECUTABLES", "SYSTEM ="],
        "nemo_rl/distributed/ray_actor_environment_registry.py": ["ACTOR_ENVIRONMENT_REGISTRY"],
        "examples/run_grpo.py": ["def main()", "setup_response_data"],
    }
    for path, names in expected.items():
        text = source("nemo-rl", path)
        assert [name for name in names if name not in text] == [], path

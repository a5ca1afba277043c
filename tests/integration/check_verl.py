"""Load an export by verl's own code, and print what it gives. It runs in verl's environment."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
import verl
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from transformers import AutoTokenizer
from verl import DataProto
from verl.trainer.ppo.reward import load_reward_manager
from verl.utils.dataset.rl_dataset import RLHFDataset, collate_fn

folder, cases, model, stub = map(Path, sys.argv[1:])


def arguments_of_the_script():
    """What `train.sh` gives to verl, by a Python that only prints its arguments."""
    environment = os.environ | {"PYTHON": str(stub), "MODEL": str(model), "GPUS": "1"}
    done = subprocess.run(
        [str(folder / "train.sh"), "trainer.total_training_steps=7"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    said = json.loads(done.stdout)
    assert said["arguments"][:2] == ["-m", "verl.trainer.main_ppo"], said
    return said["arguments"][2:], said["environment"]


overrides, environment = arguments_of_the_script()
HOME = str(Path(verl.__file__).parent / "trainer" / "config")
with initialize_config_dir(HOME, job_name="check", version_base="1.3"):
    config = compose("ppo_trainer", overrides)
OmegaConf.resolve(config)

from verl.utils.config import validate_config  # noqa: E402

validate_config(config, use_reference_policy=False, use_critic=False)

tokenizer = AutoTokenizer.from_pretrained(model)
sets = {}
for name in ("train_files", "val_files"):
    sets[name] = RLHFDataset([config.data[name]], tokenizer, config.data)
joined = RLHFDataset([config.data.train_files, config.data.val_files], tokenizer, config.data)
rows = [sets["train_files"][i] for i in range(len(sets["train_files"]))]
batch = collate_fn(rows)
prompts = {row["extra_info"]["id"]: row["raw_prompt"] for row in rows}

responses = dict(json.loads(cases.read_text()))


class Words:
    """A tokenizer that gives the response back, so that no text depends on a vocabulary."""

    def decode(self, ids, skip_special_tokens):
        return texts[int(ids[0])]


texts = [responses[row["extra_info"]["id"]] for row in rows]


def item(place):
    """One response as verl's agent loop hands it to the reward."""
    tensors = {"responses": torch.tensor([[place]]), "attention_mask": torch.ones(1, 2).long()}
    others = {
        key: np.array([rows[place][key]], dtype=object)
        for key in ("data_source", "reward_model", "extra_info")
    }
    return DataProto.from_dict(tensors=tensors, non_tensors=others)


async def scored():
    manager = load_reward_manager(config, Words())
    return await asyncio.gather(*(manager.run_single(item(i)) for i in range(len(rows))))


found = asyncio.run(scored())
keys = {tuple(sorted(each["reward_extra_info"])) for each in found}

advantages = None
if config.algorithm.adv_estimator != "grpo":
    os.environ.update(environment)
    sys.path.append(str(folder))
    __import__(environment["VERL_USE_EXTERNAL_MODULES"])
from verl.trainer.ppo.ray_trainer import compute_advantage  # noqa: E402

rewards = torch.zeros(8, 3)
rewards[0, 1] = 0.6  # group 0: weight 0.6, one of four right
rewards[4:6, 2] = 1.0  # group 1: weight 1, two of four right
data = DataProto.from_dict(
    tensors={"token_level_rewards": rewards, "response_mask": torch.ones(8, 3)},
    non_tensors={"uid": np.array([0] * 4 + [1] * 4, dtype=object)},
)
data = compute_advantage(
    data,
    config.algorithm.adv_estimator,
    norm_adv_by_std_in_grpo=config.algorithm.norm_adv_by_std_in_grpo,
    config=config.algorithm,
)
advantages = data.batch["advantages"][:, 0].tolist()

print(
    json.dumps(
        {
            "rows": {name: len(each) for name, each in sets.items()},
            "prompts": prompts,
            "batch": len(batch["raw_prompt"]),
            "joined": len(joined),
            "rewards": {
                row["extra_info"]["id"]: (each["reward_score"], each["reward_extra_info"]["acc"])
                for row, each in zip(rows, found, strict=True)
            },
            "failed": sum(each["reward_extra_info"]["failed"] for each in found),
            "keys": sorted(keys),
            "steps": config.trainer.total_training_steps,
            "advantages": advantages,
            "versions": {
                name: __import__("importlib.metadata").metadata.version(name)
                for name in ("verl", "transformers", "antlr4-python3-runtime", "math-verify")
            },
        }
    )
)

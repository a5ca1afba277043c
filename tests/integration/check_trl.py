"""Load an export by TRL's own code, and print what its reward gives."""

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

folder, cases, model = map(Path, sys.argv[1:])
os.chdir(folder)  # as the card says
sys.argv = ["trl", "--config", "trl.yaml", "--model_name_or_path", str(model), "--use_cpu", "true"]
sys.argv += ["--bf16", "false"]

from datasets import load_dataset  # noqa: E402
from trl.scripts.grpo import make_parser  # noqa: E402

script, training, named, _ = make_parser().parse_args_and_config()
dataset = load_dataset(script.dataset_name)
sys.path.insert(0, os.getcwd())
module, function = script.reward_funcs[0].rsplit(".", 1)
reward = getattr(__import__(module), function)

rows = dataset[script.dataset_train_split].to_list()
responses = dict(json.loads(cases.read_text()))
logged = {}


def scored(batch):
    columns = {name: [row[name] for row in batch] for name in batch[0] if name != "prompt"}
    return reward(
        prompts=[row["prompt"] for row in batch],
        completions=[[{"role": "assistant", "content": responses[row["id"]]}] for row in batch],
        completion_ids=[[1]] * len(batch),
        trainer_state=None,
        log_metric=logged.__setitem__,
        log_extra=lambda *_: None,
        **columns,
    )


batches = [rows[i : i + 25] for i in range(0, len(rows), 25)]
with ThreadPoolExecutor(4) as pool:
    rewards = [r for each in pool.map(scored, batches) for r in each]
print(
    json.dumps(
        {
            "rows": {name: len(split) for name, split in dataset.items()},
            "prompts": {row["id"]: row["prompt"] for row in rows},
            "rewards": dict(zip((row["id"] for row in rows), rewards, strict=True)),
            "logged": sorted(logged),
            "scale": training.scale_rewards,
            "learning_rate": training.learning_rate,
            "test": script.dataset_test_split,
            "versions": {n: version(n) for n in ("trl", "transformers", "datasets", "math-verify")},
        }
    )
)

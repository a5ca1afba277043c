"""Load an export by OpenRLHF's own code, and print what it gives. It runs in its environment.

Its package imports deepspeed and flash-attn at the top, which need a GPU to be built. The three
files that matter here need neither, so they are loaded from the installed package by themselves.
"""

import argparse
import ast
import asyncio
import importlib
import importlib.util
import json
import os
import subprocess
import sys
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from types import ModuleType, SimpleNamespace

import torch
from transformers import AutoTokenizer

folder, cases, model, stub = map(Path, sys.argv[1:])
HOME = Path(importlib.util.find_spec("openrlhf").submodule_search_locations[0])
for name in ("openrlhf", "openrlhf.utils", "openrlhf.datasets"):
    sys.modules[name] = package = ModuleType(name)
    package.__path__ = [str(HOME.joinpath(*name.split(".")[1:]))]
blending = importlib.import_module("openrlhf.datasets.utils").blending_datasets
PromptDataset = importlib.import_module("openrlhf.datasets.prompts_dataset").PromptDataset
agent = importlib.import_module("openrlhf.utils.agent")


def parsed():
    """The arguments of `train.sh`, as OpenRLHF's own parser reads them."""
    environment = os.environ | {"PYTHON": str(stub), "MODEL": str(model)}
    done = subprocess.run(
        [str(folder / "train.sh"), "--ckpt.max_num", "7"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout)["arguments"]
    assert told[:2] == ["-m", "openrlhf.cli.train_ppo_ray"], told
    # The parser is made under `if __name__ == "__main__"`, up to the line that reads sys.argv.
    body = ast.parse((HOME / "cli" / "train_ppo_ray.py").read_text()).body
    main = next(node for node in body if isinstance(node, ast.If))
    end = next(i for i, n in enumerate(main.body) if "parse_args" in ast.unparse(n))
    scope = {"argparse": argparse, "datetime": datetime}
    exec("\n".join(map(ast.unparse, main.body[:end])), scope)
    return vars(scope["parser"].parse_args(told[2:]))


told = parsed()
strategy = SimpleNamespace(
    args=SimpleNamespace(
        use_ms=False,
        data=SimpleNamespace(
            **{
                name.removeprefix("data."): value
                for name, value in told.items()
                if name.startswith("data.")
            }
        ),
    ),
    print=lambda *_: None,
    is_rank_0=lambda: False,
)
tokenizer = AutoTokenizer.from_pretrained(model)


def dataset(path, split):
    data = blending(path, None, strategy, 42, dataset_split=split)
    return PromptDataset(data, tokenizer, strategy, input_template=told["data.input_template"])


train = dataset(told["data.prompt_dataset"], told["data.prompt_split"])
test = dataset(told["eval.dataset"], told["eval.split"])
responses = dict(json.loads(cases.read_text()))
executor = agent.SingleTurnAgentExecutor([told["reward.remote_url"]])


class Words:
    """A tokenizer whose tokens are texts, so that no text depends on a vocabulary."""

    def __call__(self, text, **_):
        return {"input_ids": torch.tensor([[0]])}

    def decode(self, ids, skip_special_tokens):
        return asked[ids[-1]]


class Engine:
    """Generates a response by its number."""

    def __init__(self, place):
        self.place = place

    async def generate(self, *_, **__):
        output = SimpleNamespace(token_ids=[self.place], logprobs=None, finish_reason="stop")
        return SimpleNamespace(outputs=[output])


ids = [json.loads(label)["id"] for label in train.labels]
asked = [p + responses[i] + "<|im_end|>" for p, i in zip(train.prompts, ids, strict=True)]
parameters = SimpleNamespace(max_tokens=8, logprobs=None)


async def scored():
    calls = (
        executor.execute(prompt, label, parameters, 64, Words(), Engine(place))
        for place, (prompt, label) in enumerate(zip(train.prompts, train.labels, strict=True))
    )
    return await asyncio.gather(*calls)


found = asyncio.run(scored())
tensors = [torch.tensor([each["reward"]]) for each in found]  # as samples_generator.py makes them
assert all(tensor.is_floating_point() for tensor in tensors)
print(
    json.dumps(
        {
            "rows": [len(train), len(test)],
            "prompts": dict(zip(ids, train.prompts, strict=True)),
            "rewards": {
                i: (each["reward"], each["scores"]) for i, each in zip(ids, found, strict=True)
            },
            "logs": sorted({tuple(each["extra_logs"]) for each in found}),
            "estimator": told["algo.advantage.estimator"],
            "kept": told["ckpt.max_num"],
            "versions": {n: version(n) for n in ("openrlhf", "transformers", "math-verify")},
        }
    )
)

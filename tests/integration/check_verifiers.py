"""Load an installed taskset by verifiers' own code, and score responses with its tasks."""

import asyncio
import json
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import verifiers.v1 as vf
from verifiers.v1.utils.loaders import load_taskset, taskset_class

name, cases = sys.argv[1], Path(sys.argv[2])
responses = dict(json.loads(cases.read_text()))


def tasks(**settings):
    kind = taskset_class(name)
    config = next(
        base.__args__[1] for base in kind.__orig_bases__ if getattr(base, "__args__", None)
    )
    return list(load_taskset(config(id=name, **settings)))


class Trace(SimpleNamespace):
    """What a task's scoring reads and writes of a trace."""

    def record_reward(self, key, value, weight):
        self.rewards[key] = value * weight

    def record_metric(self, key, value):
        self.metrics[key] = value


async def scored(task):
    trace = Trace(last_reply=responses[task.data.id].strip(), rewards={}, metrics={})
    await task.score(trace)
    return trace, await task.validate(None)


async def all_scored(found):
    return await asyncio.gather(*map(scored, found))


train = tasks()
found = asyncio.run(all_scored(train))
print(
    json.dumps(
        {
            "rows": [len(train), len(tasks(split="validation"))],
            "weak": len(tasks(route="weak")),
            "keys": [task.key for task in train[:3]],
            "prompts": {t.data.id: [t.data.system_prompt, t.data.prompt] for t in train},
            "rewards": {
                t.data.id: (trace.rewards["correct"], trace.metrics["acc"])
                for t, (trace, _) in zip(train, found, strict=True)
            },
            "failed": sum(trace.metrics["failed"] for trace, _ in found),
            "invalid": [t.data.id for t, (_, valid) in zip(train, found, strict=True) if not valid],
            "task": issubclass(type(train[0]), vf.Task),
            "versions": {n: version(n) for n in ("verifiers", "math-verify")},
        }
    )
)

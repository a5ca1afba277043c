"""Training with a rule whose state matters, and moments at which to kill it.

    python watched_training.py FOLDER MOMENT…

trains once a moment in a process of its own, which SIGKILLs itself there: `step-3` after that step,
`optimizer-4` and `part-4` in the middle of a file of that step's checkpoint, `marker-4` before its
marker, `model` in the middle of saving the trained model. Prints how each process ended.
"""

import json
import os
import signal
import sys
from collections import Counter
from statistics import fmean

from training_run import GROUP, REWARD, config, train

from pivottrace.rewards.groups import Group
from pivottrace.training.trl_rules import observe_together

CONFIG = config(steps=6, save_steps=2)


class Teacher:
    """A part with state in a file: an average of rewards that rows' weights depend on."""

    def __init__(self):
        self.mean = 0.5

    def follow(self, step):
        self.mean *= 1.0 + 0.01 * step

    def save(self, folder):
        (folder / "mean.json").write_text(json.dumps(self.mean))

    def load(self, folder):
        self.mean = json.loads((folder / "mean.json").read_text())


class Fading:
    """A rule: a row weighs less the more often its question was seen, and by the teacher's mean."""

    def __init__(self, teacher):
        self.seen = Counter()
        self.teacher = teacher

    def observe(self, step, groups):
        for group in groups:
            self.seen[group.question_id] += 1
            self.teacher.mean = 0.8 * self.teacher.mean + 0.2 * fmean(group.rewards)

    def weight(self, question_id, route):
        share = 1 / (1 + self.seen[question_id])
        return share if route == "annotate" else share * self.teacher.mean

    def label(self, question_id, label):
        return label

    def state_dict(self):
        return {"seen": dict(self.seen)}

    def load_state_dict(self, state):
        self.seen = Counter(state["seen"])


def watched(*rules):
    """The tests' reward, which shows its groups to the rules."""
    observe = observe_together(*rules)

    def reward(**columns):
        rewards = REWARD(**columns)
        groups = [
            Group(
                question_id=columns["question_id"][start],
                route=columns["route"][start],
                answers=("a",) * GROUP,
                classes=(0,) * GROUP,
                rewards=tuple(rewards[start : start + GROUP]),
                num_tokens=tuple(map(len, columns["completion_ids"][start : start + GROUP])),
            )
            for start in range(0, len(rewards), GROUP)
        ]
        observe(columns["trainer_state"].global_step, groups)
        return rewards

    reward.__name__ = "watched"
    return reward


def train_watched(start, tokenizer, output, **more):
    """Train as the killed processes do; returns the bytes of the trained weights."""
    teacher = Teacher()
    rule = Fading(teacher)
    options = {"cfg": CONFIG, "reward": watched(rule), "rule": rule, "stateful": [teacher]}
    train(start, tokenizer, output, **{**options, **more})
    return (output / "model" / "model.safetensors").read_bytes()


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def dying_at(moment):
    """Arrange for death at a moment; returns what `train_watched` is given for it."""
    import torch
    from transformers import PreTrainedTokenizerFast

    from pivottrace.training import trl_checkpoints

    what, _, step = moment.partition("-")
    reached = {"step": 0}

    def on_log(step_now, logs):
        reached["step"] = step_now
        if moment == f"step-{step_now}":
            die()

    def is_now(name):
        return what == name and reached["step"] == int(step)

    save, mark, own_save = torch.save, trl_checkpoints.mark_whole, Teacher.save

    def torn_save(value, path, *args, **kwargs):
        if is_now("optimizer") and str(path).endswith("optimizer.pt"):
            with open(path, "wb") as file:
                file.write(b"half")
            die()
        save(value, path, *args, **kwargs)

    def torn_part(self, folder):
        if is_now("part"):
            (folder / "mean.json").write_text("0.")
            die()
        own_save(self, folder)

    torch.save, Teacher.save = torn_save, torn_part
    trl_checkpoints.mark_whole = lambda path: die() if is_now("marker") else mark(path)
    if moment == "model":
        PreTrainedTokenizerFast.save_pretrained = lambda *a, **k: (
            die() if ".model.tmp" in str(a[1]) else None
        )
    return {"on_log": on_log}


def main():
    from pathlib import Path

    import torch
    from training_run import build_model, build_tokenizer

    torch.set_num_threads(1)
    for moment in sys.argv[2:]:
        child = os.fork()
        if not child:
            train_watched(
                build_model(), build_tokenizer(), Path(sys.argv[1]) / moment, **dying_at(moment)
            )
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(moment, "killed" if os.WIFSIGNALED(status) else f"exit {status}")


if __name__ == "__main__":
    main()

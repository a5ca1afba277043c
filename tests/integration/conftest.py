"""Real packages, each in a virtual environment of its own, installed from its registry.

The environments lie in the folder that PIVOTTRACE_INTEGRATION names, and are kept for the next run.
A test is skipped with the reason where its package cannot be installed.
"""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest
from answer_kinds import cases

sys.path.append(str(Path(__file__).parents[1] / "unit"))

from export_run import exported, hold_out, triaged  # noqa: E402

from pivottrace.labels import intake  # noqa: E402
from pivottrace.labels.store import Given  # noqa: E402
from pivottrace.rollouts.answer_reader import AnswerReader  # noqa: E402
from pivottrace.verifier import Verifier  # noqa: E402

CACHE = Path(
    os.environ.get("PIVOTTRACE_INTEGRATION", Path.home() / ".cache" / "pivottrace-integration")
)
HERE = Path(__file__).parent
INSTALL_S = 3600


def environment(name, *steps):
    """A virtual environment's Python.

    Args:
        name: Name of its folder.
        steps: The arguments of each `pip install`, in order. torch goes first where a package needs
            it, so that nothing pulls in another build.
    """
    folder = CACHE / name
    mark = folder / "installed.json"
    python = folder / "bin" / "python"
    if mark.is_file() and json.loads(mark.read_text()) == list(steps):
        return python
    commands = [[sys.executable, "-m", "venv", "--clear", str(folder)]]
    commands += [[str(python), "-m", "pip", "install", "--quiet", *step.split()] for step in steps]
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
            pytest.skip(f"{' '.join(command[1:])}: {reason}")
    mark.write_text(json.dumps(list(steps)))
    return python


def run_check(python, script, *arguments, timeout=900, **variables):
    """Run a script of this folder in an environment, and return the JSON that it prints last."""
    # Nothing of PivotTrace may be found there.
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PIVOTTRACE"))}
    done = subprocess.run(
        [str(python), str(HERE / script), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=clean | {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""} | variables,
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return json.loads(done.stdout.strip().splitlines()[-1])


@dataclass
class Answered:
    """A run of two hundred routed questions, and a response to each.

    Attributes:
        run: The run.
        cases: The responses.
        right: Whether each is right, by PivotTrace's own reader and verifier here.
        weights: Weight of each row.
    """

    run: object
    cases: list
    right: list
    weights: list

    def expected(self):
        """The reward of each response, and its rightness, by the question's id."""
        triples = zip(self.cases, self.weights, self.right, strict=True)
        return {case.id: (weight * right, float(right)) for case, weight, right in triples}

    def exported(self, name, folder, **options):
        """An export of the run, with `cases.json` beside it."""
        place, written = exported(self.run, name, folder, **options)
        file = Path(f"{folder}-cases.json")
        file.write_text(json.dumps([[case.id, case.response] for case in self.cases]))
        return place, written, file


@pytest.fixture(scope="session")
def answered(tmp_path_factory):
    """Routed questions with labels, votes and held-out questions, but without a model."""
    from pivottrace.config import parse_config
    from pivottrace.run.directory import RunDir

    values = {
        "output": str(tmp_path_factory.mktemp("answered") / "run"),
        "pool": {
            "questions": "world:default?num=24&seed=3",
            "system_prompt": "Think, then answer.",
            "prompt_suffix": "Put the answer in \\boxed{number}.",
        },
        "labels": {"source": "file", "budget": 150},
        "answers": {"timeout_s": 2.0},
        "train": {"steps": 2},
    }
    run = RunDir.create(parse_config(values, "test"))
    found = cases()
    weights = [1.0 if i % 2 else 0.1 + 0.4 * (i % 3) for i in range(len(found))]
    rows = {
        case.id: ("annotate", 1.0, None, 0.5) if i % 2 else ("weak", weights[i], case.truth, None)
        for i, case in enumerate(found)
    }
    triaged(run, rows, prompt="What is it, with <b>markup</b>, {braces} and \u2028 marks?")
    labels = {case.id: case.truth for i, case in enumerate(found) if i % 2}
    intake.open_store(run).add_many(
        [Given(i, answer, "file", "annotation") for i, answer in labels.items()]
    )
    hold_out(run, [("h1", "1 + 1?", "2"), ("h2", "2 + 2?", "4")])
    reader = AnswerReader.of(run.config)
    with Verifier.of(run.config.answers) as verifier:
        answers = [reader.read(case.response) for case in found]
        right = verifier.check_many(answers, [case.truth for case in found])
    return Answered(run, found, right, weights)


def digest(texts):
    """A short digest of some prompts, in order."""
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()


def prompts_of(answered):
    """The prompts that every trainer gets, in pool order."""
    from pivottrace.exports.training_data import training_data

    rows = training_data(answered.run, "reward", "formatted").train
    return {row.id: row.prompt for row in rows}


__all__ = ["Answered", "environment", "pa", "prompts_of", "run_check"]

"""The run that every real package gets an export of."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from answer_kinds import cases

sys.path.append(str(Path(__file__).parents[1] / "unit"))

from export_run import exported, hold_out, triaged

from pivottrace.labels import intake
from pivottrace.labels.store import Given
from pivottrace.rollouts.answer_reader import AnswerReader
from pivottrace.verifier import Verifier


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

"""Inputs that public reports and real files hold, each with the right result.

A case is one file of tests/cases/answers, whose `right` says in words what is right.
"""

import json
from itertools import permutations
from pathlib import Path

import pytest

from pivottrace.errors import PivotTraceError
from pivottrace.ingest import read_questions
from pivottrace.ingest.values import to_answer
from pivottrace.labels.exchange import read_answers
from pivottrace.verifier import Verifier
from pivottrace.verifier.answers import extract_answer, majority_vote

CASES = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted((Path(__file__).parents[1] / "cases" / "answers").glob("*.json"))
}
KINDS = {
    kind: [name for name, case in CASES.items() if case["type"] == kind]
    for kind in ("extract", "equal", "classes", "vote", "seconds", "ingest", "labels")
}


@pytest.fixture(scope="module")
def maths():
    with Verifier("math") as verifier:
        yield verifier


def of(kind):
    return pytest.mark.parametrize("name", KINDS[kind])


def test_every_case_has_a_test():
    assert sum(map(len, KINDS.values())) == len(CASES) >= 32


@of("extract")
def test_the_answer_of_a_response(maths, name):
    for response, wanted in CASES[name]["responses"]:
        assert maths.equal(extract_answer(response) or "", wanted), response


@of("equal")
def test_an_answer_against_a_gold_cell(name):
    case = CASES[name]
    with Verifier(case.get("verifier", "math")) as verifier:
        for gold, answer, wanted in case["pairs"]:
            assert verifier.equal(answer, to_answer(gold) or "") == wanted, (gold, answer)


@of("classes")
def test_the_number_of_classes_in_every_order(maths, name):
    case = CASES[name]
    counts = {len(set(maths.group(order))) for order in permutations(case["answers"])}
    assert counts == {case["num_classes"]}


@of("vote")
def test_the_winner_of_a_vote(maths, name):
    case = CASES[name]
    answers = [extract_answer(response) for response in case["responses"]]
    classes = maths.group(answers)
    winner = majority_vote(classes).winner
    assert maths.equal(answers[classes.index(winner)], case["winner"])


@of("seconds")
def test_different_expressions_are_told_apart(maths, name):
    answers = CASES[name]["answers"]  # bench/answers.py has the time
    assert maths.group(answers) == list(range(len(answers)))
    assert maths.facts()["verifier_timeouts"] == 0


@of("ingest")
def test_a_file_of_questions(tmp_path, name):
    case = CASES[name]
    path = tmp_path / case["file"]
    path.write_text(case["text"], encoding="utf-8")
    try:
        rows = read_questions(str(path), column_map=case.get("map")).to_pylist()
    except PivotTraceError as error:
        assert any(
            accepted.get("refused_naming", "\0") in str(error) for accepted in case["accept"]
        )
        return
    prompt = "\n".join(message["content"] for message in rows[0]["prompt"])
    answers = [row["answer"] for row in rows]

    def accepts(accepted):
        return "refused_naming" not in accepted and (
            all(word in prompt for word in accepted.get("prompt_has", []))
            and not any(word in prompt for word in accepted.get("prompt_lacks", []))
            and accepted.get("answers", answers) == answers
            and accepted.get("num_rows", len(rows)) == len(rows)
        )

    assert any(map(accepts, case["accept"])), (prompt, answers)


@of("labels")
def test_a_file_of_labels(maths, tmp_path, name):
    case = CASES[name]
    path = tmp_path / case["file"]
    path.write_text(case["text"], encoding="utf-8")
    try:
        found = dict(read_answers(path, set(case["ids"])).answers)
    except PivotTraceError as error:
        assert case["refused_naming"] in str(error)
        return
    wanted = case["answers"]
    assert found.keys() == wanted.keys()
    assert all(maths.equal(found[key], wanted[key]) for key in wanted)

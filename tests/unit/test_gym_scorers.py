"""Replies judged by their task's own scorer, in a process that is killed, and not run as code."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from export_run import exported, give_labels, triaged
from exported_code import loaded

from pivottrace.config import parse_config
from pivottrace.errors import DataError
from pivottrace.ingest.questions import read_source
from pivottrace.run.directory import RunDir
from pivottrace.schemas import QUESTIONS
from pivottrace.verifier import Verifier
from pivottrace.verifier.truths import with_entry

pytest.importorskip("reasoning_gym", reason="pip install 'pivottrace[gym]'")

from pivottrace.verifier.gym_scorer import evaluate_value


@pytest.fixture(scope="module")
def verifier():
    with Verifier("reasoning-gym", timeout_s=1.0) as made:
        yield made


@pytest.fixture(scope="module")
def asked():
    """(gold, truth with its entry) of the first questions of a task."""

    def ask(task, options="size=4&seed=1"):
        source = f"reasoning-gym:{task}?{options}"
        rows = read_source(source, on_duplicate="drop_disagreeing").table.to_pylist()
        return [
            (row["answer"], with_entry(row["answer"], json.loads(row["extra"])["entry"]))
            for row in rows
        ]

    return ask


@pytest.mark.parametrize(
    "task",
    [
        "chain_sum",
        "countdown",
        "mini_sudoku",
        "rearc",  # its scorer compares tuples
        "knights_knaves",  # its metadata has texts of numpy
        "codeio",  # its metadata has numbers of numpy, and numbers as keys
        "simple_integration",
        "polynomial_multiplication",
    ],
)
def test_a_stored_answer_is_right_and_another_is_wrong(verifier, asked, task):
    golds, truths = zip(*asked(task), strict=True)
    assert verifier.check_many(golds, truths) == [True] * len(golds)
    others = [*golds[1:], golds[0]]
    wrong = verifier.check_many(others, truths)
    for other, gold, right in zip(others, golds, wrong, strict=True):
        assert not right or other == gold


def test_another_right_answer_is_right_and_one_of_many_alone_is_not_the_truth(verifier, asked):
    gold, truth = asked("countdown", "size=1&seed=1&min_numbers=3&max_numbers=3")[0]
    swapped = f"0 + ({gold})"
    assert verifier.equal(f"({gold})", truth)
    assert not verifier.equal(swapped, truth)  # 0 is none of the question's numbers
    assert not verifier.equal(f"({gold})", gold)  # without the entry, texts are compared


def test_a_part_of_the_score_is_not_right(verifier, asked):
    gold, truth = asked("chain_sum")[0]
    assert verifier.equal(f"+{gold}.0" if not gold.startswith("-") else f"{gold}.0", truth)
    for reply in (f"The answer is {gold}.", "", " ", None):
        assert verifier.check_many([reply], [truth]) == [False]


@pytest.mark.parametrize("task", ["fraction_simplification", "countdown", "sentence_reordering"])
def test_a_score_above_zero_for_nothing_is_wrong(verifier, asked, task):
    assert not verifier.equal("?", asked(task)[0][1])


def test_a_scorer_that_takes_anything_is_not_asked(verifier, asked):
    for gold, truth in asked("game_of_life_halting", "size=6&seed=1"):
        assert verifier.equal(gold, truth)
        assert not verifier.equal("perhaps", truth)
        assert not verifier.equal({"True": "False", "False": "True"}[gold], truth)


def test_puzzle24_wants_the_numbers_of_its_question(verifier, asked):
    (first, truth), (second, _) = asked("puzzle24", "size=2&seed=1")
    assert verifier.equal(first, truth)
    assert not verifier.equal(second, truth)


@pytest.mark.parametrize(
    "task",
    ["n_queens", "binary_matrix", "spiral_matrix", "string_insertion", "countdown", "puzzle24"],
)
def test_a_reply_is_not_run_as_code(verifier, asked, task, tmp_path):
    mark = tmp_path / "ran"
    _, truth = asked(task)[0]
    replies = [
        f"open({str(mark)!r}, 'w')",
        f"__import__('pathlib').Path({str(mark)!r}).touch()",
        f"[open({str(mark)!r}, 'w') for _ in [1]]",
    ]
    assert verifier.check_many(replies, [truth] * 3) == [False] * 3
    assert not mark.exists()


@pytest.mark.parametrize(
    ("text", "value"),
    [("[['Q', '_'], ['_', 'Q']]", [["Q", "_"], ["_", "Q"]]), ("-(1 + 2) * 3", -9), (" 7 ", 7)],
)
def test_values_are_read(text, value):
    assert evaluate_value(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "print(1)",
        "().__class__",
        "(lambda: 1)()",
        "[x for x in 'ab']",
        "f'{1}'",
        "exp(1)(2)",
        "Integral(x, x)",
        "Symbol('x', real=True)",
        "'a'[0]",
        "_",
    ],
)
def test_anything_but_a_value_is_refused(text):
    with pytest.raises(ValueError, match="a reply may not hold"):
        evaluate_value(text)


def test_the_functions_of_sympy_are_those_of_its_names():
    import sympy

    names = vars(sympy)
    assert evaluate_value("sin(Integer(0)) + sqrt(Integer(4))", names) == 2
    assert evaluate_value("x + C", names, {"x": 1, "C": 2}) == 3


def test_a_reply_that_takes_too_long_is_wrong_and_costs_no_other_reply(verifier, asked):
    gold, truth = asked("countdown", "size=1&seed=1")[0]
    before = verifier.timeouts
    assert verifier.check_many(["9**9**9**9", gold], [truth] * 2) == [False, True]
    assert verifier.timeouts == before + 1


def test_votes_go_by_exact_text(verifier):
    assert verifier.group(["1 2\n3 4", "1 2 3 4", "1234", None, "A", "a"]) == [0, 0, 1, -1, 2, 3]


def test_a_question_of_another_version_is_told(verifier):
    truth = with_entry("4", "('no_such_task', {}, 'What is 2 + 2?', {})")
    with pytest.raises(DataError, match=r"cannot score its own question.*no_such_task"):
        verifier.equal("4", truth)


def test_another_trainer_gets_the_entry_and_the_scorer(asked, tmp_path):
    """The label is "1,800", which no expression of the question has, so a scorer must decide."""
    (gold, truth) = asked("countdown", "size=1&seed=1")[0]
    entry = truth.removeprefix(gold)
    values = {
        "output": str(tmp_path / "run"),
        "answers": {"verifier": "reasoning-gym"},
        "labels": {"source": "file", "budget": 5},
    }
    run = triaged(RunDir.create(parse_config(values, "test")))
    give_labels(run)
    rows = run.read_table("pool", "run").to_pylist()
    extra = json.dumps({"entry": entry.partition("] ")[2]})
    run.write_table(
        "pool", pa.Table.from_pylist([row | {"extra": extra} for row in rows], schema=QUESTIONS)
    )
    folder, _ = exported(run, "verl", tmp_path / "out")
    [label] = {
        row["reward_model"]["ground_truth"]
        for row in pq.read_table(folder / "train.parquet").to_pylist()
        if row["reward_model"]["ground_truth"].startswith("1,800")
    }
    assert label == f"1,800{entry}"
    assert "pip install reasoning-gym" in (folder / "README.md").read_text()
    with loaded(folder, "reward.py") as module:
        for reply, right in ((gold, 1.0), ("1,800", 0.0)):
            found = module.compute_score("a", f"<answer>{reply}</answer>", label, {"weight": 1.0})
            assert (found["acc"], found["failed"]) == (right, 0.0)

"""The entry that a scorer needs joins the truth where answers are judged, and nowhere else."""

import json

import pyarrow as pa
import pytest

from pivottrace.commands.gym_notes import gym_notes
from pivottrace.config import parse_config
from pivottrace.errors import ConfigError
from pivottrace.ingest.gym_source import VERBATIM
from pivottrace.ingest.questions import read_source
from pivottrace.labels import intake
from pivottrace.labels.budget import labels_of, true_answers
from pivottrace.labels.store import Given
from pivottrace.rollouts.held_out import held_out_questions
from pivottrace.run.directory import RunDir
from pivottrace.run.entries import with_entries
from pivottrace.schemas import HELD_OUT, QUESTIONS
from pivottrace.stages.preconditions import refuse_strange_questions
from pivottrace.verifier import Verifier
from pivottrace.verifier.truths import read_truth, with_entry

ENTRY = "('chain_sum', {}, '1 + 1 =', {'numbers': (1, 1)})"


def make_run(path, verifier, sets=()):
    values = {
        "output": str(path),
        "answers": {"verifier": verifier},
        "labels": {"source": "file", "budget": 2},
    }
    run = RunDir.create(parse_config(values, where="test"))
    rows = [
        {
            "id": f"q{number}",
            "prompt": [{"role": "user", "content": "1 + 1 ="}],
            "answer": "2",
            "source": source,
            "extra": json.dumps(extra),
        }
        for number, (source, extra) in enumerate(
            [
                ("reasoning-gym:chain_sum?size=1", {"task": "chain_sum", "entry": ENTRY}),
                ("mine.jsonl", {"entry": "a column of the user's own"}),
            ]
        )
    ]
    run.write_table("pool", pa.Table.from_pylist(rows, schema=QUESTIONS))
    of_sets = [{**row, "set": "s", "verifier": own} for own in (None, *sets) for row in rows]
    run.write_table("evaluation", pa.Table.from_pylist(of_sets, schema=HELD_OUT))
    run.mark_done("pool", num_questions=2, num_with_answer=2)
    given = [Given(f"q{number}", "2", "file", "annotation") for number in range(2)]
    intake.open_store(run).add_many(given)
    return run


def test_a_truth_has_its_entry_for_the_scorer_only(tmp_path):
    run = make_run(tmp_path / "run", "reasoning-gym")
    assert true_answers(run) == {"q0": with_entry("2", ENTRY), "q1": "2"}
    held_out = [question["answer"] for question in held_out_questions(run)]
    assert held_out == [with_entry("2", ENTRY), "2"]
    assert {label.answer for label in labels_of(run).values()} == {"2"}  # people read these
    plain = make_run(tmp_path / "plain", "math")
    assert true_answers(plain) == {"q0": "2", "q1": "2"}
    assert [question["answer"] for question in held_out_questions(plain)] == ["2", "2"]
    mixed = make_run(tmp_path / "mixed", "math", sets=["reasoning-gym"])
    answers = [question["answer"] for question in held_out_questions(mixed)]
    assert answers == ["2", "2", with_entry("2", ENTRY), "2"]


def test_no_truths_need_no_pool(tmp_path):
    values = {"output": str(tmp_path / "run"), "answers": {"verifier": "reasoning-gym"}}
    assert with_entries(RunDir.create(parse_config(values, where="test")), {}) == {}


def test_a_truth_with_an_entry_still_has_alternatives_and_a_tolerance():
    truth = read_truth(with_entry("1/2 ||| 0.5 [tolerance 0.1]", ENTRY))
    assert truth.alternatives == ("1/2", "0.5") and truth.entry == ENTRY
    assert float(truth.tolerance) == 0.1
    assert read_truth("1/2").entry is None


@pytest.mark.parametrize("kind", ["math", "exact", "choice"])
def test_other_verifiers_compare_the_text_before_an_entry(kind):
    with Verifier(kind) as verifier:
        assert verifier.check_many(["2", "3"], [with_entry("2", ENTRY)] * 2) == [True, False]


def questions(*pairs):
    """A table of (task, answer); a question without a task is of another source."""
    rows = [
        {
            "id": str(number),
            "prompt": [{"role": "user", "content": str(number)}],
            "answer": answer,
            "source": "reasoning-gym:x" if task else "test",
            "extra": json.dumps({"task": task, "entry": ENTRY} if task else {}),
        }
        for number, (task, answer) in enumerate(pairs)
    ]
    return pa.Table.from_pylist(rows, schema=QUESTIONS)


def advice(table, **answers):
    return list(gym_notes(parse_config({"answers": answers}, where="test"), table))


def test_validate_says_which_verifier_to_take_and_what_would_be_read():
    mixed = questions(("chain_sum", "4"), ("mini_sudoku", "1 2\n2 1"), ("caesar_cipher", "AN EGG."))
    [scorer] = advice(mixed)
    assert scorer.startswith("answers of caesar_cipher, mini_sudoku are no numbers; answers.verif")
    assert advice(questions(("chain_sum", "4"))) == []
    assert advice(questions((None, "red"))) == []
    [unread] = advice(mixed, verifier="reasoning-gym")
    assert unread.startswith("1 of 3 answers would not be read as they are written (caesar_cipher)")
    assert advice(mixed, verifier="reasoning-gym", pattern=VERBATIM) == []
    [strange] = advice(questions((None, "4"), ("chain_sum", "4")), verifier="reasoning-gym")
    assert strange.startswith("1 of 2 questions are not of reasoning-gym")


def test_the_scorers_refuse_other_questions():
    def config(source):
        values = {"pool": {"questions": source}, "answers": {"verifier": "reasoning-gym"}}
        return parse_config(values, where="test")

    refuse_strange_questions(config("reasoning-gym:chain_sum?size=3"))
    refuse_strange_questions(config("tasks.toml"))
    with pytest.raises(ConfigError, match=r"pool\.questions is 'gsm8k\.jsonl'\. Set answers\.veri"):
        refuse_strange_questions(config("gsm8k.jsonl"))


def test_a_missing_package_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr("pivottrace.plugins.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"chain_sum: needs .* pip install 'pivottrace\[gym\]'"):
        read_source("reasoning-gym:chain_sum")
    (tmp_path / "reasoning_gym.py").write_text("raise ImportError('it is not here')")
    monkeypatch.syspath_prepend(tmp_path)
    with (
        Verifier("reasoning-gym") as verifier,
        pytest.raises(ConfigError, match=r"\(it is not here\); install it with pip install reas"),
    ):
        verifier.load()

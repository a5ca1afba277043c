"""Rows of exports for trainers: whose answer a row has, which rows there are, and their prompts."""

import json
import re
from collections import Counter

import pyarrow.parquet as pq
import pytest
from export_run import ROWS, exported, give_labels, hold_out, triaged

from pivottrace.exports import export_formats
from pivottrace.exports.training_data import (
    NO_ANSWER,
    NO_VOTE,
    PROBES,
    THINNED,
    UNLABELLED,
    training_data,
)
from pivottrace.labels import intake
from pivottrace.labels.store import Given
from pivottrace.stages.train import read_training_rows

TRAINERS = sorted(name for name, of in export_formats().items() if "weights" in of.options)


@pytest.fixture
def run(make_run):
    made = triaged(
        make_run(
            "run",
            labels={"source": "file", "budget": 5, "partial": True},
            pool={"system_prompt": "Be brief.", "prompt_suffix": "Put it in \\boxed{}."},
            weak={"reward": "frozen_majority"},
        )
    )
    give_labels(made)
    return made


def test_annotate_rows_have_labels_and_weak_rows_votes(run):
    data = training_data(run, "reward", "formatted")
    assert {row.id: (row.route, row.answer, row.weight) for row in data.train} == {
        "1e3": ("annotate", "1,800", 1.0),
        "007": ("annotate", "007", 1.0),
        "null": ("weak", "1e3", 0.6),
        "true": ("weak", "007", 0.8),
    }
    assert data.left_out == {UNLABELLED: 1}  # 2020-01-02
    assert "the truth" not in str(data)


def test_the_rows_are_those_of_the_training_stage(run):
    rows, _ = read_training_rows(run)
    data = training_data(run, "reward", "formatted")
    assert [(row.id, row.prompt, row.route, row.weight, row.answer) for row in data.train] == [
        (r["question_id"], r["prompt"], r["route"], r["weight"], r["label"] or r["pseudo_label"])
        for r in rows.to_pylist()
    ]


def test_a_weak_row_has_its_vote_whatever_reward_a_training_here_has(make_run):
    run = triaged(make_run("run", labels={"source": "file", "budget": 5}))
    assert run.config.weak.reward != "frozen_majority"
    votes = {r.id: r.answer for r in training_data(run, "reward", "raw").train}
    assert votes == {"null": "1e3", "true": "007"}


def test_a_weak_row_never_carries_a_label_that_happens_to_be_there(run):
    give_labels(run, {"true": "a bought label"})
    assert "a bought label" not in str(training_data(run, "reward", "raw"))


def test_rows_without_an_answer_are_left_out_and_counted(make_run):
    rows = {
        "a": ("weak", 1.0, None, None),
        "b": ("weak", 1.0, "3", None),
        "c": ("annotate", 1.0, None, 0.5),
    }
    run = triaged(make_run("run", labels={"source": "file", "budget": 1}), rows)
    intake.open_store(run).add_many([Given("c", None, "file", "annotation")])
    data = training_data(run, "reward", "raw")
    assert [row.id for row in data.train] == ["b"]
    assert data.left_out == {NO_VOTE: 1, NO_ANSWER: 1}


def test_probes_that_a_later_round_needs_are_left_out_as_in_the_stage(make_run, monkeypatch):
    run = triaged(make_run("run", labels={"source": "file", "budget": 5}, rounds={"num": 2}))
    give_labels(run)
    monkeypatch.setattr("pivottrace.labels.training_rows._waiting_probes", lambda run: {"007", "d"})
    data = training_data(run, "reward", "raw")
    assert "007" not in {row.id for row in data.train}
    assert data.left_out == {UNLABELLED: 1, PROBES: 1}


def test_prompts_are_those_of_the_votes_or_on_request_the_raw_questions(run):
    formatted = training_data(run, "reward", "formatted").train[0].prompt
    raw = training_data(run, "reward", "raw").train[0].prompt
    assert raw[0] == {"role": "system", "content": "Rules."}  # the question's own system message
    assert formatted[0] == raw[0]
    assert formatted[1]["content"] == raw[1]["content"] + "\nPut it in \\boxed{}."


def test_thinning_keeps_weak_rows_by_their_weight_and_repeats(make_run):
    rows = {f"w{i:03}": ("weak", 0.25 if i % 2 else 0.75, "3", None) for i in range(800)}
    rows |= {"zero": ("weak", 0.0, "3", None), "one": ("weak", 1.0, "3", None)}
    rows["a"] = ("annotate", 0.5, None, 0.1)
    run = triaged(make_run("run", labels={"source": "file", "budget": 5}), rows)
    give_labels(run, {"a": "7"})
    kept = training_data(run, "thin", "raw")
    assert kept == training_data(run, "thin", "raw")
    number = Counter(row.weight for row in kept.train)
    assert abs(number[0.25] - 100) < 35 and abs(number[0.75] - 300) < 35  # 4 standard deviations
    ids = {row.id for row in kept.train}
    assert {"one", "a"} <= ids and "zero" not in ids
    assert kept.left_out == {THINNED: len(rows) - len(ids)}
    assert set(rows) == {row.id for row in training_data(run, "ignore", "raw").train}


def test_another_seed_thins_otherwise(make_run):
    rows = {f"w{i}": ("weak", 0.5, "3", None) for i in range(64)}
    kept = []
    for seed in (0, 1):
        run = triaged(make_run(f"run{seed}"), rows)
        run.config = run.config.model_copy(update={"seed": seed})
        kept.append({row.id for row in training_data(run, "thin", "raw").train})
    assert kept[0] != kept[1]


@pytest.mark.parametrize("name", TRAINERS)
def test_every_trainer_gets_the_same_rows_and_the_held_out_questions(run, name, tmp_path):
    hold_out(run, [("h1", "1 + 1?", "2"), ("h2", "Unanswered?", None)])
    folder, written = exported(run, name, tmp_path / "out")
    assert sorted(written.rows.values()) == [1, 4]
    assert written.left_out == {UNLABELLED: 1}
    text = "".join(
        str(pq.read_table(path).to_pylist()) if path.suffix == ".parquet" else path.read_text()
        for path in (folder / file for file in written.rows)
    )
    for answer in ("1,800", "1e3", "1 + 1?"):
        assert answer in text
    assert "the truth" not in text and "Unanswered" not in text


@pytest.mark.parametrize("name", TRAINERS)
def test_without_held_out_questions_there_is_no_file_of_them(run, name, tmp_path):
    _, written = exported(run, name, tmp_path / "out")
    assert list(written.rows.values()) == [4]


@pytest.mark.parametrize("name", TRAINERS)
def test_a_run_without_a_row_keeps_the_types_of_the_files(make_run, name, tmp_path):
    """A column without a value would get a null type, and then two files do not join."""
    empty = triaged(make_run("empty"), {"a": ("discard", 0.0, None, None)})
    full = triaged(make_run("full"), ROWS)
    types = []
    for run in (empty, full):
        folder, written = exported(run, name, tmp_path / f"{run.path.name}-{name}")
        first = folder / next(iter(written.rows))
        types.append(pq.read_schema(first) if first.suffix == ".parquet" else None)
    assert types[0] == types[1]


@pytest.mark.parametrize("name", TRAINERS)
def test_the_card_says_what_is_in_the_folder(run, name, tmp_path):
    hold_out(run, [("h1", "1 + 1?", "2")])
    folder, written = exported(run, name, tmp_path / "out", weights="thin")
    card = (folder / "README.md").read_text()
    assert not re.search(r"@[A-Z_]+@", card)
    if name != "verifiers":  # its rows are files of a package
        assert card.startswith("---\nconfigs:\n")
        for file in written.rows:
            assert f"path: {file}" in card
    assert "| held out | 1 row |" in card and UNLABELLED in card and "--weights thin" in card
    record = json.loads((folder / "export.json").read_text())
    assert record["options"] == {"weights": "thin", "prompt": "formatted"}

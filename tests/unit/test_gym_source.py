"""Questions of reasoning-gym: the same each time, typed options, and what each mistake is told."""

import json
import os
import subprocess
import sys

import pytest

from pivottrace.errors import ConfigError, DataError
from pivottrace.ingest import gym_source
from pivottrace.ingest.questions import read_source
from pivottrace.ingest.sources import source_digest

# pycosat, which it needs, has no wheels: a compiler would have to be there for `make test`.
pytest.importorskip("reasoning_gym", reason="pip install 'pivottrace[gym]'")

CHAIN_SUM = "reasoning-gym:chain_sum?size=4&seed=7&min_terms=2&max_terms=2"
# The library makes other questions of these in every process.
UNSTEADY = (
    *("codeio", "isomorphic_strings", "knight_swap", "list_functions"),
    *("polynomial_multiplication", "ransom_note", "word_ladder"),
)


def write(tmp_path, text):
    path = tmp_path / "tasks.toml"
    path.write_text(text)
    return str(path)


def extras(read):
    return [json.loads(text) for text in read.table["extra"].to_pylist()]


def test_a_task_gives_its_questions_its_options_and_its_difficulty():
    from reasoning_gym import create_dataset

    read = read_source(CHAIN_SUM)
    theirs = list(create_dataset("chain_sum", size=4, seed=7, min_terms=2, max_terms=2))
    ours = read.table.to_pylist()
    assert [row["prompt"][0]["content"] for row in ours] == [each["question"] for each in theirs]
    assert [row["answer"] for row in ours] == [each["answer"] for each in theirs]
    assert [row["id"] for row in ours] == [f"chain_sum-7-{index}" for index in range(4)]
    assert {extra["task"] for extra in extras(read)} == {"chain_sum"}
    assert extras(read)[0]["difficulty"] == {"num_terms": [2, 2], "num_digits": [1, 4]}
    assert "made by reasoning-gym 0.1." in read.notes[0]


def test_answers_are_taken_as_they_are_written():
    """A reader of golds would drop signs of thousands, and take long lists for derivations."""
    answers = read_source("reasoning-gym:number_format?size=12&seed=1").table["answer"].to_pylist()
    grids = read_source("reasoning-gym:n_queens?size=2&seed=1").table["answer"].to_pylist()
    assert any(not answer.isdecimal() for answer in answers)
    assert all(grid.count("\n") == 7 for grid in grids)


def test_a_file_has_several_tasks_and_a_limit_is_over_all(tmp_path):
    path = write(
        tmp_path,
        '[[task]]\nname = "chain_sum"\nsize = 3\nseed = 1\nallow_negation = true\n'
        '[[task]]\nname = "countdown"\nsize = 3\noperators = ["+", "-"]\nmax_numbers = 4\n'
        "min_numbers = 3\n",
    )
    read = read_source(path)
    assert [extra["task"] for extra in extras(read)] == ["chain_sum"] * 3 + ["countdown"] * 3
    assert read.table["id"].to_pylist()[3] == "countdown-0-0"  # the seed is 0
    assert all("*" not in answer for answer in read.table["answer"].to_pylist())
    assert read_source(path, limit=4).table.equals(read.table.slice(0, 4))
    before = source_digest(path)
    write(tmp_path, '[[task]]\nname = "chain_sum"\n')
    assert source_digest(path) != before  # so a resumed run notices the change
    assert source_digest(CHAIN_SUM) is None


def test_the_same_task_twice_gets_ids_of_its_questions(tmp_path):
    twice = '[[task]]\nname = "chain_sum"\nsize = 2\nmax_digits = 1\n'
    read = read_source(write(tmp_path, twice + twice.replace("1", "4\nmin_digits = 4")))
    assert len(set(read.table["id"].to_pylist())) == 4
    assert any("Ids were made from the questions instead" in note for note in read.notes)


@pytest.mark.slow
@pytest.mark.parametrize("task", UNSTEADY)
def test_another_process_makes_the_same_questions(task, tmp_path):
    source = f"reasoning-gym:{task}?size=6&seed=3"
    ours = read_source(source).table
    code = "import sys; from pivottrace.ingest.questions import read_source as read\n"
    code += "import pyarrow.parquet as pq; pq.write_table(read(sys.argv[1]).table, sys.argv[2])"
    path = tmp_path / "other.parquet"
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "PYTHONHASHSEED": "5",
    }
    subprocess.run(
        [sys.executable, "-P", "-c", code, source, str(path)],
        check=True,
        env=environment,
        capture_output=True,
    )
    import pyarrow.parquet as pq

    assert pq.read_table(path).equals(ours)


def test_a_question_whose_answer_no_reply_could_give_is_left_out_and_counted():
    read = read_source("reasoning-gym:palindrome_partitioning?size=20&seed=1")
    assert read.table.num_rows < 20
    assert all(len(answer) <= 1000 for answer in read.table["answer"].to_pylist())
    left_out = 20 - read.table.num_rows
    assert any(f"left out {left_out} questions of palindrome_" in note for note in read.notes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("chain_sums", "has no task 'chain_sums'; the nearest is chain_sum"),
        ("chain_sum?min_term=2", "has no option 'min_term'; there are size, seed, min_terms, max_"),
        ("chain_sum?min_terms=two", "min_terms = 'two': Input should be a valid integer"),
        ("chain_sum?min_terms=9&max_terms=2", "refuses these options: max_terms must be >= min_t"),
        ("chain_sum?allow_negation=maybe", "allow_negation = 'maybe': Input should be a valid bo"),
        ("chain_sum?size=0", "size = '0' must be a whole number, 1 to"),
        ("chain_sum?seed=-1", "seed = '-1' must be a whole number, 0 to"),
        ("chain_sum?split=test", "has no columns to map and no splits; leave them out"),
        ("chain_sum?answer=x", "has no columns to map and no splits; leave them out"),
        ("boxnet", "boxnet stores no answers, so its questions cannot be labelled"),
        ("composite", "write a TOML file with [[task]] for each of them"),
        ("time_intervals?min_date=2000-01-01", "min_date cannot be set here: only numbers, texts"),
    ],
)
def test_a_wrong_source_says_what_is_wrong(options, message):
    with pytest.raises(ConfigError) as caught:
        read_source(f"reasoning-gym:{options}")
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"reasoning-gym:{options}: ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[task]\n", "cannot be read as TOML (Expected ']]'"),
        ("", "holds nothing, and a file of questions holds the tasks"),
        ('[pool]\nquestions = "x"\n', "holds pool, and a file of questions holds the tasks"),
        ("[[task]]\nsize = 3\n", 'task 1: has no name. Write name = "chain_sum" there'),
        ('[[task]]\nname = "chain_sum"\nsize = 2.5\n', "size = 2.5 must be a whole number"),
        ('[[task]]\nname = "chain_sum"\nsize = true\n', "size = True must be a whole number"),
        (
            '[[task]]\nname = "time_intervals"\nmin_date = 2000-01-01\n',
            "min_date = datetime.date(2000, 1, 1) cannot be set",
        ),
    ],
)
def test_a_wrong_file_says_what_is_wrong(tmp_path, text, message):
    with pytest.raises((ConfigError, DataError)) as caught:
        read_source(write(tmp_path, text))
    assert message in str(caught.value)


def test_a_generator_that_ends_early_is_told(monkeypatch, tmp_path):
    """The generator is run by its path, so another script can stand there."""
    script = tmp_path / "gym_generator.py"
    script.write_text("import sys\nprint('no such data file', file=sys.stderr)\nsys.exit(3)\n")
    monkeypatch.setattr(gym_source, "__file__", str(tmp_path / "gym_source.py"))
    with pytest.raises(DataError, match=r"ended with code 3 \(no such data file\)"):
        read_source(CHAIN_SUM)

"""The label sources' records: how they are named and found, and what the package asks of them."""

import re
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest
from report_run import make_run as fabricate

from pivottrace.cli import main
from pivottrace.config import Config, load_config
from pivottrace.config.template import template
from pivottrace.errors import BudgetError, ConfigError, DataError, LabelsNeeded
from pivottrace.label_sources import LabelSource, label_source, label_sources
from pivottrace.labels import budget, buying, requests
from pivottrace.run.directory import RunDir

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"
NUM_QUESTIONS, BUDGET, PROBES = 60, 20, 12
IDS = [f"q-{i:04d}" for i in range(NUM_QUESTIONS)]
KNOWN = ", ".join(label_sources())


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Write a module of one's own and return the setting that names its record."""
    folder = tmp_path / "own"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    written = []

    def write(text, name="mine", record="MINE"):
        (folder / f"{name}.py").write_text(text)
        written.append(name)
        return f"{name}:{record}"

    yield write
    for name in written:
        sys.modules.pop(name, None)


def scored(tmp_path, source, partial=False):
    """A run that is about to ask for its probes' labels."""
    return fabricate(
        tmp_path / "run",
        "sample",
        NUM_QUESTIONS,
        labels={"budget": BUDGET, "source": source, "partial": partial},
        calibrate={"num_probes": PROBES},
        triage={"hopeless": "annotate", "least_label_gain": 0.0},
        train={"enabled": False},
    )


def test_each_source_is_found_by_its_name():
    for name, record in label_sources().items():
        assert label_source(name) is record
        assert record.name == name and record.title
        assert record.answers or record.ask


def test_a_record_that_can_do_nothing_is_refused():
    with pytest.raises(ValueError, match="'idle': give it answers, ask, or both"):
        LabelSource("idle", "nobody knows anything")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "colum",
            "'colum': there is no such source. The nearest one is column. Give one of column",
        ),
        ("people", f"Give one of {KNOWN}, or your own as package.module:name"),
        (
            "json:dumps",
            "it is a function, not a pivottrace.label_sources.LabelSource",
        ),
        ("no_such:ONE", "no_such cannot be imported"),
        ("json:", "write it as package.module:name"),
    ],
)
def test_a_wrong_source_is_named_with_its_cure_wherever_a_configuration_is_read(
    tmp_path, capsys, name, message
):
    with pytest.raises(ConfigError, match=re.escape(message)):
        label_source(name)
    file = tmp_path / "my.toml"
    file.write_text(f'[labels]\nsource = "{name}"\n')
    with pytest.raises(ConfigError, match=re.escape(f"{file}: labels.source = '{name}': ")):
        load_config(file)
    for command in ("run", "validate", "calibrate", "study", "init"):
        target = [str(tmp_path / "new.toml")] if command == "init" else ["--output", str(tmp_path)]
        given = [*([str(file)] if command == "study" else []), *target]
        assert main([command, *given, "--labels.source", name]) == 2
        printed = capsys.readouterr().err
        assert f"labels.source = '{name}': " in printed and message in printed
        assert "Traceback" not in printed and printed.count("labels.source =") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["my.toml"]  # nothing was begun


def test_the_file_of_init_lists_every_source():
    lines = template(Config(), Path("my.toml")).splitlines()
    written = " ".join(line.lstrip("# ") for line in lines)
    for name, record in label_sources().items():
        assert f"`{name}`: {record.title}" in written


DOUBLES = """
from pivottrace.label_sources import LabelSource
heard = []

def answers(asked):
    heard.append(asked)
    return {i: "7" for i in [*asked.question_ids, "a stranger"]}

MINE = LabelSource("mine", "sevens", answers=answers)
"""


def test_a_source_outside_the_package_is_asked_for_what_is_bought(tmp_path, own, capsys):
    source = own(DOUBLES)
    run = scored(tmp_path, source)
    assert main(["run", str(run.path), "--until", "label"]) == 0
    labels = budget.bought(run)
    assert len(labels) == BUDGET and {label.source for label in labels.values()} == {source}
    asked = sys.modules["mine"].heard
    assert [request.purpose for request in asked] == ["probe", "annotation"]
    assert sorted(i for request in asked for i in request.question_ids) == list(labels)
    assert asked[0].texts().keys() == set(asked[0].question_ids)
    assert asked[0].folder == run.path
    assert asked[0].pool_answers().keys() == set(IDS)
    with pytest.raises(BudgetError, match="1 labels are needed and 0 are left"):
        buying.obtain(run, [next(i for i in IDS if i not in labels)], "annotation")
    assert len(asked) == 2
    # Like people and a column, it leaves the pool its answers: one may take over from the other.
    assert main(["run", str(run.path), "--until", "label", "--labels.source", "column"]) == 0
    capsys.readouterr()
    assert main(["run", str(run.path), "--until", "label", "--labels.source", "oracle"]) == 2
    assert "labels.source: was " in capsys.readouterr().err


def test_a_source_with_gaps_is_named_and_nothing_is_bought(tmp_path, own):
    source = own(DOUBLES.replace("*asked.question_ids", "*asked.question_ids[1:]"))
    run = scored(tmp_path, source)
    with pytest.raises(DataError, match=rf"'{source}': question 'q-0000' .* \(1 of 3 chosen\)"):
        buying.obtain(run, IDS[:3], "annotation")
    assert not budget.bought(run)
    run.config.labels.partial = True
    assert buying.obtain(run, IDS[:3], "annotation") == {IDS[1]: "7", IDS[2]: "7"}


@pytest.mark.parametrize("simulates", [True, False])
def test_a_study_reads_a_source_that_has_its_answers_beforehand_else_the_column(
    tmp_path, own, simulates
):
    source = own(DOUBLES.replace("answers=answers", f"answers=answers, simulates={simulates}"))
    run = scored(tmp_path, source)
    pool = run.read_table("pool", made_by="run")
    column = dict(zip(pool["id"].to_pylist(), pool["answer"].to_pylist(), strict=True))
    assert buying.every_answer(run) == (dict.fromkeys(IDS, "7") if simulates else column)
    assert len(sys.modules["mine"].heard) == simulates


FIRST_THE_COLUMN = """
from pivottrace.label_sources import LabelSource, people

def answers(asked):
    return {i: a for i, a in asked.pool_answers().items() if int(i[2:]) % 2}

MINE = LabelSource("mine", "odd ones known, even ones asked for", answers=answers, ask=people.ask)
"""


def test_a_source_may_answer_first_and_ask_people_for_the_rest(tmp_path, own):
    source = own(FIRST_THE_COLUMN)
    run = scored(tmp_path, source)
    with pytest.raises(LabelsNeeded, match=r"^3 questions wait"):
        buying.obtain(run, IDS[:6], "annotation")
    assert budget.bought(run).keys() == set(IDS[1:6:2])
    asked = (run.path / requests.FILES["annotation"]).read_text(encoding="utf-8-sig").splitlines()
    assert [line.split(",")[0] for line in asked[1:]] == IDS[0:6:2]


SERVER = """
from pivottrace.label_sources import LabelSource
tasks, done = {}, {}

def answers(asked):
    return {i: done[i] for i in asked.question_ids if i in done}

def ask(asked):
    tasks.update((i, text) for i, text in asked.texts().items() if i not in tasks)
    return f"{len(asked.question_ids)} tasks are open on the server"

MINE = LabelSource("server", "tasks and annotations", answers=answers, ask=ask)
"""


def test_a_server_may_be_asked_and_looked_at_again(tmp_path, own, capsys):
    run = scored(tmp_path, own(SERVER))
    command = ["run", str(run.path), "--until", "calibrate"]
    assert main(command) == 3
    assert f"{PROBES} tasks are open on the server" in capsys.readouterr().err
    server = sys.modules["mine"]
    probes = list(server.tasks)
    server.done.update(dict.fromkeys(probes[:5], "5"))
    assert main(command) == 3  # what is answered is kept, and only the rest is asked for
    assert f"{PROBES - 5} tasks are open on the server" in capsys.readouterr().err
    assert budget.bought(run).keys() == set(probes[:5])
    server.done.update(dict.fromkeys(probes, "5"))
    assert main(command) == 0
    assert budget.bought(run).keys() == set(probes) == set(server.tasks)
    assert requests.waiting_file(RunDir.open(run.path)) is None


def test_partial_takes_the_answers_that_came_since_the_last_attempt(tmp_path, own):
    run = scored(tmp_path, own(SERVER), partial=True)
    for waiting, done in ((4, IDS[:1]), (3, IDS[:3])):
        with pytest.raises(LabelsNeeded, match=f"^{waiting} tasks are open"):
            buying.obtain(run, IDS[:4], "annotation")
        sys.modules["mine"].done.update(dict.fromkeys(done, "5"))
    assert buying.obtain(run, IDS[:4], "annotation") == dict.fromkeys(IDS[:3], "5")
    assert budget.bought(run).keys() == set(IDS[:3])


def test_the_documented_source_works_outside_the_package(tmp_path, own, monkeypatch, capsys):
    block = re.search(
        r"<!-- file: (sqlite_\S+)\.py -->\n```python\n(.*?)```", PAGE.read_text(), re.S
    )
    source = own(block[2], block[1], "SQLITE")
    run = scored(tmp_path, source)
    table = tmp_path / "table.sqlite"
    monkeypatch.setenv("ANSWERS", str(table))
    command = ["run", str(run.path), "--until", "label"]
    assert main(command) == 2
    assert f"{table}: unable to open database file" in capsys.readouterr().err
    pool = run.read_table("pool", made_by="run").select(["id", "answer"]).to_pylist()
    with closing(sqlite3.connect(table)) as connection, connection:
        connection.execute("CREATE TABLE answers (id TEXT PRIMARY KEY, answer TEXT)")
        connection.executemany("INSERT INTO answers VALUES (:id, :answer)", pool)
    assert main(command) == 0
    truths = {row["id"]: row["answer"] for row in pool}
    bought = {i: label.answer for i, label in budget.bought(run).items()}
    assert len(bought) == BUDGET and bought.items() <= truths.items()
    assert buying.every_answer(RunDir.open(run.path)) == truths

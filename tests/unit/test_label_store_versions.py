"""Label stores of other versions: an old one is read as it is, and moves whole when it is opened.

`OLD_SCHEMA` is what version 1 made, with its list of sources; `SCHEMA_3` is what version 3 made.
"""

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from pivottrace.errors import BudgetError, DataError, RunDirError
from pivottrace.labels import store_schema
from pivottrace.labels.remarks import Remark, read_remarks
from pivottrace.labels.store import Given, Label, LabelStore, num_stored, read_answers, read_labels

OLD_SCHEMA = """
CREATE TABLE IF NOT EXISTS labels (
    question_id TEXT PRIMARY KEY CHECK (question_id <> ''),
    answer      TEXT NOT NULL CHECK (answer <> ''),
    source      TEXT NOT NULL CHECK (source IN ('column', 'file', 'oracle', 'page')),
    purpose     TEXT NOT NULL CHECK (purpose IN ('probe', 'annotation')),
    created_at  TEXT NOT NULL
)
"""
ROWS = [
    ("q1", "18", "column", "probe", "2026-01-02T03:04:05+00:00"),
    ("q2", "=1+1 é\u2028'x'", "file", "annotation", "2026-01-02T03:04:06+00:00"),
    ("q3", "7", "oracle", "probe", "2026-01-02T03:04:07+00:00"),
    ("q4", "x", "page", "annotation", "2026-01-02T03:04:08+00:00"),
]
LABELS = {row[0]: Label(*row[:4], created_at=row[4]) for row in ROWS}
MOVED = [(n, *row[:4], None, 0, "first", row[4], 0, None) for n, row in enumerate(ROWS, start=1)]


SCHEMA_3 = """
CREATE TABLE answers (
    number      INTEGER PRIMARY KEY,
    question_id TEXT NOT NULL CHECK (question_id <> ''),
    answer      TEXT CHECK (answer <> ''),
    source      TEXT NOT NULL CHECK (source <> ''),
    purpose     TEXT NOT NULL CHECK (purpose IN ('probe', 'annotation')),
    annotator   TEXT CHECK (annotator <> ''),
    owned       INTEGER NOT NULL CHECK (owned IN (0, 1)),
    verdict     TEXT NOT NULL CHECK (verdict IN ('first', 'agrees', 'differs', 'settles')),
    created_at  TEXT NOT NULL
)
"""
ROWS_3 = [
    (1, "q2", "18", "file", "probe", "Ana", 0, "first", "2026-01-02T03:04:05+00:00"),
    (2, "q1", "5", "column", "annotation", None, 1, "first", "2026-01-02T03:04:06+00:00"),
    (3, "q2", "19", "file", "probe", "Ben", 0, "differs", "2026-01-02T03:04:07+00:00"),
    (5, "q2", "19", "file", "probe", "Cy", 0, "settles", "2026-01-02T03:04:08+00:00"),
    (6, "q3", None, "file", "probe", "Ana", 0, "first", "2026-01-02T03:04:09+00:00"),
]


# A process that moves a store and ends itself before one of the statements.
KILLED = """
import os, pathlib, sys
from pivottrace.labels import store, store_schema
class Killed(tuple):
    def __iter__(self):
        for number, statement in enumerate(tuple.__iter__(self)):
            if number == int(sys.argv[2]):
                os.kill(os.getpid(), 9)
            yield statement
        os.kill(os.getpid(), 9)
store_schema.{statements} = Killed(store_schema.{statements})
store.LabelStore(pathlib.Path(sys.argv[1]), 9)
"""


@pytest.fixture
def of_3(tmp_path):
    """A store of version 3 with every verdict that it knew, and a gap in the numbers."""
    path = tmp_path / "labels.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(SCHEMA_3)
        connection.execute("CREATE INDEX by_question ON answers (question_id)")
        connection.execute("PRAGMA user_version = 3")
        connection.executemany(f"INSERT INTO answers VALUES ({', '.join('?' * 9)})", ROWS_3)
    return path


@pytest.fixture
def old(tmp_path):
    """A store of version 1 with a label of each source that it knew."""
    path = tmp_path / "labels.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(OLD_SCHEMA)
        connection.execute("PRAGMA user_version = 1")
        connection.executemany("INSERT INTO labels VALUES (?, ?, ?, ?, ?)", ROWS)
    return path


def contents(path):
    """Version, tables and rows of a file, read without our code."""
    with closing(sqlite3.connect(path)) as connection:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        made = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        tables = [row[0] for row in made]
        table = "answers" if "answers" in tables else "labels"
        rows = connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()
        return version, tables, rows


def test_reading_an_old_store_writes_nothing(old):
    before = {path.name: path.read_bytes() for path in old.parent.iterdir()}
    assert read_labels(old) == LABELS
    old.chmod(0o400)
    assert read_labels(old) == LABELS
    assert {path.name: path.read_bytes() for path in old.parent.iterdir()} == before


def test_opening_an_old_store_keeps_every_label_and_takes_new_sources(old):
    opened = LabelStore(old, allowed=6)
    assert contents(old) == (4, ["answers", "remarks"], MOVED)
    assert read_labels(old) == LABELS
    assert opened.add_many([Given("q5", "9", "my.module:SOURCE", "probe")]).new == 1
    assert opened.add_many([Given("q2", ROWS[1][1], "oracle", "probe")]).new == 0
    assert opened.add_many([Given("q1", "19", "file", "probe")]).differing == ("q1",)
    labels = read_labels(old)
    assert labels["q1"].disputed
    assert labels == LABELS | {"q1": labels["q1"], "q5": labels["q5"]}
    again = LabelStore(old, allowed=6)
    assert contents(old)[2][: len(MOVED)] == MOVED
    with pytest.raises(BudgetError, match="2 new labels on top of 5 pass the budget of 6"):
        again.add_many([Given(i, "1", "file", "probe") for i in ("q6", "q7")])


def test_a_budget_that_an_old_store_exceeds_is_refused_and_no_label_is_lost(old):
    with pytest.raises(BudgetError, match="already holds 4 labels, more than the budget of 3"):
        LabelStore(old, allowed=3)
    assert read_labels(old) == LABELS


@pytest.mark.parametrize("statements_before", range(7))
def test_a_process_killed_while_it_moves_labels_leaves_the_old_store(old, statements_before):
    script = KILLED.format(statements="FROM_LABELS")
    command = [sys.executable, "-c", script, str(old), str(statements_before)]
    assert subprocess.run(command, timeout=60).returncode == -9
    assert read_labels(old) == LABELS
    assert contents(old) == (1, ["labels"], ROWS)
    LabelStore(old, allowed=4)
    assert contents(old) == (4, ["answers", "remarks"], MOVED)


def test_a_statement_that_fails_leaves_the_old_store(old, monkeypatch):
    statements = (*store_schema.FROM_LABELS, "INSERT INTO nowhere")
    monkeypatch.setattr(store_schema, "FROM_LABELS", statements)
    with pytest.raises(RunDirError, match="cannot be read or written"):
        LabelStore(old, allowed=9)
    assert contents(old) == (1, ["labels"], ROWS)


def test_several_threads_open_an_old_store_at_once(old):
    with ThreadPoolExecutor(8) as pool:
        opened = list(pool.map(lambda _: LabelStore(old, allowed=9), range(16)))
    assert contents(old) == (4, ["answers", "remarks"], MOVED)
    for i, each in enumerate(opened[:5]):
        assert each.add_many([Given(f"n{i}", "1", "file", "probe")]).new == 1


def test_several_processes_open_an_old_store_at_once(old):
    script = (
        "import pathlib, sys\n"
        "from pivottrace.labels.store import LabelStore, read_labels\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "sys.stdin.readline()\n"  # all begin at once
        "LabelStore(path, 9)\n"
        "print(len(read_labels(path)))\n"
    )
    command = [sys.executable, "-c", script, str(old)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    workers = [subprocess.Popen(command, **pipes) for _ in range(3)]
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    assert [worker.communicate()[0] for worker in workers] == 3 * ["4\n"]
    assert contents(old) == (4, ["answers", "remarks"], MOVED)


@pytest.mark.parametrize("opener", [read_labels, lambda path: LabelStore(path, 9)])
def test_a_store_of_a_newer_version_is_refused_with_its_cure(old, opener):
    with closing(sqlite3.connect(old)) as connection:
        connection.execute("PRAGMA user_version = 5")
    message = "label store of version 5: a newer PivotTrace made it.*Install the newer one"
    with pytest.raises(DataError, match=message):
        opener(old)
    assert contents(old) == (5, ["labels"], ROWS)


@pytest.mark.parametrize("version", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("table", ["things", "labels", "answers"])
@pytest.mark.parametrize("opener", [read_labels, lambda path: LabelStore(path, 9)])
def test_another_programs_database_is_refused(tmp_path, opener, table, version):
    path = tmp_path / "other.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"CREATE TABLE {table} (id INTEGER, name TEXT)")
        connection.execute(f"PRAGMA user_version = {version}")
    before = path.read_bytes()
    with pytest.raises(
        DataError, match=rf"another program.* \(its tables: {table}\). Move it away"
    ):
        opener(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [(table,)]
    assert len(path.read_bytes()) == len(before)


def test_a_store_in_which_nothing_was_made_has_no_labels(tmp_path):
    path = tmp_path / "labels.sqlite"
    path.touch()  # what a kill leaves before the table is there
    assert read_labels(path) == {}
    assert LabelStore(path, allowed=1).add_many([Given("q", "1", "file", "probe")]).new == 1
    assert read_labels(path).keys() == {"q"}


def test_the_schema_names_no_source(tmp_path):
    LabelStore(tmp_path / "labels.sqlite", allowed=1)
    with closing(sqlite3.connect(tmp_path / "labels.sqlite")) as connection:
        made = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'answers'").fetchone()
    assert not {"column", "oracle", "file", "page"} & set(made[0].replace("'", " ").split())


@pytest.mark.parametrize("first", [None, 0, 1, 3, 4, 5])
def test_a_store_of_version_3_is_read_as_it_was_before_and_after_it_moves(of_3, first):
    before, files = read_answers(of_3, first), {p: p.read_bytes() for p in of_3.parent.iterdir()}
    rows = ROWS_3 if first is None else ROWS_3[:first]
    assert sum(map(len, before.values())) == len(rows)
    assert {a.number for of in before.values() for a in of} == {row[0] for row in rows}
    assert num_stored(of_3) == len(ROWS_3) and read_remarks(of_3) == []
    assert {p: p.read_bytes() for p in of_3.parent.iterdir()} == files
    moved = LabelStore(of_3, allowed=3)
    assert contents(of_3) == (4, ["answers", "remarks"], [(*row, 0, None) for row in ROWS_3])
    assert read_answers(of_3, first) == before
    assert moved.withdraw("q3", "Ana").answer is None
    assert read_answers(of_3, len(ROWS_3)) == read_answers(of_3) | {
        "q3": read_answers(of_3, 5)["q3"]
    }
    moved.remark(Remark("q1", "Ana", "skipped"))
    assert [remark[:3] for remark in read_remarks(of_3)] == [("q1", "Ana", "skipped")]


@pytest.mark.parametrize("statements_before", range(8))
def test_a_process_killed_while_it_moves_version_3_leaves_it(of_3, statements_before):
    script = KILLED.format(statements="FROM_3")
    before = read_answers(of_3)
    command = [sys.executable, "-c", script, str(of_3), str(statements_before)]
    assert subprocess.run(command, timeout=60).returncode == -9
    assert read_answers(of_3) == before and contents(of_3) == (3, ["answers"], ROWS_3)
    LabelStore(of_3, allowed=9)
    assert read_answers(of_3) == before

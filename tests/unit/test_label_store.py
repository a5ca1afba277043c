"""The label store's budget and the label files, by what is on the disk afterwards."""

import csv
import json
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pivottrace.errors import BudgetError, DataError, RunDirError
from pivottrace.labels.exchange import (
    ImportedAnswers,
    Request,
    export_requests,
    read_answers,
)
from pivottrace.labels.file_rows import escaped, unescaped
from pivottrace.labels.store import LabelStore, read_labels
from pivottrace.verifier import Verifier


@pytest.fixture
def path(tmp_path):
    return tmp_path / "labels.sqlite"


def stored(path):
    """What the file holds, read without our code."""
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT question_id, answer FROM labels ORDER BY 1").fetchall()
    connection.close()
    return rows


def test_adds_and_reads_back(path):
    store = LabelStore(path, allowed=3)
    assert store.add("q2", " 18 ", "file", "probe") is True
    assert store.add("q1", "x", "oracle", "annotation") is True
    labels = read_labels(path)
    assert list(labels) == ["q1", "q2"]
    label = labels["q2"]
    assert (label.answer, label.source, label.purpose) == ("18", "file", "probe")
    assert label.created_at.endswith("+00:00")


def test_same_answer_again_changes_nothing(path):
    store = LabelStore(path, allowed=1)
    store.add("q", "18", "file", "probe")
    before = read_labels(path)
    assert store.add("q", "18 ", "oracle", "annotation") is False  # though the budget is spent
    assert read_labels(path) == before


def test_conflict_names_both_answers_and_stores_nothing(path):
    store = LabelStore(path, allowed=9)
    store.add("q1", "18", "column", "probe")
    rows = [("q2", "5", "file", "probe"), ("q1", "19", "file", "probe")]
    with pytest.raises(DataError, match=r"'q1' already has the answer '18'.*now given '19'"):
        store.add_many(rows)
    with pytest.raises(DataError, match="'q3'"):  # a conflict within the rows
        store.add_many([("q3", "1", "file", "probe"), ("q3", "2", "file", "probe")])
    assert stored(path) == [("q1", "18")]


def test_budget_is_all_or_nothing(path):
    store = LabelStore(path, allowed=3)
    store.add("q0", "0", "oracle", "probe")
    rows = [(f"q{i}", str(i), "oracle", "probe") for i in range(4)]
    with pytest.raises(BudgetError, match="3 new labels on top of 1 pass the budget of 3"):
        store.add_many(rows)
    assert stored(path) == [("q0", "0")]
    assert store.add_many(rows[:3]) == 2
    assert len(stored(path)) == 3
    assert store.add_many([]) == 0


def test_impossible_budgets_are_refused(path):
    with pytest.raises(BudgetError, match="negative"):
        LabelStore(path, allowed=-1)
    LabelStore(path, allowed=2).add_many([("a", "1", "file", "probe"), ("b", "2", "file", "probe")])
    with pytest.raises(BudgetError, match="already holds 2 labels, more than the budget of 1"):
        LabelStore(path, allowed=1)
    nothing = LabelStore(path.with_name("empty.sqlite"), allowed=0)
    with pytest.raises(BudgetError):
        nothing.add("a", "1", "file", "probe")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("", "1", "file", "probe"), "question_id is ''"),
        (("a", " ", "file", "probe"), "answer is ' '"),
        (("a", None, "file", "probe"), "answer is None"),
        (("a", "1", "guess", "probe"), "source 'guess' is unknown"),
        (("a", "1", "file", "fun"), "purpose 'fun' is unknown"),
    ],
)
def test_bad_rows_are_refused(path, row, message):
    store = LabelStore(path, allowed=9)
    with pytest.raises(DataError, match=message):
        store.add_many([("good", "1", "file", "probe"), row])
    assert stored(path) == []


def test_files_that_are_no_label_store(tmp_path):
    text = tmp_path / "text.sqlite"
    text.write_text("not a database, and long enough to be read as one\n" * 40)
    with pytest.raises(DataError, match=r"damaged, or no label store .* from a copy"):
        LabelStore(text, 1)
    other = tmp_path / "other.sqlite"
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE things (x)")
    connection.close()
    with pytest.raises(
        DataError, match=r"of another program, not a label store \(its tables: things\). Move it"
    ):
        LabelStore(other, 1)
    with pytest.raises(RunDirError, match="check that its folder exists"):
        LabelStore(tmp_path / "absent" / "labels.sqlite", 1)


ALLOWED = 20


SPEND = """
from contextlib import suppress
from pivottrace.errors import BudgetError

def spend(store, worker):
    added = 0
    for i in range(15):
        with suppress(BudgetError):
            added += store.add(f"w{worker}-{i}", "1", "file", "annotation")
    return added
"""


def test_threads_cannot_pass_the_budget_together(path):
    store = LabelStore(path, ALLOWED)
    scope = {}
    exec(SPEND, scope)
    with ThreadPoolExecutor(4) as pool:
        added = list(pool.map(lambda worker: scope["spend"](store, worker), range(4)))
    assert sum(added) == ALLOWED == len(stored(path))


def test_processes_cannot_pass_the_budget_together(path):
    script = SPEND + (
        "import pathlib, sys\n"
        "from pivottrace.labels.store import LabelStore\n"
        "store = LabelStore(pathlib.Path(sys.argv[1]), int(sys.argv[2]))\n"
        "print(spend(store, sys.argv[3]))\n"
    )
    command = [sys.executable, "-c", script, str(path), str(ALLOWED)]
    workers = [subprocess.Popen([*command, str(i)], stdout=subprocess.PIPE) for i in range(3)]
    added = [int(worker.communicate(timeout=60)[0]) for worker in workers]
    assert sum(added) == ALLOWED == len(stored(path))


REQUESTS = [
    Request("q1", "What is 3 - 8?", "probe"),
    Request("007", '=HYPERLINK("http://evil") said "hi",\nthen é \u2028', "annotation"),
    Request("=1+1", "-5 or +5?", "annotation"),
    Request("'=1+1", "a decoy of the id above", "annotation"),
    Request("-3", "plain", "annotation"),
]
IDS = {request.id for request in REQUESTS}


def fill_csv(path, answers, encoding="utf-8", **dialect):
    """What a spreadsheet does: read the cells, write the answer column, save."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["answer"] = answers.get(row["id"], "")
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.DictWriter(file, rows[0].keys(), **dialect)
        writer.writeheader()
        writer.writerows(rows)


def test_csv_cells_are_what_they_should_be(tmp_path):
    path = tmp_path / "labels.csv"
    export_requests(path, REQUESTS)
    assert path.read_bytes().startswith(b"\xef\xbb\xbfid,question,answer,purpose\r\n")
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["q1", "007", "'=1+1", "''=1+1", "-3"]
    assert rows[1]["question"] == "'" + REQUESTS[1].question
    assert {row["answer"] for row in rows} == {""}
    assert [row["purpose"] for row in rows] == [request.purpose for request in REQUESTS]
    assert not [p for p in tmp_path.iterdir() if p != path]


@pytest.mark.parametrize(
    ("encoding", "dialect", "number"),
    [
        ("utf-8-sig", {}, "1234"),
        ("utf-8", {"lineterminator": "\n"}, "1234"),
        ("utf-8", {"delimiter": ";"}, "1.234"),  # where a semicolon separates, 1,234 is 1.234
        ("utf-8-sig", {"delimiter": "\t", "quoting": csv.QUOTE_ALL}, "1234"),
    ],
)
def test_csv_round_trip_through_spreadsheets(tmp_path, encoding, dialect, number):
    path = tmp_path / "labels.csv"
    export_requests(path, REQUESTS)
    cells = {"q1": " -5 ", "007": "'-5", "'=1+1": "two", "''=1+1": "1,234"}
    fill_csv(path, cells, encoding, **dialect)
    assert read_answers(path, IDS) == ImportedAnswers(
        [("q1", "-5"), ("007", "-5"), ("=1+1", "two"), ("'=1+1", number)], blank=1
    )


@pytest.mark.parametrize(
    ("text", "answers", "blank"),
    [
        ("id,answer\nq1,The answer is 25\n007,\\boxed{15}\n", {"q1": "25", "007": "15"}, 0),
        ('id,answer\nq1,"31+9=40. #### 40"\n007,9 (apples)\n', {"q1": "40", "007": "9"}, 0),
        ("id,answer\nq1,NA\n007,Don't know\n=1+1,?\n-3,7\n", {"-3": "7"}, 3),
        ("id,answer\nq1,none\n007,no\n", {"007": "no"}, 1),
        ("id,answer,annotator\nq1,25,ann\nq1,25.0,bob\n", {"q1": "25"}, 0),
        ("id,answer,annotator\nq1,25.0,ann\nq1,25,bob\nq1,50/2,cy\n", {"q1": "25.0"}, 0),
        ("id,answer,annotator\nq1,idk,ann\nq1,25,bob\n", {"q1": "25"}, 1),
        ("id,answer\nq1,1/2 ||| 0.5\nq1,0.5\n", {"q1": "1/2 ||| 0.5"}, 0),
        ("id;answer\nq1;3,5\n007;1.200,25\n", {"q1": "3.5", "007": "1200.25"}, 0),
        ("id;answer\nq1;3,5\nq1;3.5\n", {"q1": "3.5"}, 0),
        ('id,answer\nq1,"3,5"\n007,"1,200"\n', {"q1": "3,5", "007": "1200"}, 0),
    ],
)
def test_answers_are_read_as_golds(tmp_path, text, answers, blank):
    path = tmp_path / "labels.csv"
    path.write_text(text)
    assert read_answers(path, IDS) == ImportedAnswers(list(answers.items()), blank=blank)


@pytest.mark.parametrize("answers", list(permutations(["25%", "25", "0.25"])))
def test_every_two_people_agree_whatever_the_order_of_their_rows(tmp_path, answers):
    path = tmp_path / "labels.csv"
    path.write_text("id,answer\n" + "".join(f"q1,{answer}\n" for answer in answers))
    with pytest.raises(DataError, match=r"'q1' is answered '0?\.?25' here and '0?\.?25' in row"):
        read_answers(path, IDS)


def test_the_run_decides_which_answers_agree(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("id,answer\nq1,25\nq1,25.0\n")
    message = r"row 2 \(line 3\), column answer: .*'q1' is answered '25.0' here and '25' in row 1"
    with pytest.raises(DataError, match=message):
        read_answers(path, IDS, Verifier("exact").equal)
    path.write_text("id,answer\nq1,Result: 7 of 9\n")
    assert read_answers(path, IDS, pattern=r"Result: (\d+)").answers == [("q1", "7")]


@given(st.text(alphabet="'=+-@\t\r15a,.", max_size=6))
def test_escaping_is_undone_and_disarms(cell):
    written = escaped(cell)
    assert unescaped(written) == cell
    if written[:1] in ("=", "+", "-", "@", "\t", "\r"):
        float(written.replace(",", ""))  # only plain numbers may begin like a formula


def test_jsonl_round_trip_and_numbers_as_written(tmp_path):
    path = tmp_path / "labels.jsonl"
    export_requests(path, REQUESTS)
    records = [json.loads(line) for line in path.read_text().split("\n") if line]
    expected = [
        {"id": r.id, "question": r.question, "answer": "", "purpose": r.purpose} for r in REQUESTS
    ]
    assert records == expected
    lines = ['{"id": "q1", "answer": 18}', '{"id": "007", "answer": 0.10}', ""]
    lines += ['{"id": "=1+1", "answer": null}', '{"id": -3, "answer": " x "}']
    path.write_bytes("\r\n".join(["\ufeff" + lines[0], *lines[1:]]).encode())
    assert read_answers(path, IDS) == ImportedAnswers(
        [("q1", "18"), ("007", "0.10"), ("-3", "x")], blank=1
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,answer\nq1,1\nq9,2\n", r"row 2 \(line 3\), column id: 'q9' is not a question"),
        ("id,answer\n7,2\n", "spreadsheets drop leading zeros"),
        ("id,answer\nq1,1\n007,3\nq1,2\n", r"row 3 .*'q1' is answered '2' here and '1' in row 1"),
        ("id,reply\nq1,1\n", r"column answer is missing \(found: id, reply\)"),
        ("id,answer,answer\nq1,1,2\n", "column answer occurs twice"),
        ("", r"column id is missing \(found: nothing\)"),
        ("id,answer\nq1,1,234\n", "3 cells under 2 columns"),
        ("id,answer\nq1,1\n007\n", r"row 2 \(line 3\): 1 cells under 2 columns"),  # torn
        ('id,answer\nq1,"1\n007,2\n', "double quote that is never closed"),
        ("id,answer\n ,5\n", "row 1 .*column id: is empty"),
        (f"id,answer\nq1,{'9' * 1001}\n", "1001 characters"),
        (
            "id,answer\nq1,1\n007,We take nine of them. Then five stay.\n",
            r"row 2 \(line 3\), column answer: 'We take nine.* is a derivation without a final",
        ),
        ("id,answer\nq1,1\n007,25?\n", r"row 2 \(line 3\), column answer: '25\?' is a guess; give"),
        ("id,answer\nq1,25\nq1,26\n", r"row 2 .*'q1' is answered '26' here and '25' in row 1"),
    ],
)
def test_bad_csv_is_refused_by_row(tmp_path, text, message):
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_answers(path, IDS)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "q1", "answer": true}', "row 2, column answer: is a JSON bool"),
        ('{"id": "q1", "answer": ["5"]}', "row 2, column answer: is a JSON list"),
        ('{"id": {"a": 1}, "answer": "5"}', "row 2, column id: is a JSON dict"),
        ('{"id": null, "answer": "5"}', "row 2, column id: is empty"),
        ('{"id": "q1", "answer": NaN}', "row 2: not valid JSON .*NaN"),
        ('{"id": "q1"}', "row 2: column answer is missing"),
        ('{"id": "q1", "ans', "row 2: not valid JSON"),
        ("[" * 100_000, "row 2: not valid JSON"),
        ('"q1"', "row 2: is not a JSON object"),
        ('{"id": "q9", "answer": ""}', "row 2, column id: 'q9' is not a question"),
    ],
)
def test_bad_jsonl_is_refused_by_row(tmp_path, line, message):
    path = tmp_path / "labels.jsonl"
    path.write_text('{"id": "007", "answer": "1"}\n' + line + "\n")
    with pytest.raises(DataError, match=message):
        read_answers(path, IDS)


def test_unreadable_files_are_refused(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_answers(tmp_path / "absent.csv", IDS)
    with pytest.raises(DataError, match=r"end in \.csv or \.jsonl"):
        read_answers(tmp_path / "labels.xlsx", IDS)
    path = tmp_path / "labels.csv"
    path.write_bytes("id,answer\nq1,é\n".encode("cp1252"))
    with pytest.raises(DataError, match="byte 13 is not UTF-8"):
        read_answers(path, IDS)


def test_blank_and_repeated_rows(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("ID, Answer \n\nq1,\n,\nq1,18\nq1,18\n007,\n")
    assert read_answers(path, IDS) == ImportedAnswers([("q1", "18")], blank=2)


@pytest.mark.parametrize("name", ["labels.csv", "labels.jsonl"])
def test_filled_answers_are_never_lost(tmp_path, name):
    path = tmp_path / name
    export_requests(path, REQUESTS[:2])
    export_requests(path, REQUESTS[:3])  # nothing filled in yet: replaced
    if path.suffix == ".csv":
        fill_csv(path, {"q1": "-5"})
    else:
        path.write_text(path.read_text().replace('"answer": ""', '"answer": "-5"', 1))
    filled = path.read_bytes()
    export_requests(path, REQUESTS[:3])  # the same ids
    export_requests(path, REQUESTS[1:3])  # q1 is imported meanwhile, the others still wait
    assert path.read_bytes() == filled
    with pytest.raises(DataError, match="1 answers filled in and lacks 1 questions"):
        export_requests(path, REQUESTS[:4])
    assert path.read_bytes() == filled
    path.write_text("something else\n")
    with pytest.raises(DataError, match="The file is left as it is"):
        export_requests(path, REQUESTS)
    assert path.read_text() == "something else\n"


def test_export_refuses_ids_that_cannot_come_back(tmp_path):
    path = tmp_path / "labels.csv"
    for ids, message in (
        (["a", "a"], "'a' is repeated"),
        (["a", " "], "row 2, column id: is empty"),
        (["\ud83d"], "cannot be written"),
    ):
        with pytest.raises(DataError, match=message):
            export_requests(path, [Request(i, "question", "probe") for i in ids])
    with pytest.raises(DataError, match="its folder does not exist"):
        export_requests(tmp_path / "absent" / "labels.csv", REQUESTS)
    assert not path.exists()


def test_hostile_question_text_is_written_readably(tmp_path):
    path = tmp_path / "labels.csv"
    export_requests(path, [Request("a", "\0half \ud83d" + "x" * 200_000, "probe")])
    with path.open(newline="", encoding="utf-8-sig") as file:
        (row,) = csv.DictReader(file)
    assert row["question"].startswith("half ?xx")
    assert len(row["question"]) < 32_767
    assert row["question"].endswith("the whole question is in the pool]")

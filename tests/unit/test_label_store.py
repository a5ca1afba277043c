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
from pivottrace.labels.exchange import Request, export_requests, read_answers, refuse
from pivottrace.labels.file_rows import escaped, unescaped
from pivottrace.labels.store import Given, LabelStore, Stored, read_labels
from pivottrace.labels.store import read_answers as stored_answers
from pivottrace.verifier import Verifier
from pivottrace.verifier.gold import agree


@pytest.fixture
def path(tmp_path):
    return tmp_path / "labels.sqlite"


def stored(path):
    """What the file holds, read without our code."""
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT question_id, answer FROM answers ORDER BY 1, 2").fetchall()
    connection.close()
    return rows


def give(question_id, answer="1", source="file", purpose="probe", **more):
    return Given(question_id, answer, source, purpose, **more)


def add(store, *answer, **more):
    """Add one answer; whether its question is new."""
    return store.add_many([give(*answer, **more)]).new == 1


def test_adds_and_reads_back(path):
    store = LabelStore(path, allowed=3)
    assert add(store, "q2", " 18 ")
    assert add(store, "q1", "x", "oracle", "annotation", annotator=" Ann ")
    labels = read_labels(path)
    assert list(labels) == ["q1", "q2"]
    label = labels["q2"]
    assert (label.answer, label.source, label.purpose) == ("18", "file", "probe")
    assert label.created_at.endswith("+00:00")
    assert (labels["q1"].annotator, label.annotator) == ("Ann", None)


def test_same_answer_again_changes_nothing(path):
    store = LabelStore(path, allowed=1)
    add(store, "q", "18")
    before = read_labels(path)
    assert not add(store, "q", "18 ", "oracle", "annotation")  # though the budget is spent
    assert read_labels(path) == before and len(stored(path)) == 1


def verdicts(path):
    return [(a.answer, a.annotator, a.verdict) for a in stored_answers(path)["q"]]


def test_people_who_differ_leave_the_label_disputed_until_it_is_settled(path):
    store = LabelStore(path, allowed=1)
    for annotator, answer in (("ann", "18"), ("bob", "18"), ("bob", "18"), ("cy", "19")):
        found = store.add_many([give("q", answer, annotator=annotator)])
    assert found == Stored(new=0, settled=0, differing=("q",))
    assert store.add_many([give("q", "19", annotator="cy")]).differing == ()  # known already
    label = read_labels(path)["q"]
    assert (label.answer, label.annotator, label.disputed) == ("18", "ann", True)
    assert store.add_many([give("q", "19", annotator="di", settles=True)]).settled == 1
    label = read_labels(path)["q"]
    assert (label.answer, label.annotator, label.disputed) == ("19", "di", False)
    assert [verdict for *_, verdict in verdicts(path)] == ["first", "agrees", "differs", "settles"]
    assert store.add_many([give("q", "19", settles=True)]).settled == 0  # nothing to settle
    store.add_many([give("q", "20", annotator="eve")])
    assert read_labels(path)["q"].disputed


@pytest.mark.parametrize("answers", list(permutations(["25%", "25", "0.25"])))
def test_every_two_people_have_to_agree_whatever_their_order(path, answers):
    store = LabelStore(path, allowed=1)
    with Verifier("math") as verifier:
        for number, answer in enumerate(answers):
            row = give("q", answer, annotator=str(number))
            store.add_many([row], lambda a, b: agree(a, b, verifier.equal))
    assert read_labels(path)["q"].disputed


def test_no_answer_is_an_answer_of_its_own(path):
    store = LabelStore(path, allowed=2)
    store.add_many([give("a", None), give("b", "5")])
    assert read_labels(path)["a"].answer is None
    assert store.add_many([give("a", "3"), give("b", None)]).differing == ("a", "b")


def test_owned_labels_cost_no_budget_whoever_corrects_them(path):
    store = LabelStore(path, allowed=1)
    store.add_many([give("a", "1", owned=True), give("b", "2", owned=True)])
    assert add(store, "c", "3")
    store.add_many([give("a", "4", settles=True)])
    assert {i: (each.answer, each.owned) for i, each in read_labels(path).items()} == {
        "a": ("4", True),
        "b": ("2", True),
        "c": ("3", False),
    }
    with pytest.raises(BudgetError):
        add(store, "d", "5")


def test_budget_is_all_or_nothing(path):
    store = LabelStore(path, allowed=3)
    add(store, "q0", "0", "oracle")
    rows = [give(f"q{i}", str(i), "oracle") for i in range(4)]
    with pytest.raises(BudgetError, match="3 new labels on top of 1 pass the budget of 3"):
        store.add_many(rows)
    assert stored(path) == [("q0", "0")]
    assert store.add_many(rows[:3]).new == 2
    assert len(stored(path)) == 3
    assert store.add_many([]).new == 0


def test_impossible_budgets_are_refused(path):
    with pytest.raises(BudgetError, match="negative"):
        LabelStore(path, allowed=-1)
    LabelStore(path, allowed=2).add_many([give("a"), give("b")])
    with pytest.raises(BudgetError, match="already holds 2 labels, more than the budget of 1"):
        LabelStore(path, allowed=1)
    nothing = LabelStore(path.with_name("empty.sqlite"), allowed=0)
    with pytest.raises(BudgetError):
        add(nothing, "a")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (give(""), "question_id is ''"),
        (give("a", " "), "answer is ' '"),
        (give("a", 5), "answer is 5"),
        (give("a", annotator=" "), "annotator is ' '"),
        (give("a", source="guess"), "source 'guess' is unknown"),
        (give("a", purpose="fun"), "purpose 'fun' is unknown"),
    ],
)
def test_bad_rows_are_refused(path, row, message):
    store = LabelStore(path, allowed=9)
    with pytest.raises(DataError, match=message):
        store.add_many([give("good"), row])
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
from pivottrace.labels.store import Given

def spend(store, worker):
    added = 0
    for i in range(15):
        with suppress(BudgetError):
            added += store.add_many([Given(f"w{worker}-{i}", "1", "file", "annotation")]).new
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


def given_in(path, **options):
    """What a file gives: (id, answer, annotator) each, and how many rows are blank."""
    found = read_answers(path, IDS, **options)
    refuse(str(path), found.problems)
    return [row[:3] for row in found.rows], len(found.blank)


REQUESTS = [
    Request("q1", "What is 3 - 8?", "probe"),
    Request("007", '=HYPERLINK("http://evil") said "hi",\nthen é \u2028', "annotation"),
    Request("=1+1", "-5 or +5?", "annotation"),
    Request("'=1+1", "a decoy of the id above", "annotation"),
    Request("-3", "plain", "annotation"),
]
IDS = {request.id for request in REQUESTS}


def fill_csv(path, answers, encoding="utf-8", names=None, **dialect):
    """What a spreadsheet does: read the cells, write answers and names, save."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["answer"], row["annotator"] = answers.get(row["id"], ""), (names or {}).get(row["id"])
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.DictWriter(file, rows[0].keys(), **dialect)
        writer.writeheader()
        writer.writerows(rows)


def test_csv_cells_are_what_they_should_be(tmp_path):
    path = tmp_path / "labels.csv"
    export_requests(path, REQUESTS)
    assert path.read_bytes().startswith(b"\xef\xbb\xbfid,question,answer,annotator,purpose\r\n")
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["q1", "007", "'=1+1", "''=1+1", "-3"]
    assert rows[1]["question"] == "'" + REQUESTS[1].question
    assert {row["answer"] + row["annotator"] for row in rows} == {""}
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
    fill_csv(path, cells, encoding, {"q1": "Ann", "007": " Bob ", "-3": "Bob"}, **dialect)
    assert given_in(path) == (
        [("q1", "-5", "Ann"), ("007", "-5", "Bob"), ("=1+1", "two", None), ("'=1+1", number, None)],
        1,
    )


@pytest.mark.parametrize(
    ("text", "answers", "blank"),
    [
        ("id,answer\nq1,The answer is 25\n007,\\boxed{15}\n", ["q1 25", "007 15"], 0),
        ('id,answer\nq1,"31+9=40. #### 40"\n007,9 (apples)\n', ["q1 40", "007 9"], 0),
        ("id,answer\nq1,NA\n007,Don't know\n=1+1,?\n-3,7\n", ["-3 7"], 3),
        ("id,answer\nq1,none\n007,no\n", ["007 no"], 1),
        ("id,answer\nq1,1/2 ||| 0.5\nq1,0.5\n", ["q1 1/2 ||| 0.5", "q1 0.5"], 0),
        ("id;answer\nq1;3,5\n007;1.200,25\n", ["q1 3.5", "007 1200.25"], 0),
        ('id,answer\nq1,"3,5"\n007,"1,200"\n', ["q1 3,5", "007 1200"], 0),
        ("id,answer\nq1,Cannot be answered.\n007,unanswerable\n", ["q1 None", "007 None"], 0),
    ],
)
def test_answers_are_read_as_golds(tmp_path, text, answers, blank):
    path = tmp_path / "labels.csv"
    path.write_text(text)
    found, left = given_in(path)
    assert ([f"{i} {answer}" for i, answer, _ in found], left) == (answers, blank)


def test_people_have_names(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("ID,Answer,Annotator\nq1,25, ann \nq1,26,bob\n007,idk,ann\n=1+1,3,\n")
    named = [("q1", "25", "ann"), ("q1", "26", "bob"), ("=1+1", "3", None)]
    assert given_in(path) == (named, 1)
    path = tmp_path / "labels.jsonl"
    path.write_text('{"id": "q1", "answer": 25, "annotator": "ann"}\n')
    assert given_in(path) == ([("q1", "25", "ann")], 0)


def test_people_may_stand_by_what_cannot_be_read(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("id,answer\nq1,25?\n")
    with pytest.raises(DataError, match=r"row 1 .*'25\?' is a guess.*--confirm"):
        given_in(path)
    assert given_in(path, confirmed=True) == ([("q1", "25?", None)], 0)


def test_a_file_tells_all_its_problems_at_once(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("id,answer\nq1,25?\nq9,3\n007,7\n-3,We take 9. Then we add 8. So it goes on.\n")
    found = read_answers(path, IDS)
    assert found.answers == [("007", "7")]
    with pytest.raises(DataError) as caught:
        refuse(str(path), found.problems)
    first, *rows = str(caught.value).splitlines()
    assert first == f"{path}: 3 problems, and nothing of it is stored:"
    assert [row.split(",")[0].strip() for row in rows] == [
        "row 1 (line 2)",
        "row 2 (line 3)",
        "row 4 (line 5)",
    ]


def test_a_semicolon_file_decides_on_its_points_as_a_whole(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("id;answer\nq1;3.500 m\n007;3,5\n")
    found = read_answers(path, IDS)
    assert found.answers == [("q1", "3500 m"), ("007", "3.5")]
    assert "row 1 (line 2): '3.500 m' is 3500 m" in found.note
    path.write_text("id;answer\nq1;3.500\n007;3,5\n-3;2.25\n")
    with pytest.raises(DataError, match=r"column answer, row 1 \(line 2\): '3\.500' may"):
        read_answers(path, IDS)


def test_the_users_own_pattern_reads_labels_too(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("id,answer\nq1,Result: 7 of 9\n")
    assert given_in(path, pattern=r"Result: (\d+)")[0] == [("q1", "7", None)]


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
        {"id": r.id, "question": r.question, "answer": "", "annotator": "", "purpose": r.purpose}
        for r in REQUESTS
    ]
    assert records == expected
    lines = ['{"id": "q1", "answer": 18}', '{"id": "007", "answer": 0.10}', ""]
    lines += ['{"id": "=1+1", "answer": null}', '{"id": -3, "answer": " x "}']
    path.write_bytes("\r\n".join(["\ufeff" + lines[0], *lines[1:]]).encode())
    assert given_in(path) == ([("q1", "18", None), ("007", "0.10", None), ("-3", "x", None)], 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,answer\nq1,1\nq9,2\n", r"row 2 \(line 3\), column id: 'q9' is not a question"),
        ("id,answer\n7,2\n", "spreadsheets drop leading zeros"),
        ("id,answer,annotator,annotator\nq1,1,a,b\n", "column annotator occurs twice"),
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
    ],
)
def test_bad_csv_is_refused_by_row(tmp_path, text, message):
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        refuse(str(path), read_answers(path, IDS).problems)
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
        ('{"id": "q1", "answer": 1, "answer": 2}', "row 2: not valid JSON .*'answer' occurs twice"),
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
        refuse(str(path), read_answers(path, IDS).problems)


def test_unreadable_files_are_refused(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_answers(tmp_path / "absent.csv", IDS)
    with pytest.raises(DataError, match=r"end in \.csv or \.jsonl"):
        read_answers(tmp_path / "labels.xlsx", IDS)
    path = tmp_path / "labels.csv"
    path.write_bytes("id,answer\nq1,é\n".encode("cp1252"))
    with pytest.raises(DataError, match="byte 13 is not UTF-8"):
        refuse(str(path), read_answers(path, IDS).problems)


def test_blank_and_repeated_rows(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("ID, Answer \n\nq1,\n,\nq1,18\nq1,18\n007,\n")
    assert given_in(path) == ([("q1", "18", None)] * 2, 2)


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
    with pytest.raises(DataError, match="1 row filled in and lacks 1 question to be"):
        export_requests(path, REQUESTS[:4])
    assert path.read_bytes() == filled
    path.write_text("something else\n")
    with pytest.raises(DataError, match="The file is left as it is"):
        export_requests(path, REQUESTS)
    assert path.read_text() == "something else\n"


@pytest.mark.parametrize("name", ["labels.csv", "labels.jsonl"])
def test_a_file_with_names_alone_is_filled_in(tmp_path, name):
    path = tmp_path / name
    export_requests(path, REQUESTS[:2])
    if path.suffix == ".csv":
        fill_csv(path, {}, names={"q1": "Ann"})
    else:
        path.write_text(path.read_text().replace('"annotator": ""', '"annotator": "Ann"', 1))
    shared_out = path.read_bytes()
    export_requests(path, REQUESTS[:2])
    assert path.read_bytes() == shared_out and given_in(path) == ([], 2)


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

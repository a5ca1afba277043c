"""Which columns become the prompt, the answer and the id, and how ids come about."""

import hashlib
import json

import pyarrow as pa
import pyarrow.parquet as pq
from ingest_sources import refused, rows_of, user, write_jsonl

from pivottrace.errors import ConfigError
from pivottrace.ingest.questions import read_source

# Columns ---------------------------------------------------------------------------------------


def test_default_names_are_tried_in_order_and_the_map_wins(tmp_path):
    source = write_jsonl(
        tmp_path / "q.jsonl", [{"question": "Q?", "prompt": "P?", "target": "1", "solution": "2"}]
    )
    (row,) = rows_of(source)
    assert (row["prompt"], row["answer"]) == (user("P?"), "2")
    assert json.loads(row["extra"]) == {"question": "Q?", "target": "1"}
    (row,) = rows_of(source, column_map={"prompt": "question", "answer": "target"})
    assert (row["prompt"], row["answer"]) == (user("Q?"), "1")
    (row,) = rows_of(f"{source}?prompt=question&answer=", column_map={"answer": "target"})
    assert (row["prompt"], row["answer"]) == (user("Q?"), None)
    assert json.loads(row["extra"]) == {"prompt": "P?", "solution": "2", "target": "1"}


def test_a_map_reaches_into_nested_columns(tmp_path):
    source = write_jsonl(tmp_path / "q.jsonl", [{"prompt": "P?", "meta": {"gold": 7, "n": 1}}])
    (row,) = rows_of(source, column_map={"answer": "meta.gold"})
    assert row["answer"] == "7" and json.loads(row["extra"]) == {"meta": {"n": 1}}


def test_a_slip_inside_a_nested_name_does_not_lose_the_answers(tmp_path):
    rows = [{"prompt": "P?", "meta": {"gold": None}}, {"prompt": "Q?", "meta": {}}]
    rows += [{"prompt": f"{i}?", "meta": meta} for i, meta in enumerate((None, 5, "glo", [{}]))]
    source = write_jsonl(tmp_path / "q.jsonl", rows)
    message = refused(source, column_map={"answer": "meta.glod"})
    assert "no row has 'meta.glod' to be the answer; the nearest is 'meta.gold'" in message
    # None of its own, as a map for pool and evaluation together may have it.
    assert [r["answer"] for r in rows_of(source, column_map={"answer": "meta.truth"})] == [None] * 6
    assert rows_of(f"{source}?answer=", column_map={"answer": "meta.glod"})
    assert [r["answer"] for r in rows_of(source, column_map={"answer": "meta.gold"})] == [None] * 6


def test_default_names_are_known_in_any_case(tmp_path):
    path = tmp_path / "q.csv"
    path.write_text("\nID, Prompt,Answer,answer \nx,P?,1,2\n")
    (row,) = rows_of(str(path))
    assert (row["id"], row["prompt"], row["answer"]) == ("x", user("P?"), "1")
    path.write_text("prompt,Answer,answer\nP?,1,2\n")
    assert [r["answer"] for r in rows_of(str(path))] == ["2"], "its own spelling first"


def test_an_answer_that_only_a_late_row_has_is_read(tmp_path):
    source = write_jsonl(tmp_path / "q.jsonl", [{"prompt": "A?"}, {"prompt": "B?", "answer": 3}])
    assert [r["answer"] for r in rows_of(source)] == [None, "3"]


def test_wrong_columns_are_refused_with_the_nearest(tmp_path):
    source = write_jsonl(tmp_path / "q.jsonl", [{"task": "A?", "gold": 1}])
    message = refused(source)
    assert "no column is the prompt" in message and "task, gold" in message
    message = refused(source, column_map={"prompt": "tasks"})
    assert "no column 'tasks'" in message and "nearest is 'task'" in message
    spaced = write_jsonl(tmp_path / "s.jsonl", [{"Convert this": "3 km in m?", "key": 1}])
    assert "Name it, as in --map 'prompt=Convert this'" in refused(spaced)
    message = refused(source, ConfigError, column_map={"question": "task"})
    assert "'question' is not a field" in message


# Answers and ids that nobody named ---------------------------------------------------------------


def test_a_column_that_may_be_the_answer_is_named(tmp_path):
    row = {"question": "A?", "Lösung": "7", "my level": "easy", "Nr": 3}
    source = write_jsonl(tmp_path / "q.jsonl", [row])
    (note, ids) = read_source(source).notes
    assert "no column is the answer" in note and "left: Lösung, my level. If" in note
    assert "--map 'answer=Lösung'" in note and "--map id=Nr" in ids
    assert read_source(source, column_map={"answer": "", "id": ""}).notes == ()
    assert read_source(source, column_map={"answer": "Lösung", "id": ""}).notes == ()
    only = write_jsonl(tmp_path / "only.jsonl", [{"question": "A?", "id": "1"}])
    assert read_source(only).notes == ()


# Ids -------------------------------------------------------------------------------------------


def test_ids_from_content_do_not_depend_on_order(tmp_path):
    rows = [{"prompt": f"Number {i}?"} for i in range(5)]
    ahead = rows_of(write_jsonl(tmp_path / "a.jsonl", rows))
    back = rows_of(write_jsonl(tmp_path / "b.jsonl", rows[::-1]))
    assert [r["id"] for r in ahead] == [r["id"] for r in back][::-1]
    # The recipe itself is a contract: labels that were paid for are kept by these ids.
    recipe = hashlib.sha256(b"user 9\nNumber 0?").hexdigest()[:16]
    assert ahead[0]["id"] == recipe


def test_numeric_ids_become_text(tmp_path):
    pq.write_table(pa.table({"id": [1.0, 2.0], "prompt": ["A?", "B?"]}), tmp_path / "q.parquet")
    assert [r["id"] for r in rows_of(tmp_path / "q.parquet")] == ["1", "2"]

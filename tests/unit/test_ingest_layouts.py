"""Files in the layouts of real ones: the whole question is asked, or the refusal has the cure."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ingest_sources import refused, rows_of, write_jsonl
from question_layouts import LAYOUTS, Asks


def save(folder, file, content):
    path = folder / file
    if isinstance(content, str):
        path.write_text(content, encoding="utf-8")
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(content), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(content), encoding="utf-8")
    else:
        write_jsonl(path, content)
    return path


def check(rows, expected):
    if expected.golds is not None:
        assert [row["answer"] for row in rows] == expected.golds
    question = "\n".join(message["content"] for message in rows[0]["prompt"])
    assert all(message["role"] == "user" for message in rows[0]["prompt"])
    for text in expected.texts:
        assert text in question


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_asks_the_whole_question_or_is_refused_with_the_cure(tmp_path, name):
    file, content, expected = LAYOUTS[name]
    path = save(tmp_path, file, content)
    if isinstance(expected, Asks):
        check(rows_of(path), expected)
        return
    message = refused(path)
    for words in expected.words:
        assert words in message
    if expected.mended is not None:
        check(rows_of(path, **expected.then), expected.mended)


def test_most_layouts_of_the_field_load_at_once():
    assert len(LAYOUTS) == 61
    assert sum(isinstance(expected, Asks) for _, _, expected in LAYOUTS.values()) >= 46

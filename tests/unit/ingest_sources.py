"""Small sources of questions for the ingest tests: to write, to read and to see refused."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pivottrace.errors import DataError
from pivottrace.ingest import read_questions
from pivottrace.schemas import QUESTIONS

ROWS = [
    {"id": "a", "question": "What is 2 + 2?", "answer": "4", "level": 1},
    {"id": "b", "question": "What is 2 + 3?", "answer": None, "level": 2},
]


def user(text):
    return [{"role": "user", "content": text}]


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def rows_of(source, **options):
    table = read_questions(str(source), **options)
    assert table.schema == QUESTIONS
    return table.to_pylist()


def refused(source, error=DataError, **options):
    with pytest.raises(error) as caught:
        read_questions(str(source), **options)
    return str(caught.value)


def save_jsonl(folder):
    return write_jsonl(folder / "q.jsonl", ROWS)


def save_parquet(folder):
    pq.write_table(pa.Table.from_pylist(ROWS), folder / "q.parquet")
    return folder / "q.parquet"

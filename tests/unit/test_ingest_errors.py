"""Sources of questions: what each mistake in a row or a file is told."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ingest_sources import refused, save_jsonl, save_parquet, user, write_jsonl

from pivottrace.errors import ConfigError

BAD_ROWS = {
    "empty id": ([{"id": " ", "prompt": "A?"}], "line 1: column 'id': is empty"),
    "missing id": (
        [{"id": "a", "prompt": "A?"}, {"prompt": "B?"}],
        "line 2: column 'id': is empty. Give every row an id",
    ),
    "duplicate id": (
        [{"id": "a", "prompt": "A?"}, {"id": "b", "prompt": "B?"}, {"id": "a", "prompt": "C?"}],
        "line 3: column 'id': 'a' is also the id of line 1. Give each its own",
    ),
    "duplicate prompt": (
        [{"prompt": "A?"}, {"prompt": "B?"}, {"prompt": "A?"}],
        "line 3: column 'prompt': is the same question as line 1. Keep one",
    ),
    "text and messages alike": (
        [{"prompt": user("A?")}, {"prompt": "A?"}],
        "line 2: column 'prompt': is text, but it is list in line 1: the types are mixed",
    ),
    "empty prompt": ([{"prompt": "A?"}, {"prompt": " \n"}], "line 2: column 'prompt': is empty"),
    "null prompt": ([{"prompt": None}], "line 1: column 'prompt': is missing"),
    "numeric prompt": ([{"prompt": 5}], "is number, but a prompt is a text or a list"),
    "mixed answers": (
        [{"prompt": "A?", "answer": "1"}, {"prompt": "B?"}, {"prompt": "C?", "answer": 1}],
        "line 3: column 'answer': is number, but it is text in line 1: the types are mixed",
    ),
    "mixed ids": (
        [{"id": 1, "prompt": "A?"}, {"id": "2", "prompt": "B?"}],
        "line 2: column 'id': is text, but it is number in line 1",
    ),
    "object answer": ([{"prompt": "A?", "answer": {"x": 1}}], "is object, but an answer is"),
    "list answer": ([{"prompt": "A?", "answer": [1, 2]}], "is list, but an answer is"),
    "infinite answer": ([{"prompt": "A?", "answer": float("inf")}], "not a finite number"),
    "no messages": ([{"prompt": []}], "column 'prompt': is empty: no user message"),
    "message without role": (
        [{"prompt": [{"content": "A?"}]}],
        "message 1 has no role and content",
    ),
    "message without content": (
        [{"prompt": [{"role": "user"}]}],
        "message 1 has no role and content",
    ),
    "unknown role": (
        [{"prompt": [*user("A?"), {"role": "human", "content": "B?"}]}],
        "message 2 has the unknown role 'human'. Use system",
    ),
    "content in parts": (
        [{"prompt": [{"role": "user", "content": [{"text": "A?"}]}]}],
        "message 1: content is list. Only text",
    ),
    "more in a message": (
        [{"prompt": [{"role": "user", "content": "A?", "name": "Jo"}]}],
        "message 1 has 'name' beside role and content",
    ),
    "answer in the prompt": (
        [{"prompt": [*user("A?"), {"role": "assistant", "content": "4"}]}],
        "ends with an assistant message, which would give the answer away",
    ),
    "half a surrogate pair": ([{"prompt": "A\ud83d?"}], "character 2 is half a surrogate pair"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_bad_rows_are_refused_by_line_and_column(tmp_path, name):
    rows, expected = BAD_ROWS[name]
    source = write_jsonl(tmp_path / "q.jsonl", rows)
    message = refused(source)
    assert message.startswith(f"{source}: line ")
    assert expected in message


BAD_FILES = {
    "empty": ("q.jsonl", b"", "the file is empty"),
    "blank": ("q.jsonl", b"\n\n", "has no rows"),
    "suffix": ("q.txt", b"x", "files ending in '.txt' are not read; write the questions as one of"),
    "bad line": (
        "q.jsonl",
        b'{"prompt": "A?"}\n\n{"prompt": \n',
        "line 3: not valid JSON",
    ),
    "non-object": ("q.jsonl", b'{"prompt": "A?"}\n["B?"]\n', "line 2: is a list, not an object"),
    "latin-1": (
        "q.jsonl",
        b'{"prompt": "A?"}\n{"prompt": "\xe9?"}\n',
        "line 2: byte 13 (0xe9) is not UTF-8. Convert the file, with: iconv -f cp1252",
    ),
    "utf-16": ("q.csv", "prompt\nA?\n".encode("utf-16"), "with: iconv -f utf-16 -t utf-8 q.csv"),
    "huge number": ("q.jsonl", b'{"prompt": ' + b"1" * 5_000 + b"}", "line 1: not usable JSON"),
    "deep nesting": ("q.jsonl", b"[" * 100_000, "line 1: not usable JSON"),
    "jsonl named json": ("q.json", b'{"prompt": "A?"}\n{"prompt": "B?"}', "name it .jsonl"),
    "object": ("q.json", b'{"data": []}', "holds an object, not a list of objects"),
    "empty list": ("q.json", b"[]", "has no rows"),
    "list of texts": ("q.json", b'[{"prompt": "A?"}, "B?"]', "row 2: is a text, not an object"),
    "header only": ("q.csv", b"prompt,answer\n", "has no rows"),
    "short row": ("q.csv", b"prompt,answer\nA?,1\nB?\n", "row 2: has 1 fields, the header has 2"),
    "open quote": ("q.csv", b'prompt\n"A?\nB?\n', "not valid CSV"),
    "same column": (
        "q.csv",
        b"prompt,prompt\nA?,B?\n",
        "column 'prompt' occurs twice",
    ),
    "CSV cell": ("q.csv", b"prompt,answer\nA?,1\n,2\n", "row 2: column 'prompt': is missing"),
    "not parquet": ("q.parquet", b"PAR1 but not really", "not a whole parquet file"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_refused(tmp_path, name):
    file, content, expected = BAD_FILES[name]
    (tmp_path / file).write_bytes(content)
    message = refused(tmp_path / file)
    assert message.startswith(str(tmp_path / file))
    assert expected in message


def test_missing_sources_are_refused(tmp_path, monkeypatch):
    assert "no such file. Check the path" in refused(tmp_path / "none.jsonl")
    assert "was not written by save_to_disk" in refused(tmp_path)
    save_jsonl(tmp_path)
    message = refused(f"{tmp_path}/q.jsonl?colour=red", ConfigError)
    assert "'colour' is not an option" in message
    assert "a single file has no splits" in refused(tmp_path / "q.jsonl", ConfigError, split="x")


def test_a_torn_parquet_file_and_a_text_that_is_not_utf8_are_refused(tmp_path):
    whole = save_parquet(tmp_path)
    (tmp_path / "torn.parquet").write_bytes(whole.read_bytes()[:-20])
    assert "not a whole parquet file" in refused(tmp_path / "torn.parquet")
    bytes_column = pa.array([b"A?", b"\xe9?"], pa.binary())
    text = pa.StringArray.from_buffers(2, bytes_column.buffers()[1], bytes_column.buffers()[2])
    pq.write_table(pa.table({"prompt": text}), tmp_path / "latin.parquet")
    assert "row 2: column 'prompt': not UTF-8" in refused(tmp_path / "latin.parquet")

"""Sources of questions: what each mistake in a row or a file is told."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ingest_sources import refused, save_jsonl, save_parquet, user, write_jsonl

from pivottrace.errors import ConfigError
from pivottrace.ingest.questions import read_source

BAD_ROWS = {
    "duplicate prompt": (
        [{"prompt": "A?", "answer": 1}, {"prompt": "B?"}, {"prompt": "A?", "answer": 2}],
        "line 3: column 'prompt': is a duplicate of line 1, but their golds differ: '1' there",
    ),
    "text and messages alike": (
        [{"prompt": user("A?")}, {"prompt": "A?"}],
        "line 2: column 'prompt': is text, but it is list in line 1: the types are mixed",
    ),
    "empty prompt": ([{"prompt": "A?"}, {"prompt": " \n"}], "line 2: column 'prompt': is empty"),
    "null prompt": ([{"prompt": None}], "line 1: column 'prompt': is missing"),
    "numeric prompt": ([{"prompt": 5}], "is number, but a prompt is a text or a list"),
    "answers of true among texts": (
        [{"prompt": "A?", "answer": "1"}, {"prompt": "B?"}, {"prompt": "C?", "answer": True}],
        "line 3: column 'answer': is true or false, but it is text, a number or a list in line 1",
    ),
    "object answer": ([{"prompt": "A?", "answer": {"x": 1}}], "is object, but an answer is"),
    "list in a list answer": (
        [{"prompt": "A?", "answer": ["1", ["2"]]}],
        "is a list that holds list, but alternative answers are texts",
    ),
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
    "unknown sender": (
        [{"prompt": [{"from": "narrator", "value": "A?"}]}],
        "message 1 has the unknown role 'narrator'. Use system",
    ),
    "an image part": (
        [{"prompt": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]}],
        "message 1: a part of its content is 'image_url'. Only text is supported",
    ),
    "messages as Python text": (
        [{"prompt": "[{'role': 'user', 'content': 'A?'}]"}],
        "column 'prompt': is a list of messages written as a text that is not JSON",
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


BAD_IDS = {
    "empty id": ([{"id": " ", "prompt": "A?"}], "line 1: column 'id': is empty"),
    "missing id": (
        [{"id": "a", "prompt": "A?"}, {"prompt": "B?"}],
        "line 2: column 'id': is empty. Give every row an id",
    ),
    "repeated id": (
        [{"id": "a", "prompt": "A?"}, {"id": "b", "prompt": "B?"}, {"id": "a", "prompt": "C?"}],
        "line 3: column 'id': 'a' is also the id of line 1. Give each its own",
    ),
    "id that is a list": ([{"id": [1], "prompt": "A?"}], "is list, but an id is a text or"),
}


@pytest.mark.parametrize("name", BAD_IDS)
def test_bad_ids_are_refused_in_a_mapped_column_and_given_up_in_a_guessed_one(tmp_path, name):
    rows, expected = BAD_IDS[name]
    source = write_jsonl(tmp_path / "q.jsonl", rows)
    assert expected in refused(source, column_map={"id": "id"})
    read = read_source(source)
    assert all(len(made) == 16 for made in read.table["id"].to_pylist())
    (note,) = read.notes
    assert expected in note and note.endswith("Ids were made from the questions instead")
    assert [json.loads(e) for e in read.table["extra"].to_pylist()] == [
        {"id": row["id"]} if "id" in row else {} for row in rows
    ]


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
        "line 2: byte 13 (0xe9) is not UTF-8. Give q_utf8.jsonl in its place, made with: iconv "
        "-f cp1252 -t utf-8 ",
    ),
    "utf-16": (
        "q.csv",
        "prompt\nA?\n".encode("utf-16"),
        "in its place, made with: iconv -f utf-16 -t utf-8 ",
    ),
    "huge number": ("q.jsonl", b'{"prompt": ' + b"1" * 5_000 + b"}", "line 1: not usable JSON"),
    "key twice": (
        "q.jsonl",
        b'{"prompt": "A?", "answer": 1}\n{"prompt": "B?", "answer": 1, "answer": 2}\n',
        "line 2: not usable JSON (the key 'answer' occurs twice in one object)",
    ),
    "key twice in a list": (
        "q.json",
        b'[{"prompt": "A?", "extra": {"x": 1, "x": 2}}]',
        "the key 'x' occurs twice in one object",
    ),
    "deep nesting": ("q.jsonl", b"[" * 100_000, "line 1: not usable JSON"),
    "xml": ("q.xml", b"<a/>", "XML is not read, because every XML file has elements of its own"),
    "torn objects in a row": ("q.json", b'{"prompt": "A?"}\n{"prompt": "B?"', "line 2: not valid"),
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

"""Prompts as messages: from and value, JSON text, and contents in parts."""

import json

import pytest
from ingest_sources import rows_of, user, write_jsonl

from pivottrace.ingest.questions import read_source

TWO = [{"role": "system", "content": "Be brief."}, *user("8 rows of 7?")]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ([{"from": "human", "value": "A?"}], user("A?")),
        ([{"from": "user", "value": "A?"}], user("A?")),
        (
            [{"from": "system", "value": "Be brief."}, {"from": "human", "value": "8 rows of 7?"}],
            TWO,
        ),
        (
            [
                {"from": "human", "value": "One?"},
                {"from": "gpt", "value": "1"},
                {"from": "human", "value": "Two?"},
            ],
            [*user("One?"), {"role": "assistant", "content": "1"}, *user("Two?")],
        ),
        ([{"role": "user", "content": [{"type": "text", "text": "A?"}]}], user("A?")),
        ([{"role": "user", "content": ["A", {"text": "B?"}]}], user("A\nB?")),
        (
            [{"role": "user", "content": [{"type": "text", "text": "A?", "image_url": None}]}],
            user("A?"),
        ),
        ([{"role": "user", "content": "A?", "from": None, "value": None}], user("A?")),
        (json.dumps(TWO), TWO),
        (json.dumps([{"from": "human", "value": "A?"}]), user("A?")),
        (json.dumps(TWO[1]), TWO[1:]),
        ("[1, 2, 3]: which is largest?", user("[1, 2, 3]: which is largest?")),
        ('{"role": a word of a text', user('{"role": a word of a text')),
        ('[{"value": 3}] Its sum?', user('[{"value": 3}] Its sum?')),
        ('[{"from": "A", "to": "B"}]', user('[{"from": "A", "to": "B"}]')),
        ('[{"role": "user", "content": "A?"}', None),
        ("[{'role': 'user', 'content': 'A?'}]", None),
        ("array([{'content': 'A?', 'role': 'user'}],\n      dtype=object)", None),
        ('["a", "b"]', user('["a", "b"]')),
    ],
)
def test_prompts_as_messages(tmp_path, prompt, expected):
    source = write_jsonl(tmp_path / "q.jsonl", [{"prompt": prompt}])
    if expected is None:
        with pytest.raises(ValueError, match="a text that is not JSON"):
            rows_of(source)
    else:
        assert rows_of(source)[0]["prompt"] == expected


def test_messages_as_json_text_are_counted(tmp_path):
    rows = [{"prompt": json.dumps(user(f"{i}?"))} for i in range(3)]
    read = read_source(write_jsonl(tmp_path / "q.jsonl", rows))
    (note,) = read.notes
    assert note.endswith("prompts that were read from messages in JSON text: 3")


def test_a_json_file_may_hold_objects_in_a_row(tmp_path):
    rows = [{"prompt": "A?", "answer": 1}, {"prompt": "B?", "answer": 2}]
    for text in ("\n".join(map(json.dumps, rows)), " ".join(json.dumps(r, indent=1) for r in rows)):
        (tmp_path / "q.json").write_text(f"\n{text}\n\n")
        assert [r["answer"] for r in rows_of(tmp_path / "q.json")] == ["1", "2"]

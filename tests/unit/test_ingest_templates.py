"""The question from several columns, options with letters, and golds that name an option."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ingest_sources import refused, rows_of, user, write_jsonl

from pivottrace.errors import ConfigError
from pivottrace.ingest.questions import read_source

# The template ----------------------------------------------------------------------------------


def asked(tmp_path, template, **row):
    """The question that a template makes of one row."""
    (read,) = rows_of(write_jsonl(tmp_path / "q.jsonl", [row]), template=template)
    (message,) = read["prompt"]
    return message["content"]


@pytest.mark.parametrize(
    ("template", "row", "expected"),
    [
        ("{Body} {Ask}", {"Body": "Ann has 3.", "Ask": "And Bo?"}, "Ann has 3. And Bo?"),
        ("{qa.ask}", {"qa": {"ask": "Why?"}}, "Why?"),
        ("{a.b}", {"a.b": "A name with a dot?"}, "A name with a dot?"),
        (r"Box it: \boxed{{}}. {q}", {"q": "2+2?"}, r"Box it: \boxed{}. 2+2?"),
        ("{x} plus {y}?", {"x": 3, "y": 2.5}, "3 plus 2.5?"),
        (r"{q}\n{options}", {"q": "Q?", "options": ["1", 2]}, "Q?\nA) 1\nB) 2"),
        (r"{q}\nA) {A}", {"q": "Q?", "A": 1}, "Q?\nA) 1"),
        (r"$n\ne{q}$", {"q": "3"}, r"$n\ne3$"),
        ("{lines}\n{q}", {"lines": ["one", "two"], "q": "Which?"}, "one\ntwo\nWhich?"),
        ("{t}\n{q}", {"t": [["", "2019"], ["a", 7]], "q": "a?"}, "| 2019\na | 7\na?"),
        ("{q}\n{hint?}", {"q": "Why?", "hint": None}, "Why?"),
        ("{q}\n{hint?}", {"q": "Why?", "hint": "Look."}, "Why?\nLook."),
        ("{q?}", {"q?": "Its name has a question mark?"}, "Its name has a question mark?"),
        ("{m}!", {"m": user("Hello")}, "Hello!"),
        ("{q}\n{options}", {"q": "Q?", "options": ["1", 2]}, "Q?\nA) 1\nB) 2"),
        ("{q}\n{options}", {"q": "Q?", "options": ["A. x", "B. y"]}, "Q?\nA. x\nB. y"),
        ("{q}\n{options}", {"q": "Q?", "options": ["A. x", "C. y"]}, "Q?\nA) A. x\nB) C. y"),
        ("{q}\n{Choices}", {"q": "Q?", "Choices": {"A": "x", "B": "y"}}, "Q?\nA) x\nB) y"),
        ("{q}\n{options}", {"q": "Q?", "options": '["x", "y"]'}, "Q?\nA) x\nB) y"),
        ("{q}\n{options}", {"q": "Q?", "options": "A: x; B: y"}, "Q?\nA: x; B: y"),
        (
            "{q}\n{choices}",
            {"q": "Q?", "choices": {"text": ["x", "y"], "label": ["1", "2"]}},
            "Q?\nA) x\nB) y",
        ),
        (
            "{q.stem}\n{q.choices}",
            {"q": {"stem": "Q?", "choices": [{"text": "x", "label": "A"}]}},
            "Q?\nA) x",
        ),
        ("{q}\n{list.options}", {"q": "Q?", "list": {"options": ["x"]}}, "Q?\nA) x"),
    ],
)
def test_templates(tmp_path, template, row, expected):
    assert asked(tmp_path, template, **row) == expected


def test_columns_of_the_template_stay_in_extra(tmp_path):
    row = {"id": "a", "q": "Q?", "options": ["x", "y"], "answer": "A"}
    (read,) = rows_of(write_jsonl(tmp_path / "q.jsonl", [row]), template="{q}\n{options}")
    assert json.loads(read["extra"]) == {"q": "Q?", "options": ["x", "y"]}


@pytest.mark.parametrize(
    ("template", "row", "error", "expected"),
    [
        ("{q", {"q": "A?"}, ConfigError, "the brace at character 1 has no partner"),
        ("q}", {"q": "A?"}, ConfigError, "the brace at character 2 has no partner"),
        ("Why?", {"q": "A?"}, ConfigError, "names no column"),
        ("{qq}", {"q": "A?"}, ValueError, "no column 'qq', which pool.template names"),
        ("{q}", {"q": None}, ValueError, "line 1: column 'template': 'q' is missing, and"),
        ("{q} {r.s}", {"q": "A?", "r": {}}, ValueError, "'r.s' is missing"),
        ("{q?}", {"q": " "}, ValueError, "column 'template': is empty"),
        ("{q}", {"q": {"a": "A?"}}, ValueError, "is object, which cannot stand in a question"),
        ("{q}", {"q": True}, ValueError, "is true or false, which cannot stand"),
        ("{q}", {"q": [{"a": 1}, {"a": 2}]}, ValueError, "holds object"),
        ("{q}{options}", {"q": "A?", "options": {"x": "1"}}, ValueError, "are not the letters A"),
        ("{q}{options}", {"q": "A?", "options": [["1"]]}, ValueError, "an option that is list"),
        ("{q}{options}", {"q": "A?", "options": ["1"] * 27}, ValueError, "has 27 options"),
        (
            "{options}{choices}",
            {"options": ["A?"], "choices": ["1"]},
            ValueError,
            "two lists of options",
        ),
    ],
)
def test_what_a_template_cannot_make_is_refused(tmp_path, template, row, error, expected):
    source = write_jsonl(tmp_path / "q.jsonl", [row])
    assert expected in refused(source, error, template=template)


def test_the_template_and_a_mapped_prompt_are_refused_together_but_a_sources_own_wins(tmp_path):
    source = write_jsonl(tmp_path / "q.jsonl", [{"body": "Ann has 3.", "q": "And Bo?"}])
    message = refused(source, ConfigError, template="{body} {q}", column_map={"prompt": "q"})
    assert "both say what the question is" in message
    (read,) = rows_of(f"{source}?prompt=q", template="{body} {q}", unused=["body"])
    assert read["prompt"] == user("And Bo?")
    # The embedded world has its own columns.
    assert rows_of("world:default?num=2", template="{body} {q}", unused=["body"])


# Columns that look like a part of the question ---------------------------------------------------


@pytest.mark.parametrize(
    ("row", "named", "line"),
    [
        ({"question": "Q?", "options": ["x"]}, "'options'", '"{question}\\n{options}"'),
        ({"question": "Q?", "Passage": "P."}, "'Passage'", '"{Passage}\\n{question}"'),
        ({"question": "Q?", "pre-text": ["P."]}, "'pre-text'", '"{pre-text}\\n{question}"'),
        ({"instruction": "Do.", "input": "P"}, "'input'", '"{instruction}\\n{input}"'),
        (
            {"q": "Q?", "A": "x", "B": "y", "prompt": "Q?"},
            "'A', 'B'",
            '"{prompt}\\nA) {A}\\nB) {B}"',
        ),
        ({"prompt": "Q?", "image": "iVBO"}, "'image'", 'unused = ["image"]'),
        ({"prompt": "Q?", "Incorrect Answer 1": "3"}, "'Incorrect Answer 1'", "unused ="),
        ({"question": "number0 + 2?", "Numbers": "3"}, "'Numbers'", "unused ="),
        (
            {"question": "Q?", "instruction": "Count."},
            "'instruction'",
            '"{instruction}\\n{question}"',
        ),
        ({"prompt": "Is 3 l a lot?", "context": "3"}, "'context'", '"{context}\\n{prompt}"'),
        ({"problem": "Q?", "Body": "ä"}, "'Body'", '"{Body} {problem}"'),
    ],
)
def test_a_lost_part_is_refused_with_the_line_to_add(tmp_path, row, named, line):
    source = write_jsonl(tmp_path / "q.jsonl", [row])
    message = refused(source)
    assert f"part of the question and would not be asked: {named}" in message
    assert line in message
    names = [name for name in row if f"'{name}'" in named]
    assert f"unused = {json.dumps(names)}" in message
    read = read_source(source, unused=names)
    assert read.unused == tuple(names)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Q?", "context": None, "options": [], "table": [[]], "input": " "},
        {"prompt": "Ann  has 3 pens.\nHow many?", "body": "Ann has 3 pens."},
        {"prompt": "Which?\nA) 3\nB) 4", "options": ["3", "4"]},
        {"prompt": "Which?\nA. 3\nB. 4", "choices": {"A": "3", "B": "4"}},
        {"prompt": "Which? a long one, or one more", "choices": ["a long one", "one more"]},
        {"prompt": "3 + 2?", "numbers": [3, 2]},
        {"prompt": "Q?", "subject": "Algebra", "solution": "2", "url": "u", "C": "x"},
    ],
)
def test_an_empty_part_and_one_that_the_question_has_are_no_loss(tmp_path, row):
    assert rows_of(write_jsonl(tmp_path / "q.jsonl", [row]))


def test_a_part_with_gaps_is_optional_in_the_suggested_template(tmp_path):
    rows = [{"prompt": "Q?", "context": None}, {"prompt": "R?", "context": "C."}]
    source = write_jsonl(tmp_path / "q.jsonl", rows)
    message = refused(source)
    assert "line 2" in message and 'template = "{context?}\\n{prompt}"' in message
    read = rows_of(source, template="{context?}\n{prompt}")
    assert [r["prompt"] for r in read] == [user("Q?"), user("C.\nR?")]


def test_a_template_that_lacks_a_part_is_refused_with_a_longer_one(tmp_path):
    row = {"body": "B.", "question": "Q?", "options": ["x", "y"]}
    message = refused(write_jsonl(tmp_path / "q.jsonl", [row]), template="{body} {question}")
    assert "'options'" in message and '"{body} {question}\\n{options}"' in message


def test_parts_beside_a_nested_prompt_are_seen(tmp_path):
    row = {"q": {"stem": "Q?", "choices": ["x", "y"]}, "answerKey": "A"}
    source = write_jsonl(tmp_path / "q.jsonl", [row])
    assert "'q.choices'" in refused(source, column_map={"prompt": "q.stem"})
    options = {"column_map": {"prompt": "q.stem"}, "unused": ["q.choices"]}
    assert rows_of(source, **options)[0]["prompt"] == user("Q?")


# Golds that name an option -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "golds", "expected", "words"),
    [
        ("answer", ["B", "(c)", "A."], ["B", "C", "A"], "letters of the options"),
        ("answer", [0, 2, 1], ["A", "C", "B"], "counted from 0"),
        ("answer", [1, 3, 2], ["A", "C", "B"], "counted from 1"),
        ("answer", ["1", "3", "2"], ["A", "C", "B"], "counted from 1"),
        ("answer", [1, 1, 2], ["B", "B", "C"], "counted from 0"),
        ("answer", ["red", "blue", "green"], ["A", "C", "B"], "contents of the options"),
        ("answer", ["A", "blue", None], ["A", "C", None], "letters or contents of the options"),
        ("label", [2, 0, 1], ["C", "A", "B"], "counted from 0"),
    ],
)
def test_a_gold_becomes_the_letter_of_its_option(tmp_path, column, golds, expected, words):
    rows = [
        {"question": f"{i}?", "options": ["red", "green", "blue"], column: gold}
        for i, gold in enumerate(golds)
    ]
    source = write_jsonl(tmp_path / "q.jsonl", rows)
    read = read_source(source, template="{question}\n{options}")
    assert read.table["answer"].to_pylist() == expected
    (note,) = read.notes
    assert words in note and f"column {column!r}" in note


@pytest.mark.parametrize(
    ("column", "expected", "words"),
    [("answer", ["C", "A"], "contents"), ("answer_index", ["B", "C"], "counted from 0")],
)
def test_numbers_among_the_options_are_contents_unless_the_column_is_an_index(
    tmp_path, column, expected, words
):
    rows = [
        {"question": f"{i}?", "options": options, column: gold}
        for i, (options, gold) in enumerate([([2, 3, 1], 1), ([2, 4, 5], 2)])
    ]
    source = write_jsonl(tmp_path / "q.jsonl", rows)
    options = {"template": "{question}\n{options}", "column_map": {"answer": column}}
    read = read_source(source, **options)
    assert read.table["answer"].to_pylist() == expected and words in read.notes[0]


def test_golds_that_name_no_option_are_counted_or_refused(tmp_path):
    rows = [{"question": f"{i}?", "options": ["x", "y"], "answer": i % 2} for i in range(40)]
    rows[7]["answer"] = 5
    source = write_jsonl(tmp_path / "q.jsonl", rows)
    read = read_source(source, template="{question}\n{options}")
    assert read.table["answer"].to_pylist()[5:9] == ["B", "A", None, "A"]
    assert (read.num_unreadable, read.unreadable[0].number) == (1, 8)
    assert "line 8: '5' names none of its options" in read.notes[1]
    for row in rows[20:]:
        row["answer"] = "z"
    write_jsonl(tmp_path / "q.jsonl", rows)
    message = refused(source, template="{question}\n{options}")
    assert "no answer could equal 21 of 40 golds in column 'answer'" in message


def test_options_of_a_parquet_struct_leave_out_missing_letters(tmp_path):
    choices = [{"A": "x", "B": "y", "C": None}, {"A": "x", "B": "y", "C": "z"}]
    table = pa.table({"question": ["Q?", "R?"], "choices": choices, "answer": ["B", "C"]})
    pq.write_table(table, tmp_path / "q.parquet")
    first, second = rows_of(tmp_path / "q.parquet", template="{question}\n{choices}")
    assert first["prompt"] == user("Q?\nA) x\nB) y") and second["answer"] == "C"

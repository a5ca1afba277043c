"""Sources of questions: what is read from each form, and what each mistake is told."""

import base64
import hashlib
import json
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pivottrace.errors import ConfigError, DataError
from pivottrace.ingest import format_prompt, read_questions, source_digest
from pivottrace.ingest.values import number_text, to_answer
from pivottrace.types import QUESTIONS

GSM8K = Path(__file__).parents[3] / "shared" / "data" / "gsm8k" / "test.jsonl"


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


ROWS = [
    {"id": "a", "question": "What is 2 + 2?", "answer": "4", "level": 1},
    {"id": "b", "question": "What is 2 + 3?", "answer": None, "level": 2},
]
EXPECTED = [("a", user("What is 2 + 2?"), "4", 1), ("b", user("What is 2 + 3?"), None, 2)]


def save_jsonl(folder):
    return write_jsonl(folder / "q.jsonl", ROWS)


def save_json(folder):
    (folder / "q.json").write_text(json.dumps(ROWS))
    return folder / "q.json"


def save_csv(folder):
    (folder / "q.csv").write_text(
        "\ufeffid,question,answer,level\na,What is 2 + 2?,4,1\n\nb,What is 2 + 3?,,2\n", "utf-8"
    )
    return folder / "q.csv"


def save_parquet(folder):
    pq.write_table(pa.Table.from_pylist(ROWS), folder / "q.parquet")
    return folder / "q.parquet"


def save_dataset(folder):
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_list(ROWS).save_to_disk(str(folder / "d"))
    return folder / "d"


def save_dataset_dict(folder):
    datasets = pytest.importorskip("datasets")
    pool = datasets.Dataset.from_list(ROWS)
    other = datasets.Dataset.from_list([{"question": "Other?"}])
    datasets.DatasetDict({"train": pool, "test": other}).save_to_disk(str(folder / "dd"))
    return f"{folder / 'dd'}?split=train"


@pytest.mark.parametrize(
    "save",
    [save_jsonl, save_json, save_csv, save_parquet, save_dataset, save_dataset_dict],
)
def test_every_form_gives_the_same_questions(tmp_path, save):
    source = save(tmp_path)
    rows = rows_of(source)
    found = [
        (r["id"], r["prompt"], r["answer"], int(json.loads(r["extra"])["level"])) for r in rows
    ]
    assert found == EXPECTED
    assert {r["source"] for r in rows} == {str(source)}


@pytest.mark.skipif(not GSM8K.is_file(), reason="the shared GSM8K file is not beside the project")
def test_gsm8k_answers_are_parsed():
    table = read_questions(str(GSM8K))
    lines = [json.loads(line) for line in GSM8K.read_text("utf-8").splitlines()]
    assert table.num_rows == len(lines) == 1_319
    expected = [line["answer"].rsplit("#### ", 1)[1].replace(",", "") for line in lines]
    assert table["answer"].to_pylist() == expected
    assert all(float(answer).is_integer() for answer in expected)


# verl ------------------------------------------------------------------------------------------

VERL = [
    {
        "data_source": "openai/gsm8k",
        "prompt": user(f"Question {i}?"),
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": str(10 * i)},
        "extra_info": {"split": "train", "index": i},
    }
    for i in range(3)
]


def test_verl_parquet_is_recognised(tmp_path):
    pq.write_table(pa.Table.from_pylist(VERL), tmp_path / "v.parquet")
    rows = rows_of(tmp_path / "v.parquet")
    assert [r["id"] for r in rows] == [f"openai/gsm8k-{i}" for i in range(3)]
    assert [r["answer"] for r in rows] == ["0", "10", "20"]
    assert rows[1]["prompt"] == user("Question 1?")
    assert json.loads(rows[1]["extra"]) == {
        "data_source": "openai/gsm8k",
        "ability": "math",
        "reward_model": {"style": "rule"},
        "extra_info": {"split": "train", "index": 1},
    }


def test_verl_without_index_gets_content_ids_and_a_partial_index_is_refused(tmp_path):
    bare = [{k: v for k, v in row.items() if k != "extra_info"} for row in VERL]
    rows = rows_of(write_jsonl(tmp_path / "v.jsonl", bare))
    assert len({r["id"] for r in rows}) == 3
    assert all(len(r["id"]) == 16 for r in rows)
    message = refused(write_jsonl(tmp_path / "w.jsonl", [VERL[0], bare[1]]))
    assert "line 2" in message and "extra_info.index" in message and "given in line 1" in message


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


def test_an_answer_that_only_a_late_row_has_is_read(tmp_path):
    source = write_jsonl(tmp_path / "q.jsonl", [{"prompt": "A?"}, {"prompt": "B?", "answer": 3}])
    assert [r["answer"] for r in rows_of(source)] == [None, "3"]


def test_wrong_columns_are_refused_with_the_nearest(tmp_path):
    source = write_jsonl(tmp_path / "q.jsonl", [{"task": "A?", "gold": 1}])
    message = refused(source)
    assert "no column is the prompt" in message and "task, gold" in message
    message = refused(source, column_map={"prompt": "tasks"})
    assert "no column 'tasks'" in message and "nearest is 'task'" in message
    message = refused(source, ConfigError, column_map={"question": "task"})
    assert "'question' is not a field" in message


def test_limit_reads_no_further(tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_text('{"prompt": "A?"}\n{"prompt": "B?"}\nbroken\n')
    assert len(rows_of(path, limit=2)) == 2
    assert "line 3: not valid JSON" in refused(path, limit=3)


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


# Refusals --------------------------------------------------------------------------------------

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
        "line 2: byte 13 (0xe9) is not UTF-8. Convert the file, with: iconv",
    ),
    "huge number": ("q.jsonl", b'{"prompt": ' + b"1" * 5_000 + b"}", "line 1: not usable JSON"),
    "deep nesting": ("q.jsonl", b"[" * 100_000, "line 1: not usable JSON"),
    "jsonl named json": ("q.json", b'{"prompt": "A?"}\n{"prompt": "B?"}', "name it .jsonl"),
    "object": ("q.json", b'{"data": []}', "holds an object, not a list of objects"),
    "empty list": ("q.json", b"[]", "has no rows"),
    "list of texts": ("q.json", b'[{"prompt": "A?"}, "B?"]', "row 2: is a text, not an object"),
    "header only": ("q.csv", b"prompt,answer\n", "has no rows"),
    "short row": ("q.csv", b"prompt,answer\nA?,1\nB?\n", "row 2: has 1 fields, the header has 2"),
    "open quote": ("q.csv", b'prompt\n"A?\nB?\n', "not valid CSV"),
    "same column": ("q.csv", b"prompt,prompt\nA?,B?\n", "line 1: column 'prompt' occurs twice"),
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


# `datasets` folders and the Hub ----------------------------------------------------------------


def test_splits_are_named_when_one_must_be_chosen(tmp_path):
    folder = save_dataset_dict(tmp_path).partition("?")[0]
    message = refused(folder, ConfigError)
    assert "has several splits; there are train, test" in message and "?split=" in message
    assert "has no split 'dev'" in refused(folder, ConfigError, split="dev")
    assert [r["prompt"] for r in rows_of(folder, split="test")] == [user("Other?")]


def test_hub_ids_go_through_load_dataset(monkeypatch):
    datasets = pytest.importorskip("datasets")
    asked = []

    def load(hub_id, configuration):
        asked.append((hub_id, configuration))
        return datasets.DatasetDict({"test": datasets.Dataset.from_list(ROWS)})

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert len(rows_of("openai/gsm8k:main?split=test")) == 2
    assert len(rows_of("org/name-v1.1")) == 2
    assert asked == [("openai/gsm8k", "main"), ("org/name-v1.1", None)]


def test_an_unreachable_hub_is_said_plainly(monkeypatch):
    datasets = pytest.importorskip("datasets")

    def load(hub_id, configuration):
        raise ConnectionError(f"Couldn't reach '{hub_id}' on the Hub\nwith details")

    monkeypatch.setattr(datasets, "load_dataset", load)
    message = refused("org/nothing")
    assert message.startswith("org/nothing: no such file or folder here")
    assert "Couldn't reach 'org/nothing' on the Hub)" in message and "network" in message


# The embedded world ----------------------------------------------------------------------------


def test_world_pool_and_its_evaluation_are_disjoint_and_repeat():
    pool, held_out = read_questions("world:default"), read_questions("world:default?split=held_out")
    evaluation = read_questions("world:default", split="evaluation")
    assert (pool.num_rows, evaluation.num_rows, held_out.num_rows) == (600, 400, 400)
    assert pool.equals(read_questions("world:default?num=600&seed=0&split=pool"))
    extra = [[json.loads(text) for text in t["extra"].to_pylist()] for t in (pool, evaluation)]
    expressions = [{row["expression"] for row in rows} for rows in extra]
    assert not expressions[0] & expressions[1]
    for row, answer in zip(extra[0], pool["answer"].to_pylist(), strict=True):
        # Division is exact in this world, so plain arithmetic is the reference.
        assert eval(row["expression"]) == float(answer)
        assert row.keys() == {"family", "expression", "num_unfamiliar"}
    family = {json.loads(text)["family"] for text in held_out["extra"].to_pylist()}
    assert not family & {row["family"] for row in extra[0]}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("world:defualt", "no preset 'defualt'; there are default"),
        ("world:default?split=train", "no split 'train'"),
        ("world:default?n=3", "no option 'n'; there are split, num, seed. The nearest is num"),
        ("world:default?num=0", "num = '0' must be a whole number, 1 to 5000"),
        ("world:default?num=9999&split=evaluation", "1 to 2500"),
        ("world:default?seed", "must be options such as"),
        ("world:default?prompt=x", "no columns to map"),
    ],
)
def test_wrong_world_sources_are_refused(source, expected):
    assert expected in refused(source, ConfigError)


# Values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (18, "18"), (18.0, "18"), (-0.5, "-0.5"), (True, "true"), (None, None), ("  ", None),
        (float("nan"), None), (["7"], "7"), (Decimal("2.50"), "2.5"), (Decimal("1E+2"), "100"),
        (10**30, "1" + "0" * 30), (1e300, "1e+300"), ("3/4", "3/4"), ("x = 2", "x = 2"),
        ("so 9 * 2 = 18\n#### 1,200", "1200"), ("-1,234,567.5", "-1234567.5"), ("1,20", "1,20"),
        ("100, 200", "100, 200"), (r"hence \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        ("007", "007"),
    ],
)  # fmt: skip
def test_answers_as_text(value, expected):
    assert to_answer(value) == expected


def test_an_answer_pattern_is_tried_first():
    assert to_answer("Result = 12 (from \\boxed{3})", r"Result = (\d+)") == "12"
    assert to_answer("see \\boxed{3}", r"Result = (\d+)") == "3"
    assert to_answer("3/4", r"Result = (\d+)") == "3/4"


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_number_text_reads_back_the_same(value):
    assert float(number_text(value)) == value


def test_other_columns_become_json(tmp_path):
    table = pa.table(
        {
            "prompt": ["A?"],
            "day": [date(2024, 5, 1)],
            "at": pa.array([datetime(2024, 5, 1, 12)], pa.timestamp("ns")),
            "price": [Decimal("1.20")],
            "text": [b"caf\xc3\xa9"],
            "image": [b"\xff\xd8"],
            "scores": [[1.5, float("nan"), float("-inf")]],
            "nested": [{"a": {"b": [1, None]}}],
        }
    )
    pq.write_table(table, tmp_path / "q.parquet")
    (row,) = rows_of(tmp_path / "q.parquet")
    assert json.loads(row["extra"]) == {
        "day": "2024-05-01",
        "at": "2024-05-01T12:00:00",
        "price": "1.20",
        "text": "café",
        "image": base64.b64encode(b"\xff\xd8").decode(),
        "scores": [1.5, None, "-Infinity"],
        "nested": {"a": {"b": [1, None]}},
    }


def test_batches_join_without_a_seam(tmp_path, monkeypatch):
    rows = [{"id": i, "prompt": f"{i}?"} for i in range(10)]
    source = write_jsonl(tmp_path / "q.jsonl", rows)
    whole = read_questions(source)
    monkeypatch.setattr("pivottrace.ingest.questions.BATCH_ROWS", 3)
    assert read_questions(source).to_pylist() == whole.to_pylist()
    write_jsonl(tmp_path / "q.jsonl", [*rows, {"id": 10, "prompt": "1?"}])
    assert "line 11" in refused(source) and "line 2." in refused(source)


def test_source_digest_follows_the_bytes(tmp_path):
    source = save_jsonl(tmp_path)
    expected = hashlib.sha256(Path(source).read_bytes()).hexdigest()
    assert source_digest(source) == source_digest(f"{source}?answer=level") == expected
    folder = source_digest(str(tmp_path))
    (tmp_path / "more").write_text("x")
    assert source_digest(str(tmp_path)) != folder
    assert source_digest("world:default") is source_digest("org/name") is None


# Prompts ---------------------------------------------------------------------------------------


def test_format_prompt_adds_what_is_not_there():
    messages = [*user("One?"), {"role": "assistant", "content": "1"}, *user("Two?")]
    formatted = format_prompt(messages, "Be brief.", "Use a box.")
    assert formatted == [
        {"role": "system", "content": "Be brief."},
        *messages[:2],
        {"role": "user", "content": "Two?\nUse a box."},
    ]
    assert messages[2]["content"] == "Two?"
    assert format_prompt(user("A?"), None, "") == user("A?")
    assert format_prompt(user("A?"), None, " Go.") == user("A? Go.")
    for role in ("system", "developer"):
        own = [{"role": role, "content": "Mine."}, *user("A?")]
        assert format_prompt(own, "Be brief.", "") == own

"""Sources of questions: what is read from each form, from a file to the embedded world."""

import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ingest_sources import ROWS, refused, rows_of, save_jsonl, save_parquet, user, write_jsonl

from pivottrace.errors import ConfigError
from pivottrace.ingest import hub_access, read_questions, source_digest

EXPECTED = [("a", user("What is 2 + 2?"), "4", 1), ("b", user("What is 2 + 3?"), None, 2)]


def save_json(folder):
    (folder / "q.json").write_text(json.dumps(ROWS))
    return folder / "q.json"


def save_csv(folder):
    (folder / "q.csv").write_text(
        "\ufeffid,question,answer,level\na,What is 2 + 2?,4,1\n\nb,What is 2 + 3?,,2\n", "utf-8"
    )
    return folder / "q.csv"


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


def test_gsm8k_answers_are_parsed(gsm8k):
    table = read_questions(str(gsm8k))
    lines = [json.loads(line) for line in gsm8k.read_text("utf-8").splitlines()]
    assert table.num_rows == len(lines) == 1_319
    expected = [line["answer"].rsplit("#### ", 1)[1].replace(",", "") for line in lines]
    assert table["answer"].to_pylist() == expected
    assert all(float(answer).is_integer() for answer in expected)


def test_limit_reads_no_further(tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_text('{"prompt": "A?"}\n{"prompt": "B?"}\nbroken\n')
    assert len(rows_of(path, limit=2)) == 2
    assert "line 3: not valid JSON" in refused(path, limit=3)


def test_batches_join_without_a_seam(tmp_path, monkeypatch):
    rows = [{"id": i, "prompt": f"{i}?"} for i in range(10)]
    source = write_jsonl(tmp_path / "q.jsonl", rows)
    whole = read_questions(source)
    monkeypatch.setattr("pivottrace.ingest.questions.BATCH_ROWS", 3)
    assert read_questions(source).to_pylist() == whole.to_pylist()
    write_jsonl(tmp_path / "q.jsonl", [*rows, {"id": 10, "prompt": "1?"}])
    message = refused(source, on_duplicate="refuse")
    assert "line 11" in message and "line 2." in message


def test_source_digest_follows_the_bytes(tmp_path):
    source = save_jsonl(tmp_path)
    expected = hashlib.sha256(Path(source).read_bytes()).hexdigest()
    assert source_digest(source) == source_digest(f"{source}?answer=level") == expected
    folder = source_digest(str(tmp_path))
    (tmp_path / "more").write_text("x")
    assert source_digest(str(tmp_path)) != folder
    assert source_digest("world:default") is source_digest("org/name") is None


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


def test_verl_without_a_complete_index_gets_content_ids(tmp_path):
    bare = [{k: v for k, v in row.items() if k != "extra_info"} for row in VERL]
    rows = rows_of(write_jsonl(tmp_path / "v.jsonl", bare))
    assert len({r["id"] for r in rows}) == 3
    assert all(len(r["id"]) == 16 for r in rows)
    partly = rows_of(write_jsonl(tmp_path / "w.jsonl", [VERL[0], *bare[1:]]))
    assert [r["id"] for r in partly] == [r["id"] for r in rows]


# `datasets` folders and the Hub ----------------------------------------------------------------


def test_splits_are_named_when_one_must_be_chosen(tmp_path):
    folder = save_dataset_dict(tmp_path).partition("?")[0]
    message = refused(folder, ConfigError)
    assert "has several splits; there are train, test" in message and "?split=" in message
    assert "has no split 'dev'" in refused(folder, ConfigError, split="dev")
    assert [r["prompt"] for r in rows_of(folder, split="test")] == [user("Other?")]


@pytest.fixture
def datasets(monkeypatch):
    """The library, with a Hub that takes connections."""
    monkeypatch.setattr(hub_access, "unreachable", lambda: None)
    return pytest.importorskip("datasets")


def test_hub_ids_go_through_load_dataset(datasets, monkeypatch):
    asked = []

    def load(hub_id, configuration):
        asked.append((hub_id, configuration))
        return datasets.DatasetDict({"test": datasets.Dataset.from_list(ROWS)})

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert len(rows_of("openai/gsm8k:main?split=test")) == 2
    assert len(rows_of("org/name-v1.1")) == 2
    assert asked == [("openai/gsm8k", "main"), ("org/name-v1.1", None)]


def test_what_the_hub_does_not_give_is_said_plainly(datasets, monkeypatch):
    def load(hub_id, configuration):
        raise ConnectionError(f"Couldn't reach '{hub_id}' on the Hub\nwith details")

    monkeypatch.setattr(datasets, "load_dataset", load)
    message = refused("org/nothing")
    assert message.startswith("org/nothing: no such file or folder here")
    assert "Couldn't reach 'org/nothing' on the Hub)" in message and "network" in message


def test_without_a_network_a_data_set_comes_from_the_cache_or_is_refused(
    datasets, monkeypatch, tmp_path, capsys
):
    monkeypatch.setattr(hub_access, "unreachable", lambda: "the Hub is away")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    message = refused("org/nothing")
    assert message.startswith("org/nothing: no such file or folder here, no copy in the Hub's")
    assert "the Hub is away. Give a local file" in message and "HF_HUB_OFFLINE=1" in message
    folder = tmp_path / "org___name" / "default" / "0.0.0" / "abc"
    source = str(write_jsonl(tmp_path / "a.jsonl", ROWS))
    datasets.load_dataset_builder("json", data_files=source).download_and_prepare(folder)
    (folder / "json-train.arrow").rename(folder / "name-train.arrow")
    assert len(rows_of("org/name?split=train")) == 2
    assert "note: the Hub is away; the copy of org/name in the Hub's" in capsys.readouterr().err


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
        (
            "world:default?n=3",
            "no option 'n'; there are split, num, seed, noise. The nearest is num",
        ),
        ("world:default?num=0", "num = '0' must be a whole number, 1 to 5000"),
        ("world:default?num=9999&split=evaluation", "1 to 2500"),
        ("world:default?seed", "must be options such as"),
        ("world:default?prompt=x", "no columns to map"),
    ],
)
def test_wrong_world_sources_are_refused(source, expected):
    assert expected in refused(source, ConfigError)


def test_no_question_of_the_world_is_in_two_splits():
    from itertools import combinations

    from pivottrace.world.problems import SPLITS, generate

    drawn = {
        split: [
            p
            for seed in (0, 1)
            for preset in ("default", "hard")
            for p in generate(split, 300, seed, preset)
        ]
        for split in SPLITS
    }
    assert set(drawn) == {"pretraining", "pool", "development", "evaluation"}
    for one, other in combinations(drawn.values(), 2):
        for key in ("expression", "question", "id"):
            assert not {getattr(p, key) for p in one} & {getattr(p, key) for p in other}

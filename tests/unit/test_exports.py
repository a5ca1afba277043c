"""Export formats: schemas, counts, whose answer a row carries, and texts that survive."""

import json

import pyarrow.parquet as pq
import pytest
from export_run import HOSTILE, ROWS, give_labels, triaged

from pivottrace.exports import ExportFormat, export_formats
from pivottrace.exports.routed import NO_VOTE, ROUTE_ROWS, UNLABELLED
from pivottrace.exports.verl import VERL_ROWS
from pivottrace.routing.routes import ROUTES
from pivottrace.stages.triage import write_route_files


@pytest.fixture
def run(make_run):
    made = triaged(make_run("run", labels={"source": "file", "budget": 5}))
    give_labels(made)
    return made


def written_to(run, name, folder):
    folder.mkdir()
    return export_formats()[name].write(run, folder)


def bytes_in(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_formats_of_the_folder_are_found_under_their_names():
    found = export_formats()
    assert {"parquet", "jsonl", "verl"} <= found.keys()
    for name, record in found.items():
        assert record.name == name and isinstance(record, ExportFormat) and record.title


@pytest.mark.parametrize("name", sorted(export_formats()))
def test_a_format_writes_the_same_bytes_twice_and_counts_its_files(run, name, tmp_path):
    before = {p: p.read_bytes() for p in run.path.rglob("*") if p.is_file()}
    one = written_to(run, name, tmp_path / "one")
    assert written_to(run, name, tmp_path / "two") == one
    assert bytes_in(tmp_path / "one") == bytes_in(tmp_path / "two")
    assert one.rows.keys() == bytes_in(tmp_path / "one").keys()
    assert {p: p.read_bytes() for p in run.path.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("name", ["parquet", "jsonl"])
def test_route_files_have_every_route_and_no_true_answer(run, name, tmp_path):
    written = written_to(run, name, tmp_path / "out")
    assert written.rows == {
        f"{route}.{name}": sum(of == route for of, *_ in ROWS.values()) for route in ROUTES
    }
    assert not written.left_out
    for content in bytes_in(tmp_path / "out").values():
        assert b"the truth" not in content and b"1,800" not in content


def test_route_files_keep_their_types_and_texts_in_both_forms(run, tmp_path):
    written_to(run, "parquet", tmp_path / "parquet")
    written_to(run, "jsonl", tmp_path / "jsonl")
    for route in ROUTES:
        table = pq.read_table(tmp_path / "parquet" / f"{route}.parquet")
        assert table.schema == ROUTE_ROWS
        lines = (tmp_path / "jsonl" / f"{route}.jsonl").read_bytes().decode().split("\n")
        assert [json.loads(line) for line in lines[:-1]] == table.to_pylist()
        assert lines[-1] == ""
    annotate = pq.read_table(tmp_path / "parquet" / "annotate.parquet").to_pylist()
    assert [row["id"] for row in annotate] == ["1e3", "2020-01-02", "007"]  # by priority
    assert annotate[0]["prompt"][1] == {"role": "user", "content": HOSTILE}


def test_the_triage_stage_leaves_the_files_of_both_formats(run, tmp_path):
    write_route_files(run)
    expected = {}
    for name in ("parquet", "jsonl"):
        written_to(run, name, tmp_path / name)
        expected |= bytes_in(tmp_path / name)
    assert bytes_in(run.round_path / "routes") == expected


def verl_rows(run, folder):
    written = written_to(run, "verl", folder)
    return written, pq.read_table(folder / "train.parquet")


def test_verl_gets_labels_on_annotate_rows_and_votes_on_weak_rows(run, tmp_path):
    written, table = verl_rows(run, tmp_path / "out")
    assert table.schema == VERL_ROWS
    assert table.column_names == ["data_source", "prompt", "ability", "reward_model", "extra_info"]
    found = {
        row["extra_info"]["id"]: (row["extra_info"]["route"], row["reward_model"]["ground_truth"])
        for row in table.to_pylist()
    }
    assert found == {
        "1e3": ("annotate", "1,800"),
        "007": ("annotate", "007"),
        "null": ("weak", "1e3"),
        "true": ("weak", "007"),
    }
    assert written.rows == {"train.parquet": 4}
    assert written.left_out == {UNLABELLED: 1}  # 2020-01-02
    assert b"the truth" not in (tmp_path / "out" / "train.parquet").read_bytes()


def test_a_weak_row_never_carries_a_label_that_happens_to_be_there(run, tmp_path):
    give_labels(run, {"true": "a bought label"})
    _, table = verl_rows(run, tmp_path / "out")
    assert "a bought label" not in str(table.to_pylist())


def test_verl_rows_hold_what_its_dataset_reads(run, tmp_path):
    _, table = verl_rows(run, tmp_path / "out")
    rows = table.to_pylist()
    assert rows[0] == {
        "data_source": "a.jsonl",
        "prompt": [
            {"role": "system", "content": "Rules."},
            {"role": "user", "content": HOSTILE},
        ],
        "ability": "reasoning",
        "reward_model": {"style": "rule", "ground_truth": "1,800"},
        "extra_info": {
            "index": 0,
            "split": "train",
            "route": "annotate",
            "id": "1e3",
            "weight": 1.0,
        },
    }
    assert [row["extra_info"]["index"] for row in rows] == [0, 1, 2, 3]
    assert {row["extra_info"]["id"]: row["extra_info"]["weight"] for row in rows[2:]} == {
        "null": 0.6,
        "true": 0.8,
    }


def test_a_weak_row_without_a_vote_is_left_out_and_counted(make_run, tmp_path):
    rows = {"a": ("weak", 1.0, None, None), "b": ("weak", 1.0, "3", None)}
    run = triaged(make_run("run", labels={"source": "file", "budget": 1}), rows)
    written, table = verl_rows(run, tmp_path / "out")
    assert [row["extra_info"]["id"] for row in table.to_pylist()] == ["b"]
    assert written.left_out == {NO_VOTE: 1}


def test_verl_files_without_a_row_keep_the_types_that_let_them_be_joined(make_run, tmp_path):
    rows = {"a": ("discard", 0.0, None, None)}
    run = triaged(make_run("run", labels={"source": "file", "budget": 1}), rows)
    written, table = verl_rows(run, tmp_path / "out")
    assert written.rows == {"train.parquet": 0} and not written.left_out
    assert table.schema == VERL_ROWS

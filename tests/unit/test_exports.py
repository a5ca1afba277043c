"""Export formats: schemas, counts, whose answer a row carries, and texts that survive."""

import json

import pyarrow.parquet as pq
import pytest
from export_run import HOSTILE, ROWS, give_labels, triaged

from pivottrace.exports import ExportFormat, export_formats
from pivottrace.exports.routed import ROUTE_ROWS
from pivottrace.routing.routes import ROUTES
from pivottrace.stages.triage import write_route_files


@pytest.fixture
def run(make_run):
    made = triaged(make_run("run", labels={"source": "file", "budget": 5}))
    give_labels(made)
    return made


def written_to(run, name, folder):
    folder.mkdir()
    options = {option: values[0] for option, values in export_formats()[name].options.items()}
    return export_formats()[name].write(run, folder, **options)


def bytes_in(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


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
    assert one.rows.keys() <= bytes_in(tmp_path / "one").keys()
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

"""Files of a run: a changed bit is seen, writers don't meet, and damage has a line with a cure."""

import errno
import json
import random
import re
import threading
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pivottrace
from pivottrace.errors import DataError, RunDirError, TornFileError
from pivottrace.ingest import read_questions, tabular
from pivottrace.run import sealing, storage
from pivottrace.run.markers import changed_files, is_whole, mark_whole
from pivottrace.schemas import WHOLE

TABLE = pa.table(
    {
        "question_id": [f"q{i}" for i in range(40)],
        "tokens": [[i % 7] * (i % 5) for i in range(40)],
        "share": [None if i % 9 == 0 else i / 40 for i in range(40)],
    }
)


def flipped(data, bit):
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_no_flipped_bit_of_a_table_changes_a_value(tmp_path):
    storage.write_parquet(tmp_path / "table.parquet", TABLE)
    data = (tmp_path / "table.parquet").read_bytes()
    end = 8 * len(data)
    # The seal and the footer's length are the last 24 bytes.
    bits = random.Random(0).sample(range(end - 192), 400) + list(range(end - 192, end))
    harmless = 0
    for bit in bits:
        path = tmp_path / f"{bit}.parquet"
        path.write_bytes(flipped(data, bit))
        try:
            assert storage.read_parquet(path).equals(TABLE)
        except TornFileError as error:
            assert str(error).startswith(f"{path} is torn (")
        else:
            harmless += 1
        path.unlink()
    assert harmless == 8 * len(sealing.MARK)  # without its mark a file counts as an older one


def test_every_way_to_read_a_table_compares_its_seal(tmp_path):
    path = tmp_path / "table.parquet"
    storage.write_batches(path, TABLE.schema, TABLE.to_batches())
    data = path.read_bytes()
    path.unlink()
    # A page's header, which parquet's own checksums leave out: the number of values.
    path.write_bytes(flipped(data, 8 * 20))
    for read in (
        lambda: storage.read_parquet(path, ["share"]),
        lambda: list(storage.iter_parquet(path, ["share"], 10, "sample")),
        lambda: storage.num_rows(path),
        lambda: storage.schema_of(path),
        lambda: storage.refuse_torn(path),
    ):
        with pytest.raises(TornFileError, match="do not match its checksum"):
            read()


def test_other_readers_take_sealed_files_and_we_take_unsealed_ones(tmp_path):
    path = tmp_path / "table.parquet"
    storage.write_parquet(path, TABLE)
    assert pq.read_table(path).equals(TABLE)
    assert pl.read_parquet(path).to_arrow()["share"].equals(TABLE["share"])
    assert pl.scan_parquet(path).filter(pl.col("share") > 0.5).collect().height == 17
    pq.write_table(TABLE, tmp_path / "older.parquet")
    assert storage.read_parquet(tmp_path / "older.parquet").equals(TABLE)
    storage.write_parquet(tmp_path / "again.parquet", TABLE)
    assert (tmp_path / "again.parquet").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("sealed", [True, False])
def test_a_page_of_a_users_own_parquet_is_compared_with_its_checksum(tmp_path, sealed):
    path = tmp_path / "mine.parquet"
    table = pa.table({"prompt": [f"What is {i} + 1?" for i in range(50)]})
    if sealed:
        storage.write_parquet(path, table)
    else:
        pq.write_table(table, path, write_page_checksum=True, compression="none")
    data = path.read_bytes()
    path.write_bytes(data.replace(b"What is 7", b"What is 8") if not sealed else flipped(data, 500))
    with pytest.raises(DataError, match=r"mine.parquet: not a whole parquet file .* copy it again"):
        read_questions(str(path))


def test_no_other_module_reads_or_writes_parquet():
    raw = re.compile(
        r"\b(pq|parquet|pl)\.(read_|write_|scan_|ParquetFile|ParquetWriter|ParquetDataset)"
        r"|pyarrow\.dataset|\.(write|sink)_parquet\("
    )
    root = Path(pivottrace.__file__).parent
    found = [
        str(path.relative_to(root)) for path in root.rglob("*.py") if raw.search(path.read_text())
    ]
    assert found == ["run/storage.py"]


def test_a_json_object_is_compared_with_its_checksum(tmp_path):
    path = tmp_path / "reference.json"
    values = {"heads": {3: [1, 2]}, "threshold": 0.125, "none": None}
    storage.write_json(path, values)
    assert storage.read_json(path) == {"heads": {"3": [1, 2]}, "threshold": 0.125, "none": None}
    text = path.read_text()
    path.write_text(text.replace("0.125", "0.175"))
    with pytest.raises(TornFileError, match="do not match its checksum"):
        storage.read_json(path)
    path.write_text(json.dumps(values))  # of an older version
    assert storage.read_json(path)["threshold"] == 0.125
    path.write_text("[1]")
    with pytest.raises(TornFileError, match="it holds a list, not an object"):
        storage.read_json(path)


def test_a_log_names_its_torn_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert storage.read_json_lines(path) == [{"step": 1}, {"step": 2}]
    for line in ("{", '{"stel": 1}', "[1]", "\ufffd"):
        path.write_text(f'{line}\n{{"step": 2}}\n')
        with pytest.raises(TornFileError, match=r"metrics.jsonl is torn .*take line 1 out"):
            storage.read_json_lines(path)


def test_a_file_that_may_not_be_read_is_not_called_torn(tmp_path):
    (tmp_path / "table.parquet").mkdir()
    with pytest.raises(RunDirError, match="cannot be read") as caught:
        storage.read_parquet(tmp_path / "table.parquet")
    assert not isinstance(caught.value, TornFileError)


@pytest.mark.parametrize(
    "error",
    [
        pa.lib.ArrowMemoryError("malloc of size 64 failed"),
        OSError("Unknown error: Failed to launch worker thread: Resource temporarily unavailable"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
)
@pytest.mark.parametrize(
    "reader", [storage.torn, tabular._whole_parquet], ids=["a run's", "a user's"]
)
def test_memory_that_is_refused_is_not_the_files_fault(tmp_path, reader, error):
    with pytest.raises(MemoryError), reader(tmp_path / "table.parquet"):
        raise error


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    path, errors = tmp_path / "report.html", []

    def write(text):
        try:
            for _ in range(100):
                storage.write_text(path, text)
        except RunDirError as error:
            errors.append(error)

    texts = ["a" * 5000, "b" * 5000]
    threads = [threading.Thread(target=write, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert path.read_text() in texts
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]


def test_what_a_killed_writer_left_is_swept_and_a_living_one_is_left_alone(tmp_path):
    left = tmp_path / "rounds" / ".votes.parquet.0123abcd.tmp"
    left.parent.mkdir()
    left.write_bytes(b"half")
    with storage._new_file(tmp_path / "pool.parquet") as file:
        storage.sweep(tmp_path)
        assert not left.exists()
        file.write(b"whole")
    assert (tmp_path / "pool.parquet").read_bytes() == b"whole"


def test_a_writer_that_fails_leaves_nothing(tmp_path, monkeypatch):
    with pytest.raises(ZeroDivisionError):
        storage.write_batches(tmp_path / "t.parquet", TABLE.schema, (1 / 0 for _ in range(1)))
    assert not list(tmp_path.iterdir())


def test_a_marked_folder_knows_its_files(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "config.json").write_text("{}")
    assert not is_whole(tmp_path)
    mark_whole(tmp_path)
    assert is_whole(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    (tmp_path / "README.md").write_text("later")
    assert list(changed_files(tmp_path)) == ["config.json"]
    assert not list(changed_files(tmp_path, "*.safetensors"))
    (tmp_path / "model.safetensors").write_bytes(b"weighty")
    assert list(changed_files(tmp_path, "*.safetensors")) == ["model.safetensors"]
    (tmp_path / WHOLE).write_text('{"config.json": 2}')  # of an older version
    assert is_whole(tmp_path)
    (tmp_path / WHOLE).write_text("{")
    assert not is_whole(tmp_path)

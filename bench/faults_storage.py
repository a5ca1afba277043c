"""Files of a run that are damaged: changed bits, torn files, manifests, two writers, stores."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq

from faults_bench import Bench, Row, call, contents, unclear
from pivottrace.errors import PivotTraceError, TornFileError
from pivottrace.ingest import read_questions
from pivottrace.labels import store, store_schema
from pivottrace.run.storage import read_json, read_parquet, write_json

WRITES = 400  # of each of two writers
SHORT_WAIT_S = 1.0
COMMANDS = ("run", "status", "report", "plan", "audit", "repair", "greedy", "label")


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def bit_flips(bench: Bench) -> Iterator[Row]:
    """A flipped bit in a table is refused, or it changes no value."""
    for name in ("rounds/00/rollouts_sampled/part-00000.parquet", "rounds/00/triage.parquet"):
        yield _flips(bench, name)
    yield _flips(bench, "pool.parquet")


def _flips(bench: Bench, name: str) -> Row:
    data, table = (bench.run / name).read_bytes(), read_parquet(bench.run / name)
    ended: Counter[str] = Counter()
    failed = []
    for number in range(bench.flips):
        bit = bench.rng.randrange(8 * len(data))
        # Each trial has a file of its own, because a file is compared once in a process.
        path = bench.folder / f"{number}-{Path(name).name}"
        path.write_bytes(flipped(data, bit))
        how = _read(path, table)
        ended[how] += 1
        if how not in ("refused", "harmless"):
            failed.append(f"bit {bit}: {how}")
        path.unlink()
    note = ", ".join(f"{count} {how}" for how, count in ended.most_common())
    return Row(f"flipped bits in {name}", bench.flips, failed, note)


def _read(path: Path, table: pa.Table) -> str:
    try:
        return "harmless" if read_parquet(path).equals(table) else "silently other"
    except TornFileError:
        return "refused"
    except Exception as error:
        return type(error).__name__


def own_parquet(bench: Bench) -> Iterator[Row]:
    """A flipped bit in a user's own file without checksums is no raw error of a library."""
    table = pa.table({"prompt": [f"What is {i} + 1?" for i in range(99)], "answer": ["1"] * 99})
    path = bench.folder / "own.parquet"
    pq.write_table(table, path)
    data, failed = path.read_bytes(), []
    for _ in range(bench.flips):
        bit = bench.rng.randrange(8 * len(data))
        path.write_bytes(flipped(data, bit))
        try:
            read_questions(str(path))
        except PivotTraceError:
            continue
        except Exception as error:
            failed.append(f"bit {bit}: {type(error).__name__}: {error}")
    yield Row("flipped bits in a user's own parquet: no raw error", bench.flips, failed)


def torn_files(bench: Bench) -> Iterator[Row]:
    """A torn file is made again by `pivottrace repair`, and the run is then as it was."""
    before = contents(bench.run)
    names = [n for n in sorted(before) if n.endswith(".parquet") or n.count("/") < 3]
    names = [n for n in names if not n.endswith(".jsonl") and "part-00001" not in n]
    failed = []
    for name in names:
        copy = bench.copy()
        path = copy / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        told = [call("status", copy), call("run", copy)]
        named = all(code == 0 or f"repair {copy}" in line for code, line in told)
        ended = [call("repair", copy)[0], call("run", copy)[0]]
        if not named or any(ended) or contents(copy) != before:
            failed.append(f"{name}: {told}, then {ended}")
    yield Row("torn files, made again", len(names), failed, "each cut to its half")


def manifests(bench: Bench) -> Iterator[Row]:
    """A damaged manifest is one line, in every command that reads it."""
    whole = read_json(bench.run / "manifest.json")
    forms = {
        "rounds='x'": whole | {"rounds": "x"},
        "rounds=[]": whole | {"rounds": []},
        "rounds={'0': 5}": whole | {"rounds": {"0": 5}},
        "rounds={'x': {}}": whole | {"rounds": {"x": {}}},
        "greedy=5": whole | {"rounds": {"0": {"greedy": 5}}},
        "rollout=5": whole | {"rounds": {"0": whole["rounds"]["0"] | {"rollout": 5}}},
        "greedy={}": whole | {"rounds": {"0": {"greedy": {}}}},
        "versions=5": whole | {"versions": 5},
        "schema_version=99": whole | {"schema_version": 99},
        "schema_version='x'": whole | {"schema_version": "x"},
    }
    copy, failed = bench.copy(), []
    path = copy / "manifest.json"
    texts = {"a list": "[1]", "a number": "5", "no JSON": "{", "nothing": "", "bytes": "\ufffd"}
    data = (bench.run / "manifest.json").read_text()
    texts["a digit changed"] = data.replace('"num_questions": 1', '"num_questions": 2', 1)
    for form in (*forms, *texts):
        if form in forms:
            write_json(path, forms[form])
        else:
            path.write_text(texts[form])
        for command in COMMANDS:
            code, line = call(command, copy)
            if code != 1 or not line.startswith("error: ") or "\n" in line:
                failed.append(f"{form}, {command}: {code} {line[-200:]}")
    tried = (len(forms) + len(texts)) * len(COMMANDS)
    yield Row("damaged manifests, in each command", tried, failed)


def two_writers(bench: Bench) -> Iterator[Row]:
    """Two processes that write one file both succeed, and the file is of one of them."""
    path = bench.folder / "shared.txt"
    write = (
        "import sys\nfrom pathlib import Path\nfrom pivottrace.run.storage import write_text\n"
        f"for _ in range({WRITES}):\n    write_text(Path(sys.argv[1]), sys.argv[2] * 5000)\n"
    )
    started = [subprocess.Popen([sys.executable, "-c", write, path, each]) for each in "ab"]
    failed = ["a writer failed" for process in started if process.wait()]
    if not path.is_file() or path.read_text() not in ("a" * 5000, "b" * 5000):
        failed.append("the file is of neither writer")
    failed += [f"left over: {left}" for left in path.parent.glob(".shared.txt*")]
    yield Row("writes of two writers of one file", 2 * WRITES, failed)


def foreign_stores(bench: Bench) -> Iterator[Row]:
    """A label store that is none, or that has lost its labels, is named with the cure."""
    makers: dict[str, Callable[[Path], object]] = {
        "0 bytes": lambda path: path.write_bytes(b""),
        "gone": lambda path: None,
        "a text": lambda path: path.write_text("no database\n" * 400),
        "another program's table": lambda path: _database(path, "things", 0),
        "another program's labels": lambda path: _database(path, "labels", 0),
        "the same, version 2": lambda path: _database(path, "labels", 2),
        "a newer version": lambda path: _database(path, "labels", 99),
    }
    filled = bench.folder / "filled.csv"
    filled.write_text("id,answer\nq,1\n")
    failed, tried = [], 0
    for form, make in makers.items():
        copy = bench.copy()
        store = copy / "labels.sqlite"
        store.unlink()
        make(store)
        for arguments in (("label", "import", copy, filled), ("status", copy), ("run", copy)):
            tried += 1
            code, line = call(*arguments)
            cure = "from a copy" in line or "Install the newer one" in line
            if code != 2 or str(store) not in line or not cure:
                failed.append(f"{form}, {arguments[0]}: {code} {line[-200:]}")
    yield Row("label stores that are none, or lost their labels", tried, failed)


def _database(path: Path, table: str, version: int) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"CREATE TABLE {table} (id INTEGER, name TEXT)")
        connection.execute(f"PRAGMA user_version = {version}")


def locked_store(bench: Bench) -> Iterator[Row]:
    """A label store that another program keeps locked is refused after a while, and works later."""
    copy, failed = bench.copy(), []
    path = copy / "labels.sqlite"
    briefly = patch.object(store_schema, "LOCK_WAIT_S", SHORT_WAIT_S)
    with briefly, closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        started = time.monotonic()
        try:
            store.LabelStore(path, 99)
            failed.append("it was written")
        except PivotTraceError as error:
            waited = time.monotonic() - started
            if str(path) not in str(error) or waited > 10 * SHORT_WAIT_S:
                failed.append(f"{waited:.0f} s: {error}")
        other.execute("ROLLBACK")
    failed += [each for each in [unclear(*call("status", copy))] if each]
    note = f"with a wait of {SHORT_WAIT_S:g} s, not {store_schema.LOCK_WAIT_S:g} s"
    yield Row("a label store under another program's lock", 1, failed, note)


ROWS = (
    bit_flips,
    own_parquet,
    torn_files,
    manifests,
    two_writers,
    foreign_stores,
    locked_store,
)

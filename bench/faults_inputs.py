"""Files that users write, malformed, and ids that look like places on the disk."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from faults_bench import Bench, Row, call, unclear
from faults_processes import waiting_run
from pivottrace.world.problems import generate

GOOD = b'{"id": "a", "question": "What is 2 + 3?", "answer": 5}\n'
POOLS: Mapping[str, bytes] = {
    "empty.jsonl": b"",
    "blank.jsonl": b"\n \n",
    "cut.jsonl": GOOD + GOOD[:30],
    "no JSON.jsonl": b"What is 2 + 3?\n",
    "a list.jsonl": b"[1, 2]\n",
    "a number.jsonl": b"7\n",
    "latin-1.jsonl": '{"question": "Größe?"}\n'.encode("latin-1"),
    "utf-16.jsonl": GOOD.decode().encode("utf-16"),
    "NUL.jsonl": b'{"question": "a\x00b"}\n',
    "half a surrogate.jsonl": b'{"question": "A\\ud83d?", "answer": 1}\n',
    "a number as question.jsonl": b'{"question": 7}\n',
    "an empty question.jsonl": b'{"question": " ", "answer": 1}\n',
    "an object as answer.jsonl": b'{"question": "A?", "answer": {"a": 1}}\n',
    "NaN as answer.jsonl": b'{"question": "A?", "answer": NaN}\n',
    "two answers.jsonl": b'{"question": "A?", "answer": 1}\n{"question": "A?", "answer": 2}\n',
    "a key twice.jsonl": b'{"question": "A?", "question": "B?", "answer": 1}\n',
    "nested.jsonl": b'{"question": ' + b"[" * 2000 + b"]" * 2000 + b"}\n",
    "many digits.jsonl": b'{"question": "A?", "answer": ' + b"1" * 5000 + b"}\n",
    "torn.json": b'[{"question": "A?"}, {"ques',
    "an object.json": b'{"data": []}',
    "an open quote.csv": b'question,answer\n"What is 2 + 3?,5\nA?,1\n',
    "a short row.csv": b"question,answer\nA?\n",
    "a column twice.csv": b"question,question\nA?,B?\n",
    "a header alone.csv": b"question,answer\n",
    "no parquet.parquet": b"PAR1 but not really",
    "unknown.xyz": b"question\n",
    "markup.xml": b"<a/>",
}
CONFIGS: Mapping[str, bytes] = {
    "no TOML.toml": b"[pool\n",
    "latin-1.toml": "seed = 1 # Größe\n".encode("latin-1"),
    "an unknown key.toml": b"[labels]\nbudgt = 1\n",
    "a text as number.toml": b'seed = "many"\n',
    "a table as number.toml": b"[seed]\na = 1\n",
    "a key twice.toml": b"seed = 1\nseed = 2\n",
    "NaN.toml": b"[labels]\nbudget = nan\n",
    "a huge number.toml": b"seed = " + b"9" * 400 + b"\n",
    "no preset.toml": b'preset = ["a"]\n',
    "empty.toml": b"",
}
ID = b"\0"  # stands for the id of a question that waits
LABELS: Mapping[str, bytes] = {
    "empty.csv": b"",
    "no columns.csv": b"a,b\n1,2\n",
    "a column twice.csv": b"id,answer,answer\n\0,1,2\n",
    "an open quote.csv": b'id,answer\n\0,"7\n',
    "a cell too many.csv": b"id,answer\n\0,1,2\n",
    "latin-1.csv": "id,answer\n\0,Größe\n".encode("latin-1"),
    "an unknown id.csv": b"id,answer\nnobody,7\n",
    "an empty id.csv": b"id,answer\n,7\n",
    "a derivation.csv": b"id,answer\n\0,first 3 then 4 so perhaps 7 or 8\n",
    "a long answer.csv": b"id,answer\n\0," + b"7" * 100_000 + b"\n",
    "no JSON.jsonl": b'{"id": \n',
    "NaN.jsonl": b'{"id": "\0", "answer": NaN}\n',
    "a list.jsonl": b'{"id": "\0", "answer": [1]}\n',
    "no object.jsonl": b"7\n",
    "unknown.txt": b"id,answer\n",
}
PLACES = ("..", "../../outside", "/tmp/outside", "a/b\\c", "../outside.csv", "~/outside", "CON")


def malformed(bench: Bench) -> Iterator[Row]:
    """A malformed file is read as it stands, or refused in one line that names it."""
    folder = bench.folder / "inputs"
    folder.mkdir()
    table = pa.table({"question": pa.array([[1], None])})
    pq.write_table(table, folder / "other types.parquet")
    pools = [*write(folder, POOLS), folder / "other types.parquet", folder / "none.jsonl", folder]
    commands: list[tuple[object, ...]] = [
        ("run", "--output", folder / f"run-{number}", "--until", "pool", "--questions", path)
        for number, path in enumerate(pools)
    ]
    yield row("files of questions", commands)
    configs = write(folder, CONFIGS)
    yield row("files of settings", [("validate", path, *SHORT) for path in configs])
    run = bench.copy(waiting_run(bench))
    waits = (run / "answers.csv").read_text().splitlines()[1].split(",")[0]
    labels = {name: data.replace(ID, waits.encode()) for name, data in LABELS.items()}
    yield row("files of labels", [("label", "import", run, p) for p in write(folder, labels)])


SHORT = ("--rollouts.max-new-tokens", "32", "--train.max-new-tokens", "32", "--pool.limit", "4")


def write(folder: Path, contents: Mapping[str, bytes]) -> list[Path]:
    paths = [folder / name for name in contents]
    for path, data in zip(paths, contents.values(), strict=True):
        path.write_bytes(data)
    return paths


def row(what: str, commands: list[tuple[object, ...]]) -> Row:
    """Call each command with the file that is its last path. It may end well, or in one line."""
    failed, taken = [], []
    for arguments in commands:
        code, told = call(*arguments)
        name = next(each.name for each in reversed(arguments) if isinstance(each, Path))
        fault = unclear(code, told)
        if not fault and code and name not in told:
            fault = f"it does not name the file: {told[-200:]}"
        taken += [name] if code == 0 else []
        failed += [f"{arguments[0]} {name}: {fault}"] if fault else []
    note = f"taken in: {', '.join(taken) or 'none'}"
    return Row(f"malformed {what}", len(commands), failed, note)


def places(bench: Bench) -> Iterator[Row]:
    """An id that looks like a place on the disk writes nothing there."""
    pool, output = bench.folder / "places.jsonl", bench.folder / "a" / "b" / "run"
    problems = generate("pool", len(PLACES), 3, "mastered")
    rows = [
        {"id": place, "question": problem.question, "answer": problem.answer}
        for place, problem in zip(PLACES, problems, strict=True)
    ]
    pool.write_text("".join(json.dumps(row) + "\n" for row in rows))
    outside = [Path("/tmp/outside"), Path.home() / "outside"]
    before = everything(bench.folder), [path.exists() for path in outside]
    ended = [
        call(
            "run",
            *("--questions", pool, "--map", "id=id", "--output", output),
            *("--budget", len(PLACES), "--labels.source", "column", "--train.enabled", "false"),
            *("--rollouts.max-new-tokens", 64, "--rollouts.num-samples", 4),
        ),
        call("report", output),
        *(call("export", output, "--to", name) for name in ("jsonl", "parquet", "verl")),
        call("label", "export", output),
        call("audit", output),
    ]
    failed = [fault for code, told in ended if (fault := unclear(code, told))]
    failed += [ended[0][1]] if ended[0][0] else []
    new = everything(bench.folder) - before[0]
    own = {output, *output.parents}
    failed += [f"{p} was written" for p in new if p not in own and not p.is_relative_to(output)]
    if [path.exists() for path in outside] != before[1]:
        failed.append("a file was written outside")
    yield Row("ids that look like places on the disk", len(PLACES), failed, ", ".join(PLACES))


def everything(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


ROWS = (malformed, places)

"""Processes that are killed, or that work on one run or one label store at the same time."""

from __future__ import annotations

import csv
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from faults_bench import (
    COMMAND,
    LIMIT_S,
    Bench,
    Row,
    call,
    contents,
    differing,
    run_arguments,
    unclear,
)
from kill_resume import identities
from pivottrace.labels.store import LabelStore, read_labels

# A file or folder that each stage makes, in their order.
SIGNS = (
    "pool.parquet",
    "reference.json",
    *(
        f"rounds/00/{name}"
        for name in (
            "rollouts_greedy",
            "signals",
            "scores.parquet",
            "rollouts_first",
            "votes.parquet",
            "probes.parquet",
            "triage.parquet",
            "routes",
            "evaluation_before.parquet",
            "train/metrics.jsonl",
            "train/model",
            "evaluation_after.parquet",
        )
    ),
    "report.html",
)
LONGEST_STAY_S = 0.5
KILLED_IMPORTS = 12
SPENDERS, PURCHASES, AT_ONCE, ALLOWED = 8, 40, 3, 100
IMPORTS = 8
# Sizes of files at which the kernel ends a writer: no byte, a part of a page, after each page.
SIZES = (0, 100, *range(4096, 4096 * 14, 4096))

# A process that loads all it needs, says so, and then does the work that is to be killed.
WARM = (
    "import resource, signal, sys\n"
    "from pathlib import Path\n"
    "import pivottrace.labels.importing, pivottrace.labels.intake, pyarrow.parquet\n"
    "from pivottrace.cli import main\n"
    "from pivottrace.labels.store import LabelStore\n"
    "print(flush=True)\n"
)
# Python asks the kernel not to end it for a file that is too large. Here it shall.
LIMITED = (
    "signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n"
    "size = int(sys.argv.pop())\n"
    "resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))\n"
)
IMPORT = "sys.exit(main(['label', 'import', *sys.argv[1:]]))\n"
CREATE = "LabelStore(Path(sys.argv[1]), 10)\n"
SPEND = (
    "from contextlib import suppress\n"
    "from pivottrace.errors import BudgetError\n"
    "from pivottrace.labels.store import Given\n"
    f"store, added = LabelStore(Path(sys.argv[1]), {ALLOWED}), 0\n"
    f"for i in range({PURCHASES}):\n"
    f"    ids = [f'{{sys.argv[2]}}-{{i}}-{{k}}' for k in range({AT_ONCE})]\n"
    "    given = [Given(name, '1', 'file', 'probe') for name in ids]\n"
    "    with suppress(BudgetError):\n"
    "        added += store.add_many(given).new\n"
    "print(added)\n"
)


def killed_runs(bench: Bench) -> Iterator[Row]:
    """A run that is killed in every stage ends with the same bytes, and repeats no part."""
    output, failed, kills = bench.folder / "killed", [], 0
    finished: dict[str, tuple[int, int]] = {}
    for sign in SIGNS:
        if (output / sign).exists():
            continue
        process = start(*run_arguments(output))
        wait_for(output / sign, process)
        time.sleep(bench.rng.uniform(0, LONGEST_STAY_S))
        process.kill()
        _, errors = process.communicate(timeout=LIMIT_S)
        kills += process.returncode == -signal.SIGKILL
        failed += [f"{sign}: {errors[-300:]}"] if process.returncode > 0 else []
        now = identities(output)
        parts = [name for name in finished.keys() & now if "part-" in name]
        again = [name for name in parts if finished[name] != now[name]]
        failed += [f"before {sign}, {name} was written again" for name in again]
        finished = now
    failed += [f"afterwards: {fault}" for fault in [unclear(*call("run", output))] if fault]
    failed += [f"other bytes in {name}" for name in differing(bench.run, output)]
    failed += [f"left over: {path}" for path in output.rglob(".*.tmp")]
    note = f"soon after a file of each stage; then {len(contents(output))} files are the same bytes"
    yield Row("a run killed by kill -9, and the same command again", kills, failed, note)


def waiting_run(bench: Bench) -> Path:
    """A run that waits for people's labels, with its file filled in as `answers.csv`."""

    def make(output: Path) -> None:
        arguments = run_arguments(output)
        arguments[arguments.index("oracle")] = "file"
        code, told = call(*arguments)
        if code != 3:
            raise SystemExit(told)
        with (output / "probes_to_label.csv").open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        with (output / "answers.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(row | {"answer": str(number)} for number, row in enumerate(rows))

    return bench.other_run("waiting", make)


def killed_imports(bench: Bench) -> Iterator[Row]:
    """An import of labels that is killed stores all of them or none, and can be repeated."""
    waiting = waiting_run(bench)
    whole_s, expected = 0.0, 0
    failed, landed = [], 0
    for number in range(KILLED_IMPORTS + 1):
        copy = bench.copy(waiting)
        process = warm(IMPORT, copy, copy / "answers.csv")
        started = time.monotonic()
        if number == 0:  # undisturbed
            process.wait(LIMIT_S)
            whole_s, expected = time.monotonic() - started, len(labels(copy))
            continue
        time.sleep(bench.rng.uniform(0, whole_s))
        process.kill()
        landed += process.wait() == -signal.SIGKILL
        failed += not_whole(copy, expected, f"kill {number}")
    note = f"{landed} of them before it had ended"
    yield Row("kill -9 of `label import`: all labels or none", KILLED_IMPORTS, failed, note)

    failed, tried = [], 0
    for size in SIZES:
        copy = bench.copy(waiting)
        process = warm(LIMITED + IMPORT, copy, copy / "answers.csv", size)
        if process.wait(LIMIT_S) == 0:
            break
        tried += 1
        failed += not_whole(copy, expected, f"{size} bytes")
    note = "ended by the kernel at its first write beyond a size, page by page"
    yield Row("`label import` that is ended between two writes", tried, failed, note)


def not_whole(copy: Path, expected: int, trial: str) -> list[str]:
    """The faults of the labels after a kill, and after the same import again."""
    before = len(labels(copy))
    code, told = call("label", "import", copy, copy / "answers.csv")
    after = len(labels(copy))
    if before in (0, expected) and code == 0 and after == expected:
        return []
    return [f"{trial}: {before} labels, then {after} of {expected}: {told}"]


def labels(run: Path) -> dict[str, object]:
    path = run / "labels.sqlite"
    return dict(read_labels(path)) if path.is_file() and path.stat().st_size else {}


def killed_creation(bench: Bench) -> Iterator[Row]:
    """A process that ends while it makes a label store leaves no store, or a usable one."""
    failed, tried = [], 0
    for size in SIZES:
        folder = bench.folder / f"store-{size}"
        folder.mkdir()
        process = warm(LIMITED + CREATE, folder / "labels.sqlite", size)
        if process.wait(LIMIT_S) == 0:
            break
        tried += 1
        try:
            LabelStore(folder / "labels.sqlite", 10)
            assert not labels(folder)
        except Exception as error:
            failed.append(f"{size} bytes: {type(error).__name__}: {error}")
    note = "ended by the kernel at its first write beyond a size, page by page"
    yield Row("a label store whose maker is ended between two writes", tried, failed, note)


def warm(work: str, *arguments: object) -> subprocess.Popen[str]:
    """Start a process, and return when it has loaded what its work needs."""
    process = subprocess.Popen(
        [sys.executable, "-c", WARM + work, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)),
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


def spenders(bench: Bench) -> Iterator[Row]:
    """Processes that buy labels from one store never pass the budget, and no label is lost."""
    path = bench.folder / "spent.sqlite"
    started = [warm(SPEND, path, number) for number in range(SPENDERS)]
    claimed = sum(int(process.communicate(timeout=LIMIT_S)[0]) for process in started)
    stored = len(read_labels(path))
    most = ALLOWED - ALLOWED % AT_ONCE
    failed = [] if claimed == stored == most else [f"{claimed} claimed, {stored} stored"]
    what = f"purchases of {AT_ONCE} labels by {SPENDERS} processes, budget {ALLOWED}"
    note = f"{stored} stored, {claimed} claimed"
    yield Row(what, SPENDERS * PURCHASES, failed, note)


def imports_at_once(bench: Bench) -> Iterator[Row]:
    """Imports at the same time store everything or are refused, and can be repeated."""
    copy = bench.copy(waiting_run(bench))
    started = [start("label", "import", copy, copy / "answers.csv") for _ in range(IMPORTS)]
    ended = [(process.communicate(timeout=LIMIT_S)[1], process.returncode) for process in started]
    failed = [fault for errors, code in ended if (fault := unclear(code, errors))]
    with (copy / "answers.csv").open() as file:
        failed += not_whole(copy, len(file.readlines()) - 1, "afterwards")
    stored = sum(code == 0 for _, code in ended)
    yield Row("`label import` at once", IMPORTS, failed, f"{stored} stored, the others refused")


def commands_during_a_run(bench: Bench) -> Iterator[Row]:
    """While a run works, a second one is refused, readers read, and the result stays the same.

    The run is stopped in the middle of a stage, so that it holds the lock for sure.
    """
    output, failed, tried = bench.folder / "working", [], 0
    arguments = run_arguments(output)
    filled = bench.folder / "filled.csv"
    filled.write_text("id,answer\nq,1\n")
    commands = (
        ("run", output),
        tuple(arguments),
        ("status", output),
        ("report", output),
        ("plan", output),
        ("audit", output),
        ("repair", output),
        ("export", output, "--to", "jsonl", "--out", bench.folder / "exported"),
        ("label", "import", output, filled),
    )
    process = start(*arguments)
    for sign in ("rollouts_greedy/part-00000.parquet", "train/metrics.jsonl"):
        wait_for(output / "rounds/00" / sign, process)
        process.send_signal(signal.SIGSTOP)
        for command in commands:
            tried += 1
            code, told = call(*command)
            fault = unclear(code, told)
            if command[0] == "run" and code == 0:
                fault = "a second run went on beside the first"
            failed += [f"{sign}, {command[0]}: {fault}"] if fault else []
        process.send_signal(signal.SIGCONT)
    _, errors = process.communicate(timeout=LIMIT_S)
    if process.returncode:
        failed.append(f"the run: {errors[-300:]}")
    else:
        failed += [f"other bytes in {name}" for name in differing(bench.run, output)]
    note = "during sampling and during training; the run's results are the same bytes"
    yield Row("commands beside a run that works", tried, failed, note)
    shutil.rmtree(output)


def start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not path.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)


def removed_output(bench: Bench) -> Iterator[Row]:
    """A run whose folder is removed while it works ends with one line."""
    output = bench.folder / "removed"
    process = start(*run_arguments(output))
    wait_for(output / "rounds/00/train/metrics.jsonl", process)
    process.send_signal(signal.SIGSTOP)
    shutil.rmtree(output)
    process.send_signal(signal.SIGCONT)
    _, errors = process.communicate(timeout=LIMIT_S)
    fault = unclear(process.returncode, errors) or ("" if process.returncode else "it succeeded")
    yield Row("a run whose folder is removed during training", 1, [fault] if fault else [])


ROWS = (
    killed_runs,
    killed_imports,
    killed_creation,
    spenders,
    imports_at_once,
    commands_during_a_run,
    removed_output,
)

"""A disk that is full or may not be written, memory, files and network that are refused."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from faults_bench import (
    COMMAND,
    LIMIT_S,
    Bench,
    Row,
    called,
    contents,
    differing,
    namespaces,
    run_arguments,
    unclear,
)

NO_MOUNTS = "not tried: no folder can be mounted here (`unshare -m`)"
# Kilobytes that are left: for the first files, the label store, a checkpoint, the trained model.
DISKS_KB = (20, 120, 600, 1500)
MEMORY_GB = (4.0, 3.0, 0.9, 0.3)
MEMORY_LIMIT_S = 120.0
OPEN_FILES = (64, 24)

# The run on a disk of its own, then with room on it, and the result copied to where it can be seen.
FULL_DISK = """
mount -t tmpfs -o size={size}k none {disk} || exit 99
{run} >/dev/null 2>{disk}.errors
code=$?
mount -o remount,size=100m {disk} || exit 99
{run} >/dev/null 2>{disk}.second || exit 98
cp -r {disk}/run {disk}.result
exit $code
"""
READ_ONLY = "mount --bind {run} {run} && mount -o remount,ro,bind {run} || exit 99; {command}"


def full_disks(bench: Bench) -> Iterator[Row]:
    """A full disk is one line that says so; with room, the same command ends as if it had it."""
    what = "a full disk, then room and the same command again"
    if not namespaces():
        yield Row(what, 0, note=NO_MOUNTS)
        return
    failed = []
    for size in DISKS_KB:
        disk = bench.folder / f"disk-{size}"
        disk.mkdir()
        run = quoted([*COMMAND, *run_arguments(disk / "run")])
        code = shell(FULL_DISK.format(size=size, disk=disk, run=run))
        errors = Path(f"{disk}.errors").read_text()
        if code != 1 or unclear(code, errors) or "disk is full" not in errors:
            failed.append(f"{size} KB: code {code}: {errors[-400:]}")
        else:
            result = Path(f"{disk}.result")
            failed += [f"{size} KB: other bytes in {n}" for n in differing(bench.run, result)[:1]]
    sizes = ", ".join(map(str, DISKS_KB))
    yield Row(what, len(DISKS_KB), failed, f"disks of {sizes} KB; then the same bytes as ever")


def read_only(bench: Bench) -> Iterator[Row]:
    """In a folder that may not be written, readers read, and writers are refused in one line."""
    what = "commands on a run that may only be read"
    if not namespaces():
        yield Row(what, 0, note=NO_MOUNTS)
        return
    copy, failed = bench.copy(), []
    (copy / "filled.csv").write_text("id,answer\nq,1\n")
    reads = (("status", copy),)
    writes = (
        ("run", copy, "--train.steps", "3"),
        tuple(run_arguments(copy / "other")),
        ("report", copy),
        ("plan", copy),
        ("export", copy, "--to", "jsonl"),
        ("redo", copy, "train"),
        ("label", "import", copy, copy / "filled.csv"),
        ("init", copy / "my.toml"),
    )
    for arguments in reads + writes:
        command = quoted([*COMMAND, *map(str, arguments)])
        errors = bench.folder / "errors"
        code = shell(READ_ONLY.format(run=copy, command=f"{command} >/dev/null 2>{errors}"))
        fault = unclear(code, errors.read_text())
        if not fault and (code == 0) != (arguments in reads):
            fault = f"code {code}"
        failed += [f"{arguments[0]}: {fault}"] if fault else []
    yield Row(what, len(reads + writes), failed, "one line each, or no change")


def shell(script: str) -> int:
    """Run a script where it may mount folders, unseen by other processes."""
    return subprocess.run(
        [*namespaces(), "sh", "-c", script], capture_output=True, timeout=2 * LIMIT_S
    ).returncode


def quoted(words: Sequence[str]) -> str:
    return " ".join("'" + word.replace("'", r"'\''") + "'" for word in words)


def refused_memory(bench: Bench) -> Iterator[Row]:
    """Under a limit of the memory, a command ends well or with one line, and never waits."""
    source = (
        *("--questions", "world:default?num=4", "--labels.source", "oracle", "--budget", "0.5"),
        *("--rollouts.max-new-tokens", "64", "--train.max-new-tokens", "64"),
    )
    for number, limit in enumerate(MEMORY_GB):
        commands = (
            ("status", bench.run),
            ("report", bench.copy()),
            ("validate", *source),
            ("run", *source, "--output", bench.folder / f"memory-{number}", "--until", "greedy"),
        )
        failed, refused = [], 0
        before = ("prlimit", f"--as={int(limit * 1e9)}", "--core=0")
        for arguments in commands:
            code, _, errors = called(*arguments, before=before, timeout=MEMORY_LIMIT_S)
            refused += "no more memory" in errors
            fault = unclear(code, errors)
            if len(errors.splitlines()) > 20:
                fault = f"{len(errors.splitlines())} lines: {errors[:200]}"
            failed += [f"{arguments[0]}: {fault}"] if fault else []
        note = f"{refused} refused for memory"
        yield Row(f"commands with {limit:g} GB of memory (`ulimit -v`)", 4, failed, note)


def other_surroundings(bench: Bench) -> Iterator[Row]:
    """A small run works, or is refused in one line, in surroundings that few users have."""
    arguments = [*run_arguments(bench.folder), "--until", "triage"]
    where = arguments.index("--output") + 1
    whole = contents(bench.run)
    ascii_only = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    homeless = {name: value for name, value in os.environ.items() if name != "HOME"}
    trials: dict[str, tuple[Sequence[str], dict[str, str], str]] = {
        "ASCII alone and a plain path": ((), ascii_only, "plain"),
        "ASCII alone and another path": ((), ascii_only, "m\u00f6nch \u65e5\u672c"),
        "LC_ALL=C and another path": (
            (),
            os.environ | {"LC_ALL": "C"},
            "m\u00f6nch \u65e5\u672c 2",
        ),
        "no HOME": ((), homeless, "homeless"),
        **{
            f"{number} open files": (
                ("prlimit", f"--nofile={number}"),
                dict(os.environ),
                str(number),
            )
            for number in OPEN_FILES
        },
    }
    failed, worked = [], []
    for name, (before, env, folder) in trials.items():
        output = bench.folder / folder
        arguments[where] = str(output)
        code, _, errors = called(*arguments, before=before, env=env)
        fault = unclear(code, errors)
        if not fault and code == 0:
            worked.append(name)
            made = contents(output)
            fault = ", ".join(name for name in made if made[name] != whole.get(name))
        failed += [f"{name}: {fault}"] if fault else []
    note = f"the same bytes as ever in {len(worked)}, the others refused in one line"
    yield Row("runs in other surroundings", len(trials), failed, f"{'; '.join(trials)}: {note}")


# Python imports this at its start. It tells of each attempt to reach the network.
COUNTER = """
import os, sys

EVENTS = ("socket.getaddrinfo", "socket.gethostbyname", "socket.connect", "socket.sendto")


def tell(event, arguments):
    if event in EVENTS:
        with open(os.environ["ATTEMPTS"], "a") as file:
            file.write(f"{event} {arguments}\\n")


sys.addaudithook(tell)
"""
SWITCHES = (
    *("CI", "HF_HUB_DISABLE_TELEMETRY", "DISABLE_TELEMETRY", "DO_NOT_TRACK"),
    *("HF_UPDATE_DOWNLOAD_COUNTS", "HF_HUB_OFFLINE"),
)
ASKS = "import socket\ntry:\n    socket.getaddrinfo('localhost', 9)\nexcept OSError:\n    pass\n"


def no_look_up(bench: Bench) -> Iterator[Row]:
    """A training on local questions makes no look-up. TRL would make one, unless CI is set."""
    home, log = bench.folder / "home", bench.folder / "attempts"
    home.mkdir()
    (home / "sitecustomize.py").write_text(COUNTER)
    path = os.pathsep.join([str(home), *filter(None, [os.environ.get("PYTHONPATH")])])
    env = {name: value for name, value in os.environ.items() if name not in SWITCHES}
    env |= {"HOME": str(home), "HF_HOME": str(home), "ATTEMPTS": str(log), "PYTHONPATH": path}
    subprocess.run([sys.executable, "-c", ASKS], env=env, check=True)
    counted = log.is_file()
    log.unlink(missing_ok=True)
    failed = [] if counted else ["an attempt is not counted here"]
    code, _, errors = called(
        *("demo", "--output", home / "run", "--questions", "world:default?num=24&seed=1"),
        *("--evaluation", "world:default?split=evaluation&num=2&seed=1"),
        *("--rollouts.num-samples", "4", "--budget", "0.5", "--train.steps", "1"),
        *("--train.questions-per-step", "2", "--train.num-generations", "2"),
        before=namespaces(),
        env=env,
    )
    failed += [errors[-300:]] if code else []
    failed += log.read_text().splitlines() if log.is_file() else []
    note = "no network (`unshare -n`)" if namespaces() else "with the network of this machine"
    yield Row("look-ups of a training with 24 questions", 1, failed[:1], f"CI unset; {note}")


ROWS = (full_disks, read_only, refused_memory, other_surroundings, no_look_up)

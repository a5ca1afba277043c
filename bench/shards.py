"""Two workers on one pool beside one worker: seconds, bytes, and the cost of a killed worker.

    python bench/shards.py [--questions 3000] [--killed 320] [--folder DIR]

Each worker has one thread. The stages are `greedy`, `trace`, `score` and `sample`, as
`pivottrace run --until sample --shard I/2` runs them. A worker's seconds begin when it has the
model open and end with the stage, so waiting for the other worker counts. A part that was made
twice has a new inode. The script ends with 1 if a byte differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

IN_PARTS = ("rollouts_greedy", "signals", "rollouts_first", "rollouts_sampled")


def start(output: Path, questions: int, shard: str | None = None) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "pivottrace", "run", "--until", "sample", f"--output={output}"]
    command += ["--questions", f"world:default?num={questions}&seed=5", "--labels.source", "oracle"]
    command += ["--budget", "0.3", "--rollouts.max-new-tokens", "320"]
    command += ["--rollouts.part-size", "32"] + ([] if shard is None else ["--shard", shard])
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)


def finish(*workers: subprocess.Popen[bytes]) -> float:
    """Wait for workers; return the seconds since now."""
    began = time.monotonic()
    for worker in workers:
        if worker.wait():
            sys.exit(f"a worker ended with {worker.returncode}")
    return time.monotonic() - began


def working_seconds(output: Path) -> float:
    """Return the seconds of the stages with the model open; of several workers, of the slowest."""
    rows = [json.loads(line) for line in (output / "timings.jsonl").read_text().splitlines()]
    parts = {(row["stage"], row.get("part")) for row in rows}
    timed = {stage for stage, part in parts if part == "generation"}
    chosen = [(s, "generation") if s in timed else (s, None) for s, part in parts if part is None]
    return sum(
        max(row["seconds"] for row in rows if (row["stage"], row.get("part")) == key)
        for key in chosen
        if key[0] in ("greedy", "trace", "score", "sample")
    )


def digests(output: Path) -> dict[str, str]:
    found = sorted(output.rglob("*.parquet"))
    return {str(p.relative_to(output)): hashlib.sha256(p.read_bytes()).hexdigest() for p in found}


def written_parts(output: Path) -> dict[str, int]:
    found = (p for name in IN_PARTS for p in output.glob(f"rounds/00/{name}/part-*.parquet"))
    return {str(path.relative_to(output)): path.stat().st_ino for path in found}


def killed(folder: Path, questions: int) -> None:
    """Kill a worker after its first part, and say what was made again."""
    output = folder / "killed"
    first, second = (start(output, questions, f"{i}/2") for i in (1, 2))
    while not (output / "rounds/00/rollouts_greedy/part-00001.parquet").exists():
        time.sleep(0.01)
    second.send_signal(signal.SIGKILL)
    second.wait()
    before = written_parts(output)
    finish(first)
    after = written_parts(output)
    again = [name for name, inode in before.items() if after.get(name, inode) != inode]
    finish(start(folder / "alone", questions))
    same = digests(output) == digests(folder / "alone")
    print(
        f"killed after its first part: finished parts made again {len(again)}, same bytes: {same}"
    )
    if again or not same:
        sys.exit(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--questions", type=int, default=3000)
    parser.add_argument("--killed", type=int, default=320, help="questions of the run with a kill")
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="shards-"))
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; runs in {folder}")
    killed(folder, arguments.killed)

    one, two = folder / "one", folder / "two"
    whole_one = finish(start(one, arguments.questions))
    whole_two = finish(*(start(two, arguments.questions, f"{i}/2") for i in (1, 2)))
    own_one, own_two = working_seconds(one), working_seconds(two)
    print(f"{arguments.questions:,} questions, seconds:  one worker   two workers   two / one")
    print(f"  start-up left out {own_one:20.0f} {own_two:13.0f} {own_two / own_one:11.3f}")
    print(f"  whole commands    {whole_one:20.0f} {whole_two:13.0f} {whole_two / whole_one:11.3f}")
    same = digests(one) == digests(two)
    print(f"same bytes: {same}")
    if not same:
        sys.exit(1)


if __name__ == "__main__":
    main()

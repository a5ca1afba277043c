"""Kill runs with SIGKILL at random moments, start them again, and compare their results.

    python bench/kill_resume.py [--kills 25] [--questions 96] [--seed 0]

Every run directory must end with the same bytes in every table as an undisturbed run, and a part
that was finished before a kill may not be written again. Otherwise the script exits with 1.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path


def command(output: Path, questions: int) -> list[str]:
    return [
        sys.executable,
        "-m",
        "pivottrace.cli",
        "run",
        "--until",
        "triage",
        "--output",
        str(output),
        "--questions",
        f"world:default?num={questions}&seed=5",
        "--labels.source",
        "oracle",
        "--budget",
        "0.5",
        "--rollouts.num-samples",  # in two steps
        "8",
        "--rollouts.max-new-tokens",
        "128",
        "--rollouts.part-size",
        "8",
        "--train.enabled",
        "false",
    ]


def tables(output: Path) -> dict[str, Path]:
    return {str(p.relative_to(output)): p for p in output.rglob("*.parquet") if p.name[0] != "."}


def digests(output: Path) -> dict[str, str]:
    return {k: hashlib.sha256(p.read_bytes()).hexdigest() for k, p in tables(output).items()}


def identities(output: Path) -> dict[str, tuple[int, int]]:
    """Return inode and time of each file, which differ in a rewritten file."""
    return {k: (p.stat().st_ino, p.stat().st_mtime_ns) for k, p in tables(output).items()}


def stage_at(output: Path) -> str:
    """Return roughly the stage of the kill: the first table that does not exist yet."""
    there = {name.split("/")[2] if name.startswith("rounds") else name for name in tables(output)}
    order = (
        "pool.parquet",
        "rollouts_greedy",
        "signals",
        "scores.parquet",
        "rollouts_sampled",
        "votes.parquet",
        "probes.parquet",
        "evidence.parquet",
        "calibration.parquet",
        "triage.parquet",
    )
    reached = [name for name in order if name in there]
    return f"after {reached[-1].removesuffix('.parquet')} began" if reached else "before the pool"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--questions", type=int, default=96)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)

    with tempfile.TemporaryDirectory() as folder:
        reference = Path(folder) / "reference"
        started = time.monotonic()
        subprocess.run(command(reference, arguments.questions), check=True, capture_output=True)
        whole = time.monotonic() - started
        expected = digests(reference)
        print(f"undisturbed run: {whole:.0f} s, {len(expected)} tables and parts")

        kills: Counter[str] = Counter()
        repeated = differing = runs = 0
        while kills.total() < arguments.kills:
            output = Path(folder) / f"run-{runs}"
            runs += 1
            finished: dict[str, tuple[int, int]] = {}
            while True:
                process = subprocess.Popen(
                    command(output, arguments.questions),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                )
                kill = kills.total() < arguments.kills
                try:
                    _, errors = process.communicate(timeout=rng.uniform(0, whole) if kill else None)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.communicate()
                    kills[stage_at(output)] += 1
                now = identities(output)
                repeated += sum(now.get(name) != identity for name, identity in finished.items())
                finished = now
                if process.returncode == 0:
                    break
                if process.returncode > 0:
                    print(errors.decode())
                    return 1
            differing += digests(output) != expected
    print(f"kills: {kills.total()} over {runs} runs")
    for stage, count in sorted(kills.items()):
        print(f"  {count:3d}  {stage}")
    print(f"finished parts written again: {repeated}")
    print(f"runs that ended with other bytes: {differing}")
    return int(bool(repeated or differing))


if __name__ == "__main__":
    sys.exit(main())

"""Ten million scored rows: read from parquet parts, ranked, calibrated, routed, written.

    python bench/triage.py [--rows 10000000] [--parts 10] [--folder FOLDER]

Made-up scored rows are written first, which is not counted. Then another process runs the
pipeline's own code (`pivottrace.run.scored_pool`, which the triage stage calls) and reports seconds
per step and its peak memory by the kernel's high-water mark. The limit is 30 seconds and 4 GB on
two cores; beyond it the script exits with 1. Route files with the questions' texts are not
measured.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pivottrace.routing.curves import calibrate
from pivottrace.routing.probes import MAX_PROBES, draw_probes, rank_fractions
from pivottrace.routing.routes import TriageOptions
from pivottrace.run.scored_pool import probe_evidence, read_scored, route_pool, triage_batches
from pivottrace.run.storage import write_batches
from pivottrace.schemas import EVIDENCE, TRIAGE

G, SEED, BUDGET_SHARE = 16, 0, 0.293
LIMIT_S, LIMIT_GB = 30.0, 4.0
ESTIMATOR = "onset_density"


def part_files(folder: Path, table: str) -> list[Path]:
    return sorted(folder.glob(f"{table}-*.parquet"))


def generate(folder: Path, rows: int, parts: int) -> None:
    """Write scored rows, and labels for the rows that the draw will choose."""
    rng = np.random.default_rng(SEED)
    scores, correct, shares = [], [], []
    bounds = np.linspace(0, rows, parts + 1).astype(int)
    for index in range(parts):
        size = int(bounds[index + 1] - bounds[index])
        hard = rng.random(size)
        mu = 1 / (1 + np.exp(8 * (hard - 0.65)))
        right = rng.binomial(G, rng.beta(mu, 1 - mu)).astype(np.int32)
        rival = np.where(rng.random(size) < 0.2, G - right, (G - right) // 2)
        # Densities are ratios of small numbers, so there are many ties, as in real runs.
        tokens = rng.integers(40, 400, size)
        score = np.round((hard + 0.2 * rng.normal(size=size)).clip(0) * 0.05 * tokens) / tokens
        tie, share = right == rival, np.maximum(right, rival) / G
        failed = rng.random(size) < 0.01
        ids = np.char.add("q", np.arange(bounds[index], bounds[index + 1]).astype(str))
        scored = {
            "question_id": ids,
            ESTIMATOR: pa.array(np.where(failed, np.nan, score), from_pandas=True),
        }
        voted = pa.table(
            {
                "question_id": ids,
                "vote_answer": pa.array(rng.integers(0, 500, size).astype(str), mask=tie),
                "vote_share": share,
                "vote_reason": pa.array(["ok", "tie"]).take(pa.array(tie.astype(int))),
                "num_samples": np.full(size, G, np.int32),
                "failure": pa.array(np.full(size, "truncated"), mask=~failed),
            }
        )
        for name, table in (("scores", pa.table(scored)), ("votes", voted)):
            path = folder / f"{name}-{index:05d}.parquet"
            pq.write_table(table, path, compression="zstd")
        scores.append(np.where(failed, np.nan, score))
        correct.append(right)
        shares.append(np.where(tie, np.nan, share))
    score, right, share = (np.concatenate(values) for values in (scores, correct, shares))
    drawn = draw_probes(score, MAX_PROBES, SEED)
    ranks = rank_fractions(score)
    evidence = [
        {
            "question_id": f"q{i}",
            "rank": ranks[i],
            "score": score[i],
            "stage": 0,
            "num_correct": int(right[i]),
            "num_samples": G,
            "vote_right": bool(right[i] / G == share[i]),
            "vote_abstained": bool(np.isnan(share[i])),
            "vote_share": None if np.isnan(share[i]) else share[i],
            "greedy_right": bool(right[i] > G / 2),
        }
        for i in drawn
    ]
    pq.write_table(pa.Table.from_pylist(evidence, schema=EVIDENCE), folder / "evidence.parquet")


def measure(folder: Path) -> tuple[float, float]:
    """Run the counted part in its own process; return its seconds and peak gigabytes."""
    times = [("start", time.perf_counter())]
    rows = pq.read_table(folder / "evidence.parquet").to_pylist()
    correctness = {row["question_id"]: row["num_correct"] / G for row in rows}
    paths = part_files(folder, "votes")
    scored = read_scored(paths, part_files(folder, "scores"), ESTIMATOR, correctness)
    times.append(("read", time.perf_counter()))
    ranks = rank_fractions(scored.scores)
    drawn = draw_probes(scored.scores, MAX_PROBES, SEED)
    assert [row["question_id"] for row in rows] == [f"q{i}" for i in drawn]
    times.append(("rank and draw", time.perf_counter()))
    probes = probe_evidence(rows)
    routed = route_pool(
        scored,
        budget=int(BUDGET_SHARE * ranks.size) - len(rows),
        probes=probes,
        curve=calibrate(probes),
        options=TriageOptions(),
        ranks=ranks,
    )
    times.append(("calibrate and route", time.perf_counter()))
    batches = triage_batches(paths, scored, routed)
    write_batches(folder / "triage.parquet", TRIAGE, batches)
    times.append(("write", time.perf_counter()))

    total, peak = times[-1][1] - times[0][1], peak_gb()
    print(f"\n{ranks.size:,} rows in {len(paths)} parts; {routed.result.counts()}\n")
    print("| step | seconds |\n|---|---|")
    for (_, before), (name, after) in pairwise(times):
        print(f"| {name} | {after - before:.1f} |")
    print(f"| all, of {LIMIT_S:.0f} allowed | {total:.1f} |")
    print(f"\npeak memory {peak:.2f} GB, of {LIMIT_GB:.0f} allowed")
    return total, peak


def peak_gb() -> float:
    """Return the kernel's high-water mark; `getrusage` would report the parent's fork."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e9


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--parts", type=int, default=10)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--measure", action="store_true", help="on a folder made before")
    arguments = parser.parse_args()
    if arguments.measure:
        total, peak = measure(arguments.folder)
        return int(total > LIMIT_S or peak > LIMIT_GB)
    with tempfile.TemporaryDirectory() as made:
        folder = arguments.folder or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        generate(folder, arguments.rows, arguments.parts)
        command = [sys.executable, __file__, "--measure", "--folder", str(folder)]
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

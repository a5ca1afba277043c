"""Ten million scored rows: read from parquet parts, ranked, fitted, routed, written.

    python bench/triage.py [--rows 10000000] [--parts 10] [--folder FOLDER]

Made-up scored rows are written first, which is not counted: all estimators of the package that read
the trace, and 4, 8 or 16 sampled answers in classes. Then another process runs the pipeline's own
code (`pivottrace.run.scored_pool` and `pool_routes`, which the stages call) and reports seconds per
step and its peak memory by the kernel's high-water mark. The limit is 30 seconds and 4 GB on two
cores; beyond it the script exits with 1. Route files with the questions' texts are not measured.
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

from pivottrace.estimators import ESTIMATORS
from pivottrace.routing.probes import MAX_PROBES, draw_probes, rank_fractions
from pivottrace.routing.routes import TriageOptions
from pivottrace.routing.vote_model import NONE, fit_votes
from pivottrace.run.pool_routes import agreement_of, expectations, route_pool, triage_batches
from pivottrace.run.scored_pool import Label, probe_evidence, read_scored
from pivottrace.run.storage import write_batches
from pivottrace.schemas import EVIDENCE, TRIAGE

SAMPLES, SEED, BUDGET_SHARE = (4, 8, 16), 0, 0.293
LIMIT_S, LIMIT_GB = 30.0, 4.0
DRIVING = "peak_count"
FEATURES = (DRIVING, *(n for n, e in ESTIMATORS.items() if e.competes and n != DRIVING))
NUM_CLASSES = 6  # the right answer, and up to five wrong ones


def part_files(folder: Path, table: str) -> list[Path]:
    return sorted(folder.glob(f"{table}-*.parquet"))


def generate(folder: Path, rows: int, parts: int) -> None:
    """Write scored rows, and labels for the rows that the draw will choose."""
    rng = np.random.default_rng(SEED)
    bounds = np.linspace(0, rows, parts + 1).astype(int)
    driving, judged = [], []
    for index, (start, end) in enumerate(pairwise(bounds)):
        size = int(end - start)
        ids = np.char.add("q", np.arange(start, end).astype(str))
        hard = rng.random(size)
        failed = rng.random(size) < 0.01
        scores = _scores(rng, ids, hard, failed)
        votes, of_labels = _votes(rng, ids, hard, failed)
        for name, table in (("scores", scores), ("votes", votes)):
            path = folder / f"{name}-{index:05d}.parquet"
            pq.write_table(table, path, compression="zstd")
        driving.append(np.where(failed, np.nan, scores[DRIVING].to_numpy()))
        judged.append(of_labels)
    score = np.concatenate(driving)
    columns = {name: np.concatenate([each[name] for each in judged]) for name in judged[0]}
    drawn, ranks = draw_probes(score, MAX_PROBES, SEED), rank_fractions(score)
    evidence = [
        {"question_id": f"q{i}", "rank": ranks[i], "score": score[i], "stage": 0}
        | {"chance": MAX_PROBES / rows}
        | {name: column[i].item() for name, column in columns.items()}
        for i in drawn
    ]
    for row in evidence:
        row["vote_share"] = None if row["vote_abstained"] else row["vote_share"]
    pq.write_table(pa.Table.from_pylist(evidence, schema=EVIDENCE), folder / "evidence.parquet")


def _scores(rng: np.random.Generator, ids: np.ndarray, hard: np.ndarray, failed: np.ndarray):
    """Each estimator sees the difficulty through a noise of its own; some count, so they tie."""
    columns = {"question_id": ids}
    for place, name in enumerate(FEATURES):
        seen = hard + rng.normal(size=hard.size) * (0.2 + 0.05 * (place % 4))
        if name.endswith("_count"):
            seen = np.round(seen.clip(0) * 8)
        columns[name] = pa.array(np.where(failed, np.nan, seen), from_pandas=True)
    return pa.table(columns)


def _votes(rng: np.random.Generator, ids: np.ndarray, hard: np.ndarray, failed: np.ndarray):
    """The table `votes`, and the columns of `evidence` that a label of each row would give."""
    size = hard.size
    mu = 1 / (1 + np.exp(8 * (hard - 0.65)))
    chance = rng.beta(mu, 1 - mu)
    samples = np.array(SAMPLES)[np.minimum((hard * 3 + rng.random(size)).astype(int), 2)]
    # Column 0 is the right answer's class; each wrong class takes a share of the samples left.
    sizes = np.zeros((size, NUM_CLASSES), np.int32)
    sizes[:, 0] = rng.binomial(samples, chance)
    left = samples - sizes[:, 0]
    stubborn = np.where(rng.random(size) < 0.2, 0.95, 0.4)
    for place in range(1, NUM_CLASSES):
        sizes[:, place] = rng.binomial(left, stubborn)
        left = left - sizes[:, place]  # the rest at the end has no answer
    order = np.argsort(-sizes, axis=1, kind="stable")
    largest_first = np.take_along_axis(sizes, order, axis=1)
    num_classes = (sizes > 0).sum(axis=1)
    # The greedy answer is the right one or the first wrong one, whether a sample gave it or not.
    own = (rng.random(size) >= chance).astype(int)
    greedy = np.minimum(np.argmax(order == own[:, None], axis=1), num_classes)
    greedy = np.where(rng.random(size) < 0.01, -1, greedy)
    found = (sizes[:, 0] > 0) | ((own == 0) & (greedy >= 0))
    right_class = np.where(found, np.minimum(np.argmax(order == 0, axis=1), num_classes), NONE)
    abstained = largest_first[:, 0] == largest_first[:, 1]
    share = largest_first[:, 0] / samples
    ends = np.concatenate([[0], np.cumsum(num_classes)]).astype(np.int32)
    votes = pa.table(
        {
            "question_id": ids,
            "vote_answer": pa.array(rng.integers(0, 500, size).astype(str), mask=abstained),
            "vote_share": share,
            "vote_reason": pa.array(["ok", "tie"]).take(pa.array(abstained.astype(int))),
            "num_samples": samples.astype(np.int32),
            "class_counts": pa.ListArray.from_arrays(ends, largest_first[largest_first > 0]),
            "greedy_class": greedy.astype(np.int32),
            "failure": pa.array(np.full(size, "truncated"), mask=~failed),
        }
    )
    return votes, {
        "num_correct": sizes[:, 0],
        "num_samples": samples,
        "vote_right": (order[:, 0] == 0) & ~abstained,
        "vote_abstained": abstained,
        "vote_share": share,
        "greedy_right": (own == 0) & (greedy >= 0),
        "right_class": right_class,
    }


def measure(folder: Path) -> tuple[float, float]:
    """Run the counted part in its own process; return its seconds and peak gigabytes."""
    times = [("start", time.perf_counter())]
    rows = pq.read_table(folder / "evidence.parquet").to_pylist()
    labels = {
        row["question_id"]: Label(row["num_correct"] / row["num_samples"], row["right_class"])
        for row in rows
    }
    paths = part_files(folder, "votes")
    scored = read_scored(paths, part_files(folder, "scores"), DRIVING, FEATURES, labels)
    times.append(("read", time.perf_counter()))
    ranks = rank_fractions(scored.scores)
    times.append(("rank", time.perf_counter()))
    agreement, labelled = agreement_of(scored), np.flatnonzero(scored.evidence.labelled)
    counts, features = scored.counts.rows(labelled), scored.features[labelled]
    model = fit_votes(scored.names, counts, features, scored.right[labelled])
    times.append(("fit", time.perf_counter()))
    expected = expectations(scored, model, agreement)
    times.append(("expect", time.perf_counter()))
    routed = route_pool(
        scored,
        budget=int(BUDGET_SHARE * ranks.size) - len(rows),
        expected=expected,
        probes=probe_evidence(rows),
        options=TriageOptions(),
        ranks=ranks,
    )
    times.append(("route", time.perf_counter()))
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

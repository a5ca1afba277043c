"""The files and folders that each stage writes, relative to the run directory.

`{}` is the folder of the stage's round. The tables of the evaluations have their own places.
"""

from __future__ import annotations

REFERENCE = "reference.json"
# The files that later stages read, and that a stage makes again byte for byte. The manifest has a
# checksum of each, once the stage has finished. `trace` begins the reference, and `score` ends it.
TABLES: dict[str, tuple[str, ...]] = {
    "pool": ("pool.parquet", "evaluation.parquet", "overlap.parquet"),
    "greedy": ("{}/rollouts_greedy",),
    "trace": ("{}/signals",),
    "score": ("{}/scores.parquet", REFERENCE),
    "sample": ("{}/rollouts_sampled", "{}/votes.parquet"),
    "truth": ("{}/rollouts_truth", "{}/truth.parquet"),
    "calibrate": (
        "{}/probes.parquet",
        "{}/evidence.parquet",
        "{}/labelled.parquet",
        "{}/calibration.parquet",
        "{}/ranking.parquet",
        "{}/vote_model.json",
    ),
    "triage": ("{}/triage.parquet", "{}/flows.parquet", "{}/routes"),
    "evaluate_before": ("{evaluation_before}",),
    "train": ("{}/training_rows.parquet",),
    "evaluate_after": ("{evaluation_after}",),
}
# Files that other stages go on writing, and files that differ from run to run.
OTHERS: dict[str, tuple[str, ...]] = {
    "trace": (REFERENCE,),
    "label": ("labels.sqlite",),
    "train": ("{}/train/model", "{}/train/metrics.jsonl"),
}
# Files of commands beside the stages. They show what calibration has found, in a round and in the
# last round. An export has a record of its own (`commands.export`).
PLAN = ("{}/plan.parquet", "{}/plan.csv", "{}/plan.json", "{}/plan.svg")
AUDIT = "audit.csv"
EVALUATIONS = ("evaluation_before", "evaluation_after")

"""Truth for a study: further samples of every answered question, checked against its true answer.

This is not a stage of the main job, because it needs answers beforehand. It takes its own samples.
Consistency, votes and probes never see them, so no estimator is judged by samples that it was
computed from. The stage also checks the run's own vote.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from pivottrace.labels.buying import known_answers
from pivottrace.rollouts.parts import PoolRollouts
from pivottrace.run.directory import RunDir
from pivottrace.run.progress import progress
from pivottrace.run.storage import read_parquet
from pivottrace.schemas import TRUTH
from pivottrace.verifier import Verifier


def run(run: RunDir) -> None:
    """Write the parts of `rollouts_truth`, and the table `truth`.

    Questions without an answer have no samples there, and no row.

    Raises:
        RunDirError: Votes are missing, or the rollouts came from another model.
    """
    if run.is_done("truth"):
        return
    truths = known_answers(run)
    votes = run.read_table("votes", made_by="sample").to_pylist()
    pool = PoolRollouts(run, only=truths)
    pool.write_truth(lambda: run.begin("truth"))
    with Verifier.of(run.config.answers) as verifier:
        rows = _check(run, pool.num_parts, truths, votes, verifier)
    run.write_table("truth", pa.Table.from_pylist(rows, schema=TRUTH))
    run.mark_done("truth", num_parts=pool.num_parts, **verifier.facts())


def _check(
    run: RunDir,
    num_parts: int,
    truths: dict[str, str],
    votes: list[dict[str, Any]],
    verifier: Verifier,
) -> list[dict[str, Any]]:
    vote_of = {row["question_id"]: row for row in votes}
    greedy = run.read_parts("rollouts_greedy", "greedy", ["question_id", "answer"])
    greedy_answers = dict(zip(*(c.to_pylist() for c in greedy.columns), strict=True))
    samples: dict[str, list[str | None]] = {}
    for index in range(num_parts):
        part = read_parquet(run.part_path("rollouts_truth", index), ["question_id", "answer"])
        for question_id, answer in zip(*(c.to_pylist() for c in part.columns), strict=True):
            samples.setdefault(question_id, []).append(answer)
    rows: list[dict[str, Any]] = []
    with progress("check", len(truths)) as update:
        for question_id, truth in truths.items():
            update(len(rows))
            vote = vote_of[question_id]
            given = [*samples[question_id], vote["vote_answer"], greedy_answers[question_id]]
            *right, vote_right, greedy_right = verifier.check_many(given, [truth] * len(given))
            rows.append(
                {
                    "question_id": question_id,
                    "num_correct": sum(right),
                    "num_samples": len(right),
                    "greedy_right": greedy_right,
                    "vote_right": vote_right and vote["vote_reason"] == "ok",
                }
            )
        update(len(rows))
    return rows

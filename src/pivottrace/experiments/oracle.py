"""The oracle's triage: routes by the true correctness of every question.

It reads the answer of every question of the pool, so it lives here and in no stage: `pivottrace
run` cannot ask for it. It routes by the triage's own rule on exact curves: correctness and
learnability of the question's own samples, its vote right or wrong for certain. Labels are still
bought from the budget, and training still knows only those.
"""

from __future__ import annotations

import numpy as np

from pivottrace.labels import buying
from pivottrace.routing.auction import triage
from pivottrace.routing.curves import CurveValues
from pivottrace.routing.probes import rank_fractions
from pivottrace.run import readings, scored_pool
from pivottrace.run.directory import RunDir
from pivottrace.run.storage import write_batches
from pivottrace.schemas import CALIBRATION, EVIDENCE, PROBES, TRIAGE
from pivottrace.stages.triage import write_route_files
from pivottrace.verifier import Verifier

FloatArray = np.ndarray


def triage_by_truth(run: RunDir) -> None:
    """Write what calibration and triage leave, without a probe, unless triage is done.

    Raises:
        DataError: a question of the pool has no answer.
    """
    with run.locked():
        if run.is_done("triage"):
            return
        for name, schema in (
            ("probes", PROBES), ("evidence", EVIDENCE), ("calibration", CALIBRATION),
        ):  # fmt: skip
            run.write_table(name, schema.empty_table())
        allowed = buying.allowed_labels(run)
        run.mark_done(
            "calibrate", estimator="oracle", num_probes=0, labels_asked=0, labels_used=0,
            labels_allowed=allowed, combination=None, mean_correctness=None,
            greedy_accuracy=None, vote_accuracy=None,
        )  # fmt: skip
        correctness, vote_right = _truth(run)
        scored = readings.scored_pool(run, [])
        ranks = rank_fractions(np.where(scored.evidence.failure_code > 0, np.nan, 1 - correctness))
        values = exact_curves(correctness, vote_right, scored.evidence)
        result = triage(
            ranks,
            budget=allowed,
            curve=values,
            vote_holds=vote_right,
            evidence=scored.evidence,
            options=readings.triage_options(run.config),
        )
        routed = scored_pool.Routed(ranks, values, None, result)
        batches = scored_pool.triage_batches(readings.score_files(run), scored, routed)
        write_batches(run.table_path("triage"), TRIAGE, batches)
        write_route_files(run)
        counts = result.counts()
        run.mark_done(
            "triage", counts=counts, labels_allowed=allowed, labels_planned=counts["annotate"],
            weak_floor=None,
        )  # fmt: skip


def exact_curves(
    correctness: FloatArray, vote_right: FloatArray, evidence: scored_pool.QuestionEvidence
) -> CurveValues:
    """Curves that know each question: its own correctness p, p(1-p)G/(G-1), and its vote.

    Args:
        correctness: (Q,) share of right samples, in [0, 1].
        vote_right: (Q,) bool.
        evidence: of the same questions; their number of samples and vote shares.
    """
    samples = np.maximum(evidence.num_samples, 2)
    learnability = correctness * (1.0 - correctness) * samples / (samples - 1)
    vote = vote_right.astype(np.float64)
    return CurveValues(
        correctness, correctness, correctness, vote, vote, vote, learnability, evidence.vote_share
    )


def _truth(run: RunDir) -> tuple[FloatArray, FloatArray]:
    """(Q,) share of right samples and (Q,) whether the vote is right, in the scores' order."""
    truths, answers = buying.every_answer(run), readings.sampled_answers(run)
    scores = run.read_table("scores", made_by="score").select(["question_id", "vote_answer"])
    correctness, votes = [], []
    with Verifier(run.config.answers.verifier, run.config.answers.timeout_s) as verifier:
        for row in scores.to_pylist():
            given = [*answers[row["question_id"]], row["vote_answer"]]
            *right, vote = verifier.check_many(given, [truths[row["question_id"]]] * len(given))
            correctness.append(np.mean(right))
            votes.append(vote)
    return np.array(correctness), np.array(votes, dtype=bool)

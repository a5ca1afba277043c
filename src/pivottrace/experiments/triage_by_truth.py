"""The oracle's triage: routes by the true correctness of every question.

The oracle reads the answer of every question of the pool. Therefore it is here and not a stage:
`pivottrace run` cannot use it. It routes by the triage's own rule on exact curves: correctness and
learnability of the question's own samples, and a vote that is right or wrong for certain. Labels
are still bought from the budget, and training still knows only the bought labels.
"""

from __future__ import annotations

import numpy as np

from pivottrace.labels.budget import allowed_labels
from pivottrace.labels.buying import every_answer
from pivottrace.routing import auction
from pivottrace.routing.curves import CurveValues
from pivottrace.routing.probes import rank_fractions
from pivottrace.run import readings, scored_pool
from pivottrace.run.choices import triage_options
from pivottrace.run.directory import RunDir
from pivottrace.schemas import PROBES
from pivottrace.stages import calibrate, triage
from pivottrace.verifier import Verifier

FloatArray = np.ndarray


def triage_by_truth(run: RunDir) -> None:
    """Write the tables of calibration and triage without a probe, unless triage is done.

    Raises:
        DataError: A question of the pool has no answer.
    """
    with run.locked():
        if run.is_done("triage"):
            return
        run.write_table("probes", PROBES.empty_table())
        calibrate.finish(run, [], estimator="oracle", combination=None)
        correctness, vote_right = _truth(run)
        scored = readings.scored_pool(run, [])
        ranks = rank_fractions(np.where(scored.evidence.failure_code > 0, np.nan, 1 - correctness))
        values = exact_curves(correctness, vote_right, scored.evidence)
        result = auction.triage(
            ranks,
            budget=allowed_labels(run),
            curve=values,
            vote_holds=vote_right,
            evidence=scored.evidence,
            options=triage_options(run.config),
        )
        triage.finish(run, scored, scored_pool.Routed(ranks, values, None, result))


def exact_curves(
    correctness: FloatArray, vote_right: FloatArray, evidence: scored_pool.QuestionEvidence
) -> CurveValues:
    """Return exact curves: each question's own correctness p, p(1-p)G/(G-1), and its vote.

    Args:
        correctness: (Q,) share of right samples, in [0, 1].
        vote_right: (Q,) bool, whether the majority vote is right.
        evidence: Evidence on the same questions, with numbers of samples and vote shares.
    """
    samples = np.maximum(evidence.num_samples, 2)
    learnability = correctness * (1.0 - correctness) * samples / (samples - 1)
    vote = vote_right.astype(np.float64)
    return CurveValues(
        correctness, correctness, correctness, vote, vote, vote, learnability, evidence.vote_share
    )


def _truth(run: RunDir) -> tuple[FloatArray, FloatArray]:
    """(Q,) share of right samples and (Q,) whether the vote is right, in the pool's order."""
    truths, answers = every_answer(run), readings.sampled_answers(run)
    table = run.read_table("votes", "sample", ["question_id", "vote_answer"])
    correctness, votes = [], []
    with Verifier.of(run.config.answers) as verifier:
        for row in table.to_pylist():
            given = [*answers[row["question_id"]], row["vote_answer"]]
            *right, vote = verifier.check_many(given, [truths[row["question_id"]]] * len(given))
            correctness.append(np.mean(right))
            votes.append(vote)
    return np.array(correctness), np.array(votes, dtype=bool)

"""The oracle's triage: routes by the true correctness of every question.

The oracle reads the answer of every question of the pool. Therefore it is here and not a stage:
`pivottrace run` cannot use it. It routes by the triage's own rule on exact expectations: the
correctness of the question's own samples, and a vote that is right or wrong for certain. Labels are
still bought from the budget, and training still knows only the bought labels.
"""

from __future__ import annotations

import numpy as np

from pivottrace.labels.budget import allowed_labels
from pivottrace.labels.buying import every_answer
from pivottrace.routing import auction
from pivottrace.routing.expectations import Expectations
from pivottrace.routing.probes import rank_fractions
from pivottrace.routing.question_evidence import QuestionEvidence
from pivottrace.run import readings
from pivottrace.run.choices import triage_options
from pivottrace.run.directory import RunDir
from pivottrace.run.pool_routes import Routed
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
        expected = exact_expectations(correctness, vote_right, scored.evidence)
        result = auction.triage(
            ranks,
            budget=allowed_labels(run),
            expected=expected,
            evidence=scored.evidence,
            options=triage_options(run.config),
        )
        triage.finish(run, scored, Routed(ranks, expected, None, result))


def exact_expectations(
    correctness: FloatArray, vote_right: FloatArray, evidence: QuestionEvidence
) -> Expectations:
    """Return what a question's own samples say: p, p(1-p)G/(G-1), and what its vote teaches.

    Args:
        correctness: (Q,) share p of right samples, in [0, 1].
        vote_right: (Q,) bool, whether the majority vote is right.
        evidence: Evidence on the same questions, with numbers G of samples and vote shares.
    """
    samples = np.maximum(evidence.num_samples, 2)
    gain = correctness * (1.0 - correctness) * samples / (samples - 1)
    vote = vote_right.astype(np.float64)
    harm = -np.nan_to_num(evidence.vote_share) * correctness
    return Expectations(correctness, vote, vote, vote, gain, np.where(vote_right, gain, harm))


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

"""Routes that an experiment compares with the triage: by the oracle, by a bare rule, with labels.

The oracle reads the answer of every question of the pool. Therefore it is here and not a stage:
`pivottrace run` cannot use it. It routes by the triage's own rule on exact expectations: the
correctness of the question's own samples, and a vote that is right or wrong for certain. The bare
rule knows no label and no trace: it buys labels for the lowest vote shares, and trains on every
other vote that is not unanimous. Labels are bought from the budget in both, and training knows only
the bought labels.

`triage_labelled` trains on the rows that the triage keeps, with true answers in place of votes.
Beside the triage it tells what the votes cost, and beside full supervision what dropping brings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from pivottrace.labels.budget import allowed_labels, budget_labels
from pivottrace.labels.buying import every_answer
from pivottrace.routing import auction
from pivottrace.routing.expectations import Expectations
from pivottrace.routing.probes import rank_fractions
from pivottrace.routing.question_evidence import QuestionEvidence
from pivottrace.routing.routes import (
    REASON_CODE,
    REASONS,
    ROUTE_CODE,
    Reason,
    Route,
    TriageResult,
)
from pivottrace.run import readings
from pivottrace.run.choices import triage_options
from pivottrace.run.directory import RunDir
from pivottrace.run.pool_routes import Routed
from pivottrace.run.scored_pool import Scored
from pivottrace.schemas import PROBES
from pivottrace.stages import calibrate, triage
from pivottrace.verifier import Verifier

FloatArray = np.ndarray


def route_by_truth(run: RunDir) -> None:
    """Write the tables of calibration and triage by the oracle, unless triage is done.

    Raises:
        DataError: A question of the pool has no answer.
    """

    def decide(scored: Scored) -> Routed:
        correctness, vote_right = _truth(run)
        failed = scored.evidence.failure_code > 0
        ranks = rank_fractions(np.where(failed, np.nan, 1 - correctness))
        expected = exact_expectations(correctness, vote_right, scored.evidence)
        result = auction.triage(
            ranks,
            budget=allowed_labels(run),
            expected=expected,
            evidence=scored.evidence,
            options=triage_options(run.config),
        )
        return Routed(ranks, expected, None, result)

    _write(run, "oracle", decide)


def route_by_votes(run: RunDir) -> None:
    """Write the tables of calibration and triage by the bare rule, unless triage is done."""

    def decide(scored: Scored) -> Routed:
        evidence = scored.evidence
        sound = evidence.failure_code == 0
        # A vote that abstained has no share, and is the least sure.
        share = np.where(sound, np.nan_to_num(evidence.vote_share), np.nan)
        ranks, size = rank_fractions(1.0 - share), share.size
        lowest = np.argsort(np.where(sound, share, np.inf), kind="stable")[: allowed_labels(run)]
        labelled = np.isin(np.arange(size), lowest) & sound
        weak = sound & ~labelled & ~evidence.vote_abstained & (share < 1.0)
        codes = [
            (ROUTE_CODE[Route.ANNOTATE], REASON_CODE[Reason.ANNOTATE_FRACTION_HIGHEST]),
            (ROUTE_CODE[Route.WEAK], REASON_CODE[Reason.WEAK_FRACTION_MIDDLE]),
            (ROUTE_CODE[Route.DISCARD], REASON_CODE[Reason.FRACTION_LOWEST]),
            (ROUTE_CODE[Route.DEFER], REASON_CODE[Reason.DEFER_NO_VOTE]),
        ]
        unanimous = sound & (share >= 1.0)
        place = np.select([labelled, weak, unanimous], [0, 1, 2], 3)
        route, reason = np.array(codes)[place].T
        nothing = np.full(size, np.nan)
        result = TriageResult(
            route=route.astype(np.int8),
            reason=reason.astype(np.int16),
            reason_names=REASONS,
            weight=(labelled | weak).astype(np.float64),
            priority=nothing,
        )
        return Routed(ranks, None, None, result)

    _write(run, "votes", decide)


def route_triage_labelled(run: RunDir) -> None:
    """Calibrate and triage as usual, then give every weak row to the annotate route.

    The triage works under `triage.annotate_fraction` as its budget. `labels.budget` must allow the
    labels of all rows that it keeps, so `calibrate.num_probes` must be set to have usual probes.
    """
    with run.locked():
        if run.is_done("triage"):
            return
        calibrate.run(run)
        share, size = run.config.triage.annotate_fraction, run.stage_facts("pool")["num_questions"]
        scored, routed = triage.decide(run, budget_labels(share, size))
        before = routed.result
        weak = before.route == ROUTE_CODE[Route.WEAK]
        codes = ROUTE_CODE[Route.ANNOTATE], REASON_CODE[Reason.ANNOTATE_GAIN]
        result = replace(
            before,
            route=np.where(weak, codes[0], before.route).astype(np.int8),
            reason=np.where(weak, codes[1], before.reason).astype(np.int16),
            weight=np.where(weak, 1.0, before.weight),
        )
        triage.finish(run, scored, replace(routed, result=result))


def _write(run: RunDir, name: str, decide: Callable[[Scored], Routed]) -> None:
    with run.locked():
        if run.is_done("triage"):
            return
        run.write_table("probes", PROBES.empty_table())
        calibrate.finish(run, [], estimator=name, combination=None, probes_wanted=0)
        scored = readings.scored_pool(run, [])
        triage.finish(run, scored, decide(scored))


def exact_expectations(
    correctness: FloatArray, vote_right: FloatArray, evidence: QuestionEvidence
) -> Expectations:
    """Return what a question's own samples say: p, p(1-p)G/(G-1), and the gain of its vote.

    Of the harm of a wrong vote only the sign counts, because such a vote is never trained on.

    Args:
        correctness: (Q,) share p of right samples, in [0, 1].
        vote_right: (Q,) bool, whether the majority vote is right.
        evidence: Evidence on the same questions, with numbers G of samples and vote shares.
    """
    samples = np.maximum(evidence.num_samples, 2)
    gain = correctness * (1.0 - correctness) * samples / (samples - 1)
    vote = vote_right.astype(np.float64)
    harm = -np.nan_to_num(evidence.vote_share) * correctness
    vote_gain = np.where(vote_right, gain, harm)
    return Expectations(correctness, vote, vote, vote, gain, vote_gain, vote)


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


RIVALS = {
    "by_truth": route_by_truth,
    "by_votes": route_by_votes,
    "triage_labelled": route_triage_labelled,
}

"""The vote model of a run: what its labels say of the model's answers, and the fit on them.

This module is not a stage. The stage `calibrate` uses it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pivottrace.labels.budget import (
    given_after_the_vote,
    labels_of,
    true_answers,
    unanswerable,
)
from pivottrace.rollouts.sampled_answers import compare_answers
from pivottrace.routing import vote_model
from pivottrace.routing.vote_check import check_votes
from pivottrace.run import readings
from pivottrace.run.directory import RunDir
from pivottrace.run.pool_routes import agreement_of, expectations
from pivottrace.run.scored_pool import Scored
from pivottrace.run.storage import write_json
from pivottrace.schemas import LABELLED
from pivottrace.verifier import Verifier


@dataclass(frozen=True)
class Judged:
    """A question's own answers, judged by its label.

    Attributes:
        num_correct: Number of right samples.
        num_samples: Number of samples.
        greedy_right: Whether the greedy answer is right.
        right_class: Place of the right class in `votes.class_counts`, or the place after them for a
            right greedy answer that no sample gave; -1 if none is right.
    """

    num_correct: int
    num_samples: int
    greedy_right: bool
    right_class: int


def judge_samples(run: RunDir, truths: Mapping[str, str], verifier: Verifier) -> dict[str, Judged]:
    """Judge the answers of labelled questions, by id. `truths` are their true answers."""
    greedy = run.read_parts("rollouts_greedy", "greedy", ["question_id", "answer"])
    greedy_answers = dict(zip(*(c.to_pylist() for c in greedy.columns), strict=True))
    judged = {}
    for question_id, answers in readings.sampled_answers(run).items():
        if question_id not in truths:
            continue
        truth, own = truths[question_id], greedy_answers[question_id]
        found = compare_answers(answers, verifier.group, own)
        given = [*found.class_answers, *answers, own]
        right = verifier.check_many(given, [truth] * len(given))
        num_classes = len(found.class_answers)
        of_classes, of_samples = right[:num_classes], right[num_classes:-1]
        judged[question_id] = Judged(
            num_correct=sum(of_samples),
            num_samples=len(answers),
            greedy_right=right[-1],
            right_class=of_classes.index(True) if any(of_classes) else vote_model.NONE,
        )
    return judged


def other_labels(run: RunDir, verifier: Verifier, first: int | None) -> pa.Table:
    """The labels that are there, beside the probes, and how often the round's samples are right.

    The user owned them, or they were bought before. The round's triage knows these labels
    only. Labels that are bought later are its own purchases. A probe whose label was given after
    the vote was shown is among them. `first` is as in `labels_of`.
    """
    drawn = set(run.read_table("probes", made_by="calibrate")["question_id"].to_pylist())
    drawn -= given_after_the_vote(run, first)
    labels = labels_of(run, first)
    truths = {i: answer for i, answer in true_answers(run, first).items() if i not in drawn}
    judged = judge_samples(run, truths, verifier) if truths else {}
    rows: list[dict[str, Any]] = [
        {
            "question_id": question_id,
            "purpose": labels[question_id].purpose,
            "num_correct": found.num_correct,
            "num_samples": found.num_samples,
            "right_class": found.right_class,
        }
        for question_id, found in judged.items()
    ]
    rows += [{"question_id": i, "purpose": labels[i].purpose} for i in unanswerable(run, first)]
    return pa.Table.from_pylist(rows, schema=LABELLED)


def value_before_labels(run: RunDir) -> np.ndarray:
    """The expected gain of a label of each question beyond its vote, (Q,), by the priors alone."""
    scored = readings.scored_pool(run, [], [])
    model = _fit(scored, np.empty(0, np.int64))
    expected = expectations(scored, model, agreement_of(scored))
    value: np.ndarray = expected.label_gain - np.fmax(expected.vote_gain, 0.0)
    return np.nan_to_num(value)


def fit_vote_model(
    run: RunDir, rows: list[dict[str, Any]], first: int | None = None
) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """Fit the model on all labels, write it, and check it on the probes out of fold.

    Labels that were given after the vote was shown take no part.

    Args:
        run: The run. Its table `labelled` is written.
        rows: Rows of `evidence`.
        first: As in `labels_of`.

    Returns:
        The rows with their predicted chances, and facts for the manifest; None without a label.
    """
    path = run.round_path / readings.VOTE_MODEL
    if not rows:
        path.unlink(missing_ok=True)
        return rows, None
    shown = given_after_the_vote(run, first)
    others = [row for row in readings.earlier_labels(run) if row["question_id"] not in shown]
    scored = readings.scored_pool(run, rows, others)
    labelled = np.flatnonzero(scored.evidence.labelled & (scored.evidence.failure_code == 0))
    model = _fit(scored, labelled)
    stored = {
        "names": model.names,
        "values": model.values.tolist(),
        "covariance": model.covariance.tolist(),
        "num_labels": model.num_labels,
    }
    write_json(path, stored)
    design, counts = scored.features[labelled], scored.counts.rows(labelled)
    right, seed = scored.right[labelled], run.config.seed
    by_all = vote_model.out_of_fold(scored.names, counts, design, right, seed)
    by_votes = vote_model.out_of_fold((), counts, design[:, :0], right, seed)
    probe = scored.probe[labelled].tolist()
    place = {number: i for i, number in enumerate(probe) if number >= 0}
    checked = [
        row
        | {
            "predicted": float(by_all[place[i]]) if i in place else None,
            "predicted_by_votes": float(by_votes[place[i]]) if i in place else None,
        }
        for i, row in enumerate(rows)
    ]
    check = check_votes(checked, _chances_of_votes(scored, model, labelled, by_all))
    return checked, vote_model.facts(model) | {"check": check}


def _chances_of_votes(
    scored: Scored, model: vote_model.VoteModel, labelled: np.ndarray, out_of_fold: np.ndarray
) -> np.ndarray:
    """The predicted chances of all votes of the pool, (V,). Labelled ones have `out_of_fold`."""
    has_vote = (scored.evidence.failure_code == 0) & ~scored.evidence.vote_abstained
    chances: np.ndarray = vote_model.answer_chances(model, scored.counts, scored.features).vote
    chances[labelled] = out_of_fold
    return chances[has_vote]


def _fit(scored: Scored, labelled: np.ndarray) -> vote_model.VoteModel:
    counts, features = scored.counts.rows(labelled), scored.features[labelled]
    return vote_model.fit_votes(scored.names, counts, features, scored.right[labelled])

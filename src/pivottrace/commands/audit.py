"""`pivottrace audit`: labels that the model contradicts steadily, for a second look.

A label is listed under two conditions. A large majority of the sampled answers and the greedy
answer agree on another answer. And the calibration says that such votes are mostly right. A probe
is judged by a calibration that leaves it out, because its own label is in question.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc

from pivottrace.errors import RunDirError
from pivottrace.labels.budget import labels_of, true_answers
from pivottrace.labels.file_rows import escaped
from pivottrace.labels.waiting import questions_of
from pivottrace.routing.label_errors import LABEL_ERROR, wrong_label_chance
from pivottrace.routing.vote_model import answer_chances, out_of_fold
from pivottrace.run import readings
from pivottrace.run.directory import RunDir
from pivottrace.run.outputs import AUDIT
from pivottrace.run.storage import write_text
from pivottrace.verifier import Verifier

# Share of samples that must agree on the other answer: three of four is "steadily".
MIN_SHARE = 0.75
# A vote speaks against a label from this chance on that it is right.
LIKELY = 0.6


@dataclass(frozen=True)
class Suspect:
    """One label for a second look. Its texts come from a model or a user and are never markup.

    Attributes:
        question_id: Id of the question.
        purpose: Purpose of the label: probe or annotation.
        question: Text of the question.
        label: The true answer as labelled.
        vote: The answer of the model's samples; the greedy answer is the same.
        vote_share: Share of the samples with this answer, in [0, 1].
        vote_right: Calibrated chance that such a vote is right, in (0, 1).
        label_wrong: Chance that the label is wrong, in (0, 1); higher is more suspect.
    """

    question_id: str
    purpose: str
    question: str
    label: str
    vote: str
    vote_share: float
    vote_right: float
    label_wrong: float


def audit(
    run: RunDir, label_error: float = LABEL_ERROR, min_share: float = MIN_SHARE
) -> list[Suspect]:
    """List suspect labels, most suspect first, and write them to `audit.csv`.

    Args:
        run: A run whose probes are labelled.
        label_error: Expected share of wrong labels before any look, in (0, 1).
        min_share: Share of samples that must agree on the other answer.

    Raises:
        RunDirError: No probe is labelled, so no vote is known to be reliable.
    """
    evidence = run.read_table("evidence", made_by="calibrate").to_pylist()
    if not evidence:
        raise RunDirError(
            f"{run.path}: no probe is labelled, so the reliability of votes is unknown. "
            f"Raise labels.budget in a new run."
        )
    contradicted = _contradicted(run, min_share)
    reliable = _reliability(run, evidence, contradicted)
    questions = questions_of(run, [row["question_id"] for row in contradicted])
    chances = wrong_label_chance(reliable, label_error)
    suspects = [
        Suspect(
            question=questions[row["question_id"]],
            vote_right=float(right),
            label_wrong=float(wrong),
            **row,
        )
        for row, right, wrong in zip(contradicted, reliable, chances, strict=True)
        if right >= LIKELY
    ]
    suspects.sort(key=lambda s: (-s.label_wrong, -s.vote_share, s.question_id))
    write_text(run.path / AUDIT, _csv_text(suspects))
    return suspects


def _contradicted(run: RunDir, min_share: float) -> list[dict[str, Any]]:
    """Labels that differ from both the vote and the greedy answer, which agree with each other."""
    labels, truths = labels_of(run), true_answers(run)
    names = ["question_id", "vote_answer", "vote_share"]
    votes = run.read_table("votes", "sample", names).filter(
        (pc.field("vote_share") >= min_share) & pc.field("vote_answer").is_valid()
    )
    greedy = run.read_parts("rollouts_greedy", "greedy", ["question_id", "answer"])
    greedy_answers = dict(zip(*(c.to_pylist() for c in greedy.columns), strict=True))
    rows = [row for row in votes.to_pylist() if row["question_id"] in truths]
    with Verifier.of(run.config.answers) as verifier:
        agreed = verifier.check_many(
            [row["vote_answer"] for row in rows], [truths[r["question_id"]] for r in rows]
        )
        rows = [row for row, right in zip(rows, agreed, strict=True) if not right]
        steady = verifier.check_many(
            [greedy_answers[r["question_id"]] for r in rows], [r["vote_answer"] for r in rows]
        )
    found = []
    for row in (row for row, same in zip(rows, steady, strict=True) if same):
        label = labels[row["question_id"]]
        found.append(
            {
                "question_id": row["question_id"],
                "purpose": label.purpose,
                "label": label.answer,
                "vote": row["vote_answer"],
                "vote_share": row["vote_share"],
            }
        )
    return found


def _reliability(
    run: RunDir, evidence: list[dict[str, Any]], rows: list[dict[str, Any]]
) -> np.ndarray:
    """Chance that the vote of each row is right. A label's own question is left out of its fit."""
    scored, model = readings.scored_pool(run, evidence), readings.vote_model(run)
    assert model is not None  # there are labelled probes
    ids, _ = readings.voted(run)
    votes = answer_chances(model, scored.counts, scored.features).vote
    known = np.flatnonzero(scored.evidence.labelled & (scored.evidence.failure_code == 0))
    counts, features = scored.counts.rows(known), scored.features[known]
    votes[known] = out_of_fold(scored.names, counts, features, scored.right[known], run.config.seed)
    chances = dict(zip(ids, votes.tolist(), strict=True))
    return np.array([chances[row["question_id"]] for row in rows], dtype=np.float64)


COLUMNS = (
    "label_wrong",
    "question_id",
    "purpose",
    "label",
    "vote",
    "vote_share",
    "vote_right",
    "question",
)


def _csv_text(suspects: list[Suspect]) -> str:
    """CSV text for spreadsheets, escaped as label files are: a spreadsheet runs no cell."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(COLUMNS)
    for suspect in suspects:
        cells = (getattr(suspect, name) for name in COLUMNS)
        writer.writerow([escaped(c) if isinstance(c, str) else f"{c:.4f}" for c in cells])
    return "\ufeff" + buffer.getvalue()

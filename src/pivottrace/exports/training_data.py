"""The rows that another trainer gets: the training stage's rows, and the held-out questions."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from pivottrace.labels.training_rows import as_asked, training_rows
from pivottrace.rollouts.held_out import answers_of, held_out_questions, prompt_of
from pivottrace.routing.routes import Route
from pivottrace.run.directory import RunDir
from pivottrace.run.rounds import round_seed

# Reasons in `Written.left_out`.
UNLABELLED = "annotate rows without a label"
NO_ANSWER = "annotate rows that cannot be answered"
NO_VOTE = "weak rows without a vote"
PROBES = "probes that a later round is calibrated on"
OTHER_JUDGE = "held-out questions of sets that another verifier or format judges"
THINNED = "weak rows, drawn by their weight (--weights thin)"

HELD_OUT = "held_out"
"""The route of a held-out question."""


@dataclass(frozen=True)
class Row:
    """A row of a trainer's file.

    Attributes:
        id: The question's id.
        prompt: Chat messages.
        answer: The answer that judges it: the bought label, the stored vote of a weak row, or the
            true answer of a held-out question.
        route: "annotate", "weak" or `HELD_OUT`.
        reason: The reason for the route; empty for a held-out question.
        weight: In [0, 1], multiplies the row's advantage.
        vote_share: The vote's share of the samples, in [0, 1]; None if there is no vote.
        source: The file, folder or Hub id of the question's origin.
    """

    id: str
    prompt: list[dict[str, str]]
    answer: str
    route: str
    reason: str
    weight: float
    vote_share: float | None
    source: str


@dataclass(frozen=True)
class TrainingData:
    """The rows of an export.

    Attributes:
        train: In pool order.
        held_out: In the order of the held-out table; empty without one.
        left_out: Number of routed rows that are not in `train`, and of held-out questions that are
            not in `held_out`, by reason.
    """

    train: list[Row]
    held_out: list[Row]
    left_out: dict[str, int]


def training_data(run: RunDir, weights: str, prompt: str) -> TrainingData:
    """Read the rows that another trainer gets.

    An annotate row has its bought label. A weak row has its stored vote and never a label,
    whatever reward it has in a training here.

    Args:
        run: The run, in a round that has been triaged.
        weights: With "thin", a weak row stays with a chance of its weight. The draw depends on the
            run's seed, the round and the question's id only.
        prompt: "formatted" adds system prompt and suffix to the questions; "raw" does not.

    Raises:
        RunDirError: A table is missing or torn, or the labels cannot be read.
        DataError: The file of the labels is no label store.
    """
    found = training_rows(run)

    def messages(asked: list[dict[str, str]]) -> list[dict[str, str]]:
        return as_asked(run, asked) if prompt == "formatted" else asked

    train = [
        Row(
            id=row["question_id"],
            prompt=messages(row["prompt"]),
            answer=row["label"] if row["route"] == Route.ANNOTATE else row["pseudo_label"],
            route=row["route"],
            reason=row["reason"] or "",
            weight=row["weight"],
            vote_share=row["vote_share"],
            source=row["source"] or "",
        )
        for row in found.rows
    ]
    left_out = {
        UNLABELLED: len(found.unlabelled),
        NO_ANSWER: len(found.no_answer),
        PROBES: len(found.waiting),
        NO_VOTE: sum(row.answer is None for row in train),
    }
    train = [row for row in train if row.answer is not None]
    if weights == "thin":
        seed, num_rows = round_seed(run), len(train)
        train = [r for r in train if r.route != Route.WEAK or _draw(seed, r.id) < r.weight]
        left_out[THINNED] = num_rows - len(train)
    held_out = [
        Row(
            id=question["id"],
            prompt=(
                prompt_of(question, run.config.pool)
                if prompt == "formatted"
                else question["prompt"]
            ),
            answer=question["answer"],
            route=HELD_OUT,
            reason="",
            weight=1.0,
            vote_share=None,
            source=question["source"] or "",
        )
        for question in exported_held_out(run)
    ]
    left_out[OTHER_JUDGE] = len(held_out_questions(run)) - len(held_out)
    return TrainingData(train, held_out, {why: n for why, n in left_out.items() if n})


def exported_held_out(run: RunDir) -> list[dict[str, Any]]:
    """The held-out questions that an export's reward can judge: it reads and compares one way."""
    config = run.config
    return [each for each in held_out_questions(run) if answers_of(each, config) == config.answers]


def _draw(seed: int, question_id: str) -> float:
    """A number in [0, 1) that depends on its arguments only."""
    digest = hashlib.sha256(f"{seed}/thin/{question_id}".encode()).digest()
    return float(int.from_bytes(digest[:6], "big") / 2**48)

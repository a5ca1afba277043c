"""The questions that people are asked now, read anew when the run has changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc

from pivottrace.label_sources import Purpose
from pivottrace.labels.budget import allowed_labels
from pivottrace.labels.slips import own_answers
from pivottrace.labels.waiting import questions_of, requested
from pivottrace.run.directory import RunDir
from pivottrace.run.rounds import current_round
from pivottrace.run.storage import MANIFEST, read_parquet


@dataclass(frozen=True)
class Queue:
    """The run in its current round, and the questions that it asks.

    Attributes:
        run: The run.
        asked: Questions that may get a label, with its purpose, in the order of asking.
        texts: Their texts.
        own: The model's own answers to them. They are never shown beside the question.
        allowed: The budget as a number of labels.
        stamp: The times of the files that the queue was read from.
    """

    run: RunDir
    asked: Mapping[str, Purpose]
    texts: Mapping[str, str]
    own: Mapping[str, list[str]]
    allowed: int
    stamp: tuple[int, ...]

    def text_of(self, question_id: str) -> str:
        """The text of a question, also if it is not asked now."""
        if question_id in self.texts:
            return self.texts[question_id]
        return questions_of(self.run, [question_id]).get(question_id, "")


def read_queue(folder: Path, before: Queue | None) -> Queue:
    """The queue of a run; the one of before, if the run has not changed since.

    Nothing is asked any more once training has begun, because it does not see later labels.
    """
    if before is not None and before.stamp == _stamp(before.run):
        return before
    run = current_round(RunDir.open(folder))
    stamp = _stamp(run)  # before the tables are read: a change in between is then seen later
    asks = run.is_done("pool") and not run.begun_facts("train")
    asked = requested(run) if asks else {}
    texts = questions_of(run, list(asked)) if asked else {}
    own = own_answers(run, set(asked)) if asked else {}
    allowed = allowed_labels(run) if run.is_done("pool") else 0
    return Queue(run, asked, texts, own, allowed, stamp)


def vote_in_words(run: RunDir, question_id: str) -> str:
    """The model's vote on a question, and the share of its samples behind it."""
    path = run.existing_table("votes", made_by="sample")
    rows = read_parquet(path, ["question_id", "vote_answer", "vote_share", "num_samples"])
    found = rows.filter(pc.field("question_id") == question_id).to_pylist()
    if not found or found[0]["vote_answer"] is None:
        return "The model has no vote on this question"
    vote = found[0]
    votes = round(vote["vote_share"] * vote["num_samples"])
    return f"The model's vote is {vote['vote_answer']} ({votes} of {vote['num_samples']} samples)"


def _stamp(run: RunDir) -> tuple[int, ...]:
    """The times of the files that say what is asked; 0 for a missing file."""
    paths = (
        run.path / "config.toml",
        run.path / MANIFEST,
        run.table_path("probes"),
        run.table_path("triage"),
    )
    return tuple(path.stat().st_mtime_ns if path.is_file() else 0 for path in paths)

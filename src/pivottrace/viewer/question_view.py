"""Everything that a page shows of a question, read from the tables of a run. No markup is here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pivottrace.labels.budget import STORE, labels_of, true_answers
from pivottrace.labels.store import Answer, Label, read_answers
from pivottrace.report import collect
from pivottrace.report.examples import threshold, tokenizer_decode
from pivottrace.report.question_numbers import Number, question_numbers
from pivottrace.report.texts import CutText, cut
from pivottrace.run.directory import RunDir
from pivottrace.run.rounds import all_rounds
from pivottrace.verifier import Verifier
from pivottrace.viewer.answer_groups import MAX_SAMPLE_CHARS, Samples, samples_of
from pivottrace.viewer.ranked_pool import Neighbour, RankedPool
from pivottrace.viewer.trace_view import SIGNALS, TraceView, trace_view

MAX_PROMPT_CHARS = 60_000
# On a page with many questions. A question's own page has all.
SHORT_SAMPLE_CHARS = 2_000

ROLLOUT_COLUMNS = ["question_id", "tokens", "text", "answer", "finish", "failure"]
SIGNAL_COLUMNS = ["question_id", "question_mass", "failure", *(s.column for s in SIGNALS)]


@dataclass(frozen=True)
class Routing:
    """A question's route in one round, with the numbers that led to it."""

    round_index: int
    route: str
    reason: str
    numbers: list[Number]
    is_probe: bool


@dataclass(frozen=True)
class QuestionView:
    """One question of a run, as far as the run has got.

    Attributes:
        question_id: Its id.
        why: The reason to show it, on a page of several questions.
        prompt: Its messages: the role, and the cleaned text.
        trace: The greedy trace; None before it is there.
        samples: The sampled responses; None before they are there.
        label: Its label; None without one.
        answers: All answers that were given to it, in order of arrival.
        routing: Its route; None before triage.
        other_rounds: Its routes in the other rounds, in order.
        place: Its place in the ranking, from 1 for the most certain; None without one.
        before: The two more certain neighbours in the ranking.
        after: The two less certain neighbours.
    """

    question_id: str
    why: str | None
    prompt: list[tuple[str, CutText]]
    trace: TraceView | None
    samples: Samples | None
    label: Label | None
    answers: list[Answer]
    routing: Routing | None
    other_rounds: list[Routing]
    place: int | None
    before: list[Neighbour]
    after: list[Neighbour]


def question_views(
    run: RunDir, ranked: RankedPool, whys: dict[str, str | None], *, is_short: bool
) -> list[QuestionView]:
    """Read some questions of a run.

    True answers are read from the label store only, so no answer is shown that was not bought or
    used.

    Args:
        run: The run, in the round to show.
        ranked: Its ranking.
        whys: The ids, each with the reason to show it.
        is_short: Whether long samples are cut, for a page of several questions.

    Raises:
        RunDirError: A table is torn.
        DataError: The label store is damaged.
    """
    ids = list(whys)
    rows = _Rows(run, ids)
    limit = SHORT_SAMPLE_CHARS if is_short else MAX_SAMPLE_CHARS
    with Verifier.of(run.config.answers) as verifier:
        return [_view(rows, ranked, i, whys[i], verifier, limit) for i in ids]


class _Rows:
    """The rows of some questions in every table, by question id."""

    def __init__(self, run: RunDir, ids: list[str]) -> None:
        self.run = run
        # We leave out the column `answer`: it may hold truths that were not paid for.
        self.pool = collect.table_rows(run, "pool", ids, ["id", "prompt"], "id")
        self.scores = collect.table_rows(run, "scores", ids, ["question_id", "onsets", "peaks"])
        self.votes = collect.table_rows(run, "votes", ids)
        self.greedy = self._of_parts("rollouts_greedy", ROLLOUT_COLUMNS)
        self.signals = self._of_parts("signals", SIGNAL_COLUMNS)
        self.sampled = _samples(run, ids)
        self.labels = labels_of(run) if run.is_done("pool") else {}
        self.truths = true_answers(run) if run.is_done("pool") else {}
        self.answers = read_answers(run.path / STORE)
        self.routed = {
            each.round_index: collect.table_rows(each, "triage", ids) for each in all_rounds(run)
        }
        self.decode = tokenizer_decode(run) if self.greedy else None
        self.threshold = threshold(run)

    def _of_parts(self, name: str, columns: list[str]) -> dict[str, dict[str, Any]]:
        rows = collect.part_rows(self.run, name, columns, list(self.pool))
        return {row["question_id"]: row for row in rows}

    def pivots(self, question_id: str) -> list[int] | None:
        """Positions of the pivots by the reading that ranks the run; None before scoring."""
        reading = "onsets" if self.run.config.pivots.reading == "onset" else "peaks"
        row = self.scores.get(question_id)
        return None if row is None else row[reading] or []


def _samples(run: RunDir, ids: list[str]) -> dict[str, list[dict[str, Any]]]:
    """The samples of some questions in order. While sampling goes on, some have the first only."""
    found: dict[str, list[dict[str, Any]]] = {}
    for name in ("rollouts_sampled", "rollouts_first"):
        missing = [question_id for question_id in ids if question_id not in found]
        rows = collect.part_rows(run, name, ["sample", *ROLLOUT_COLUMNS], missing)
        for row in sorted(rows, key=lambda row: row["sample"]):
            found.setdefault(row["question_id"], []).append(row)
    return found


def _view(
    rows: _Rows,
    ranked: RankedPool,
    question_id: str,
    why: str | None,
    verifier: Verifier,
    max_chars: int,
) -> QuestionView:
    greedy, sampled = rows.greedy.get(question_id), rows.sampled.get(question_id)
    label = rows.labels.get(question_id)
    before, after = ranked.neighbours(question_id)
    routings = [
        _routing(index, routed[question_id])
        for index, routed in rows.routed.items()
        if question_id in routed
    ]
    here = rows.run.round_index
    return QuestionView(
        question_id=question_id,
        why=why,
        prompt=[
            (message["role"], cut(message["content"] or "", MAX_PROMPT_CHARS))
            for message in rows.pool[question_id]["prompt"]
        ],
        trace=None
        if greedy is None
        else trace_view(
            greedy,
            rows.signals.get(question_id),
            rows.pivots(question_id),
            rows.threshold,
            rows.decode,
        ),
        samples=None
        if sampled is None
        else samples_of(
            sampled,
            rows.votes.get(question_id),
            greedy["answer"] if greedy else None,
            rows.truths.get(question_id),
            verifier,
            max_chars,
        ),
        label=label,
        answers=rows.answers.get(question_id, []),
        routing=next((r for r in routings if r.round_index == here), None),
        other_rounds=[r for r in routings if r.round_index != here],
        place=ranked.place(question_id),
        before=before,
        after=after,
    )


def _routing(index: int, row: dict[str, Any]) -> Routing:
    return Routing(index, row["route"], row["reason"], question_numbers(row), row["is_probe"])

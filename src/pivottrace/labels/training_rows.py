"""The routed questions that a training may use, each with the answer that judges it.

The training stage and the exports both read them here, so every trainer sees the same rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pivottrace.ingest import format_prompt
from pivottrace.labels.budget import true_answers, unanswerable
from pivottrace.routing.routes import Route
from pivottrace.run.directory import RunDir
from pivottrace.run.rounds import is_last_round

_OF_TRIAGE = ("question_id", "route", "reason", "weight", "pseudo_label", "mu", "vote_share")


@dataclass(frozen=True)
class TrainingRows:
    """The annotate and weak rows of a round, and the rows that cannot be used.

    Attributes:
        rows: Rows in pool order, with `question_id`, `prompt`, `source`, `route`, `reason`,
            `weight`, `mu`, `vote_share`, `label` (on annotate rows only) and `pseudo_label` (on
            weak rows only).
        unlabelled: Ids of annotate rows without a label that can be used.
        no_answer: Ids of annotate rows that people found to have no answer.
        waiting: Ids of probes that a later round is calibrated on.
    """

    rows: Sequence[Mapping[str, Any]]
    unlabelled: Sequence[str]
    no_answer: frozenset[str]
    waiting: frozenset[str]


def training_rows(run: RunDir) -> TrainingRows:
    """The rows of a triaged round that a training may use.

    Labels come from the label store only, and the pool's answer column is never read. So no true
    answer that was not paid for gets into a training.

    Raises:
        RunDirError: A table is missing or torn, or the labels cannot be read.
        DataError: The file of the labels is no label store.
    """
    triage = run.read_table("triage", made_by="triage").select(list(_OF_TRIAGE)).to_pylist()
    routed = {r["question_id"]: r for r in triage if r["route"] in (Route.ANNOTATE, Route.WEAK)}
    labels = true_answers(run)
    missing = [
        i for i, r in routed.items() if r["route"] == Route.ANNOTATE and labels.get(i) is None
    ]
    no_answer = frozenset(missing) & frozenset(unanswerable(run))
    waiting = (_waiting_probes(run) & routed.keys()) - set(missing)
    usable = routed.keys() - set(missing) - waiting
    pool = run.read_table("pool", made_by="run", columns=("id", "prompt", "source")).to_pylist()
    rows = [
        {
            **routed[question["id"]],
            "prompt": question["prompt"],
            "source": question["source"],
            **_targets(routed[question["id"]], labels),
        }
        for question in pool
        if question["id"] in usable
    ]
    unlabelled = [i for i in missing if i not in no_answer]
    return TrainingRows(rows, unlabelled, no_answer, frozenset(waiting))


def as_asked(run: RunDir, messages: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """A question's messages with the system prompt and the suffix of the run's settings."""
    pool = run.config.pool
    return format_prompt(messages, pool.system_prompt, pool.prompt_suffix)


def _waiting_probes(run: RunDir) -> set[str]:
    """Probes that are not trained on yet, so that later rounds may be calibrated on them."""
    if is_last_round(run) or run.config.rounds.train_probes == "every_round":
        return set()
    return set(run.read_table("evidence", made_by="calibrate")["question_id"].to_pylist())


def _targets(row: Mapping[str, Any], labels: Mapping[str, str]) -> dict[str, str | None]:
    """The answer that judges a row: the bought label, or the stored vote, never both."""
    if row["route"] == Route.ANNOTATE:
        return {"label": labels[row["question_id"]], "pseudo_label": None}
    return {"label": None, "pseudo_label": row["pseudo_label"]}

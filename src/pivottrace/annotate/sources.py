"""Where true answers come from: a column, the world's oracle, or a file that people fill in.

Whatever the source, an answer enters the run through the label store, which holds the budget.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import pyarrow.compute as pc

from pivottrace.annotate.exchange import Request, export_requests, read_answers
from pivottrace.annotate.store import LabelStore
from pivottrace.errors import BudgetError, ConfigError, DataError, LabelsNeeded, RunDirError
from pivottrace.ingest import read_questions
from pivottrace.ingest.sources import WORLD_PREFIX
from pivottrace.lab.oracle import Oracle
from pivottrace.rundir import RunDir

Purpose = Literal["probe", "annotation"]
FILES: dict[Purpose, str] = {"probe": "probes_to_label.csv", "annotation": "annotate_to_label.csv"}


def allowed_labels(run: RunDir) -> int:
    """The run's budget as a number of labels. Raises as `budget_labels`."""
    return budget_labels(run.config.labels.budget, run.stage_facts("pool")["num_questions"])


def budget_labels(budget: float, questions: int) -> int:
    """A budget as a number of labels: a share up to 1 (rounded down), or a number above it.

    Raises:
        BudgetError: more labels than questions, or a number that is not whole.
    """
    if budget <= 1:
        # The small addend keeps 0.3 of 10 questions at 3.
        return int(budget * questions + 1e-9)
    if budget != int(budget):
        raise BudgetError(
            f"labels.budget = {budget}: give a share of the pool up to 1, or a whole number"
        )
    if budget > questions:
        raise BudgetError(
            f"labels.budget = {budget:.0f} is more than the pool's {questions} questions. "
            f"Give at most {questions}, or a share up to 1."
        )
    return int(budget)


def store(run: RunDir) -> LabelStore:
    """The run's label store."""
    return LabelStore(run.path / "labels.sqlite", allowed_labels(run))


def obtain(run: RunDir, question_ids: Sequence[str], purpose: Purpose) -> dict[str, str]:
    """Return the true answers of these questions, buying those that are not there yet.

    Raises:
        LabelsNeeded: people have to give them; the file to fill in has been written.
        BudgetError: they would exceed the budget; nothing was bought.
    """
    labels = store(run)
    known = {i: label.answer for i, label in labels.labels().items()}
    missing = [i for i in question_ids if i not in known]
    source = run.config.labels.source
    if missing and source == "file":
        _ask_people(run, labels, missing, purpose, known)
    elif missing:
        answer = _oracle(run).answer if source == "oracle" else _column(run)
        bought = [(i, answer(i), source, purpose) for i in missing]
        labels.add_many(bought)
        known |= {row[0]: row[1] for row in bought}
    return {i: known[i] for i in question_ids if i in known}


def export(run: RunDir, path: Path | None = None) -> Path:
    """Write the file of questions that wait for a label; None where none does.

    Raises:
        RunDirError: no question waits for a label.
    """
    requests: tuple[tuple[Purpose, str, str], ...] = (
        ("probe", "probes", "calibrate"),
        ("annotation", "triage", "triage"),
    )
    for purpose, table, stage in requests:
        if not run.table_path(table).is_file():
            continue
        rows = run.read_table(table, made_by=stage)
        if table == "triage":
            rows = rows.filter(pc.field("route") == "annotate")
        known = store(run).labels()
        missing = [i for i in rows["question_id"].to_pylist() if i not in known]
        if missing:
            return _write_requests(run, missing, purpose, path)
    raise RunDirError(
        f"{run.path}: no question waits for a label. Go on with: pivottrace run {run.path}"
    )


def import_file(run: RunDir, path: Path) -> tuple[int, int]:
    """Take in a filled file; returns (labels added, rows left blank).

    Raises:
        DataError: an unknown id, a question not chosen, or a conflict; nothing is taken in.
        BudgetError: more labels than allowed; nothing is taken in.
    """
    purposes = _requested(run)
    known_ids = set(run.read_table("pool", made_by="run")["id"].to_pylist())
    result = read_answers(path, known_ids)
    unasked = [i for i, _ in result.answers if i not in purposes]
    if unasked:
        raise DataError(
            f"{path}: question {unasked[0]!r} was not chosen for a label ({len(unasked)} such "
            f"rows). Fill in only the file that the run wrote."
        )
    labels = store(run)
    before = labels.used
    labels.add_many([(i, answer, "file", purposes[i]) for i, answer in result.answers])
    return labels.used - before, result.blank


def _requested(run: RunDir) -> dict[str, Purpose]:
    """Questions chosen for a label so far, and what for."""
    purposes: dict[str, Purpose] = {}
    if run.table_path("triage").is_file():
        triage = run.read_table("triage", made_by="triage")
        for i in triage.filter(pc.field("route") == "annotate")["question_id"].to_pylist():
            purposes[i] = "annotation"
    if run.table_path("probes").is_file():
        for i in run.read_table("probes", made_by="calibrate")["question_id"].to_pylist():
            purposes[i] = "probe"
    return purposes


def _column(run: RunDir) -> Callable[[str], str]:
    pool = run.read_table("pool", made_by="run")
    answers = dict(zip(pool["id"].to_pylist(), pool["answer"].to_pylist(), strict=True))

    def answer(question_id: str) -> str:
        found = answers[question_id]
        if found is None:
            raise DataError(
                f"{run.config.pool.questions}: question {question_id!r} was chosen for a label "
                f"and has no answer in its answer column. Fill it in, name the column with "
                f"--map answer=COLUMN, or set labels.source = 'file'."
            )
        return found

    return answer


def _oracle(run: RunDir) -> Oracle:
    source = run.config.pool.questions
    if not source.startswith(WORLD_PREFIX):
        raise ConfigError(
            f"labels.source = 'oracle' knows the answers of the embedded world only, and "
            f"pool.questions is {source!r}. Set labels.source = 'column' or 'file'."
        )
    world = read_questions(source, column_map={}, split=run.config.pool.split, limit=None)
    return Oracle(dict(zip(world["id"].to_pylist(), world["answer"].to_pylist(), strict=True)))


def _ask_people(
    run: RunDir, labels: LabelStore, missing: list[str], purpose: Purpose, known: dict[str, str]
) -> None:
    if run.config.labels.partial and known:
        return
    if len(missing) > labels.remaining:
        raise BudgetError(
            f"{len(missing)} labels are needed and {labels.remaining} are left of the budget"
        )
    path = _write_requests(run, missing, purpose, None)
    what = "probe questions" if purpose == "probe" else "questions"
    raise LabelsNeeded(
        f"{len(missing)} {what} wait for true answers. Next:\n"
        f"  1. fill in the column `answer` of {path}\n"
        f"  2. pivottrace label import {run.path} {path}\n"
        f"  3. pivottrace run {run.path}"
    )


def _write_requests(run: RunDir, missing: list[str], purpose: Purpose, path: Path | None) -> Path:
    pool = run.read_table("pool", made_by="run").select(["id", "prompt"]).to_pylist()
    questions = {row["id"]: row["prompt"][-1]["content"] for row in pool}
    path = path or run.path / FILES[purpose]
    export_requests(path, [Request(i, questions[i], purpose) for i in missing])
    return path

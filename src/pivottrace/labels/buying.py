"""Where true answers come from: a column, the world's oracle, or a file that people fill in.

Whatever the source, an answer enters the run through the label store, which holds the budget.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pivottrace.config import Config
from pivottrace.errors import BudgetError, ConfigError, DataError, LabelsNeeded, RunDirError
from pivottrace.ingest import read_questions
from pivottrace.ingest.prompts import last_user_message
from pivottrace.ingest.sources import WORLD_PREFIX
from pivottrace.labels.exchange import Request, export_requests, read_answers
from pivottrace.labels.store import Label, LabelStore, Purpose, Row, read_labels
from pivottrace.routing.probes import default_num_probes
from pivottrace.run.bindings import settings_of
from pivottrace.run.directory import RunDir

FILES: dict[Purpose, str] = {"probe": "probes_to_label.csv", "annotation": "annotate_to_label.csv"}
# For the second probes of an adaptive draw: the first file has answers in it by then.
MORE_PROBES = "more_probes_to_label.csv"
DRAWN_BY = b"drawn_by"  # in the metadata of `probes`


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


def probes_wanted(run: RunDir) -> int:
    """How many probes to draw: what was settled when the first was labelled, else by the settings.

    Raises:
        BudgetError: they are more than the budget.
    """
    settled = run.begun_facts("calibrate").get("probes_wanted")
    allowed, wanted = allowed_labels(run), run.config.calibrate.num_probes
    if settled is not None:
        if settled > allowed and not run.config.labels.partial:
            raise BudgetError(
                f"labels.budget allows {allowed} labels, and {settled} probes were drawn, some of "
                f"them labelled. Give at least {settled}, go on with the labels that are there "
                f"(labels.partial = true), or begin a new run directory (--output)."
            )
        return int(settled)
    if wanted is None:
        return default_num_probes(run.stage_facts("pool")["num_questions"], allowed)
    if wanted > allowed:
        raise BudgetError(
            f"calibrate.num_probes = {wanted} is more than the {allowed} labels of labels.budget. "
            f"Lower it to {allowed} at most, or raise the budget."
        )
    return wanted


def drawn_by(run: RunDir) -> dict[str, Any]:
    """What the draw of probes depends on: the settings of calibration, and how many are wanted."""
    settings = settings_of("calibrate", run.config)
    kept = {
        key: value for key, value in settings.items() if key not in ("answers", "labels.source")
    }
    return kept | {"probes_wanted": probes_wanted(run)}


def _refuse_probes_of_another_draw(run: RunDir) -> None:
    """Refuse labels of probes that were drawn, and given out, before a setting of the draw changed.

    Raises:
        ConfigError: the stored probes are of another ranking, number or way of drawing.
    """
    stored = pq.read_schema(run.table_path("probes")).metadata or {}
    if DRAWN_BY not in stored:
        return  # drawn by an older version
    was, now = json.loads(stored[DRAWN_BY]), drawn_by(run)
    changed = [f"{key}: was {was[key]!r}, now {now[key]!r}" for key in now if was[key] != now[key]]
    if changed:
        raise ConfigError(
            f"the probes of {run.path} were drawn by other settings:\n  "
            + "\n  ".join(changed)
            + f"\nPut them back, or draw them anew: pivottrace calibrate {run.path}"
        )


def refuse_unusable_budget(run: RunDir) -> None:
    """Refuse a budget that was changed, since calibration, to one that cannot be kept or used.

    Raises:
        BudgetError: it is less than the labels bought, or there is one now and was none for probes.
    """
    allowed, used = allowed_labels(run), len(bought(run))
    if used > allowed:
        raise BudgetError(
            f"labels.budget = {run.config.labels.budget:g} allows {allowed} labels, and {used} are "
            f"bought already, probes among them. Give at least {used}, or begin a new run "
            f"directory (--output)."
        )
    if allowed and run.stage_facts("calibrate").get("labels_allowed") == 0:
        raise BudgetError(
            f"{run.path} was calibrated with a budget of 0, so without a probe, and nothing says "
            f"what a label would teach. Begin a new run directory (--output) with --budget "
            f"{run.config.labels.budget:g}."
        )


def refuse_missing_answers(config: Config, num_answered: int, allowed: int) -> None:
    """Refuse a column of answers that has fewer than the labels that may be drawn from it.

    Raises:
        DataError: it has; with `labels.partial`, only where it has none at all.
    """
    needed = min(1, allowed) if config.labels.partial else allowed
    if config.labels.source == "column" and num_answered < needed:
        raise DataError(
            f"{config.pool.questions}: {num_answered or 'no'} questions have an answer, and "
            f"{allowed} may be chosen for a label (labels.budget, with labels.source = 'column'). "
            f"Set labels.source = 'file' to have people answer, name the answers' column with "
            f"--map answer=COLUMN, or lower labels.budget."
        )


def store(run: RunDir) -> LabelStore:
    """The run's label store."""
    return LabelStore(run.path / "labels.sqlite", allowed_labels(run))


def bought(run: RunDir) -> dict[str, Label]:
    """The labels that were paid for, by question id; only reads. Raises as `read_labels`."""
    return read_labels(run.path / "labels.sqlite")


def by_value(triage: pa.Table) -> pa.Table:
    """Rows of `triage` in the order to annotate in: the label that teaches most comes first.

    Equal priorities go to the more uncertain; what has no number comes last.
    """
    return triage.sort_by(
        [("priority", "descending"), ("rank", "descending"), ("question_id", "ascending")]
    )


def to_annotate(run: RunDir) -> list[str]:
    """Questions of the annotate route, labelled probes among them, in order of value.

    After the first round without what had a label before: nobody is asked for that again.
    """
    triage = run.read_table("triage", made_by="triage")
    rows = triage.filter(pc.field("route") == "annotate")
    if run.round_index:
        earlier = run.read_table("labelled", made_by="calibrate")["question_id"]
        rows = rows.filter(~pc.field("is_probe") & ~pc.field("question_id").isin(earlier))
    chosen: list[str] = by_value(rows)["question_id"].to_pylist()
    return chosen


def obtain(run: RunDir, question_ids: Sequence[str], purpose: Purpose) -> dict[str, str]:
    """Return the true answers of these questions, buying those that are not there yet.

    The budget is looked at before any source is. With `labels.partial` some may be missing from
    the result: people must have answered at least one of each request, and a column must have given
    at least one label to the run.

    Raises:
        LabelsNeeded: people have to give them; the file to fill in has been written.
        BudgetError: they would exceed the budget; nothing was asked or bought.
        DataError: the source has no answer to one of them; nothing was bought.
    """
    labels = store(run)
    known = labels.labels()
    missing = [i for i in question_ids if i not in known]
    source = run.config.labels.source
    partial = run.config.labels.partial
    answered = any(i in known and known[i].purpose == purpose for i in question_ids)
    if missing and not (source == "file" and partial and answered):
        if len(missing) > labels.remaining:
            raise BudgetError(
                f"{len(missing)} labels are needed and {labels.remaining} are left of the budget"
            )
        if source == "file":
            _ask_people(run, missing, purpose)
        answer = _oracle(run) if source == "oracle" else _column(run)
        truths = {i: answer(i) for i in missing}
        given = [(i, truth, source, purpose) for i, truth in truths.items() if truth is not None]
        if len(given) < len(missing) and not (partial and (known or given)):
            raise DataError(_no_answer(run, truths))
        _store_labels(run, given)
        known = labels.labels()
    return {i: known[i].answer for i in question_ids if i in known}


def num_asked(run: RunDir, question_ids: Sequence[str], purpose: Purpose) -> int:
    """How many of these the source was asked for: all but those labelled for another purpose."""
    known = store(run).labels()
    return sum(i not in known or known[i].purpose == purpose for i in question_ids)


def export(run: RunDir, path: Path | None = None) -> Path:
    """Write the file of questions that wait for a label.

    Raises:
        RunDirError: no question waits for a label.
    """
    requested = _requested(run)
    known = bought(run)
    missing = [i for i in requested if i not in known]
    if not missing:
        raise RunDirError(
            f"{run.path}: no question waits for a label. Go on with: pivottrace run {run.path}"
        )
    return _write_requests(run, missing, requested[missing[0]], path)


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
            f"{result.places[unasked[0]]}: question {unasked[0]!r} does not wait for a label "
            f"({len(unasked)} such rows). Fill in only the file that the run wrote last."
        )
    known = bought(run)
    for question_id, answer in result.answers:
        if question_id in known and known[question_id].answer != answer:
            raise DataError(
                f"{result.places[question_id]}, column answer: question {question_id!r} is "
                f"answered {answer!r} here and has the answer {known[question_id].answer!r} "
                f"already; nothing was taken in. Give that one, or leave the row out; to change a "
                f"stored answer, begin a new run directory."
            )
    added = _store_labels(run, [(i, a, "file", purposes[i]) for i, a in result.answers])
    return added, result.blank


def _store_labels(run: RunDir, rows: Sequence[Row]) -> int:
    """Store labels; returns how many are new. What a probe was drawn by cannot change any more."""
    labels = store(run)
    if any(purpose == "probe" for *_, purpose in rows) and not run.begun_facts("calibrate"):
        _refuse_probes_of_another_draw(run)
        run.begin("calibrate", probes_wanted=probes_wanted(run))
    return labels.add_many(rows)


def waiting_file(run: RunDir) -> Path | None:
    """The file that people have to fill in before the run can go on, if it waits for one."""
    if run.config.labels.source != "file" or run.is_done("label"):
        return None
    purpose: Purpose = "annotation" if run.is_done("calibrate") else "probe"
    path, known = _request_file(run, purpose), bought(run)
    second = set(_second_probes(run)) if purpose == "probe" else set()
    answered = [
        i in known
        for i, asked_as in _requested(run).items()
        if asked_as == purpose and (i in second or not second)
    ]
    enough = any(answered) if run.config.labels.partial else all(answered)
    return path if answered and not enough and path.is_file() else None


def _request_file(run: RunDir, purpose: Purpose) -> Path:
    second = purpose == "probe" and _second_probes(run)
    name = MORE_PROBES if second else FILES[purpose]
    if run.round_index:  # the first round's file has answers in it by then
        name = name.replace(".csv", f"_{run.round_index:02d}.csv")
    return run.path / name


def _second_probes(run: RunDir) -> list[str]:
    """Probes that an adaptive draw has added after the first were labelled."""
    if not run.table_path("probes").is_file():
        return []
    probes = run.read_table("probes", made_by="calibrate")
    chosen: list[str] = probes.filter(pc.field("stage") == 1)["question_id"].to_pylist()
    return chosen


def _requested(run: RunDir) -> dict[str, Purpose]:
    """Questions that may be given a label by now, and what for; in the order to ask for them.

    Once the probes have been evaluated, those that nobody labelled are no probes any more: triage
    has given their share of the budget to annotation.
    """
    probes: list[str] = []
    if run.table_path("probes").is_file():
        probes = run.read_table("probes", made_by="calibrate")["question_id"].to_pylist()
    if run.is_done("calibrate"):
        known = bought(run)
        probes = [i for i in probes if i in known]
    chosen = to_annotate(run) if run.table_path("triage").is_file() else []
    asked_as: dict[str, Purpose] = dict.fromkeys(chosen, "annotation")
    return asked_as | dict.fromkeys(probes, "probe")


def _column(run: RunDir) -> Callable[[str], str | None]:
    pool = run.read_table("pool", made_by="run")
    return dict(zip(pool["id"].to_pylist(), pool["answer"].to_pylist(), strict=True)).get


def _oracle(run: RunDir) -> Callable[[str], str | None]:
    source = run.config.pool.questions
    if not source.startswith(WORLD_PREFIX):
        raise ConfigError(
            f"labels.source = 'oracle' knows the answers of the embedded world only, and "
            f"pool.questions is {source!r}. Set labels.source = 'column' or 'file'."
        )
    world = read_questions(source, column_map={}, split=run.config.pool.split, limit=None)
    return dict(zip(world["id"].to_pylist(), world["answer"].to_pylist(), strict=True)).get


def every_answer(run: RunDir) -> dict[str, str]:
    """The true answer of every question of a labelled pool: for a study, which buys nothing.

    Raises:
        DataError: questions have no answer.
    """
    answer = _oracle(run) if run.config.labels.source == "oracle" else _column(run)
    ids = run.read_table("pool", made_by="run")["id"].to_pylist()
    truths = {question_id: answer(question_id) for question_id in ids}
    gaps = [question_id for question_id, truth in truths.items() if truth is None]
    if gaps:
        raise DataError(
            f"{run.config.pool.questions}: {len(gaps)} of {len(ids)} questions have no answer, the "
            f"first is id {gaps[0]!r}. A study needs them all: name the answers' column with --map "
            f"answer=COLUMN, or leave those questions out of the file."
        )
    return {question_id: truth for question_id, truth in truths.items() if truth is not None}


def _no_answer(run: RunDir, truths: Mapping[str, str | None]) -> str:
    gaps = [i for i, truth in truths.items() if truth is None]
    return (
        f"{run.config.pool.questions}: question {gaps[0]!r} was chosen for a label and has no "
        f"answer in its answer column ({len(gaps)} of {len(truths)} chosen). Fill it in, name the "
        f"column with --map answer=COLUMN, set labels.source = 'file', or leave such questions out "
        f"with labels.partial = true (one answer is needed at least)."
    )


def _ask_people(run: RunDir, missing: list[str], purpose: Purpose) -> NoReturn:
    path = _write_requests(run, missing, purpose, None)
    what = "probe questions" if purpose == "probe" else "questions"
    place, file = shlex.quote(str(run.path)), shlex.quote(str(path))
    raise LabelsNeeded(
        f"{len(missing)} {what} wait for true answers. Next:\n"
        f"  1. fill in the column `answer` of {file}\n"
        f"  2. pivottrace label import {place} {file}\n"
        f"  3. pivottrace run {place}"
    )


def _write_requests(run: RunDir, missing: list[str], purpose: Purpose, path: Path | None) -> Path:
    questions = questions_of(run, missing)
    path = path or _request_file(run, purpose)
    export_requests(path, [Request(i, questions[i], purpose) for i in missing])
    return path


def questions_of(run: RunDir, question_ids: Sequence[str]) -> dict[str, str]:
    """What some questions of the pool ask, by id."""
    pool = run.read_table("pool", made_by="run").select(["id", "prompt"])
    rows = pool.filter(pc.is_in(pool["id"], value_set=pa.array(question_ids, pa.string())))
    return {row["id"]: last_user_message(row["prompt"]) for row in rows.to_pylist()}

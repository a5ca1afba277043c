"""The files that people fill in: which one a run waits for, questions out, answers in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pivottrace.errors import DataError, RunDirError
from pivottrace.label_sources import Purpose, label_source
from pivottrace.label_sources.people import FILE
from pivottrace.labels.budget import bought
from pivottrace.labels.exchange import ImportedAnswers, Request, export_requests, read_answers
from pivottrace.labels.intake import take_in
from pivottrace.labels.store import Label
from pivottrace.labels.waiting import questions_of, requested, second_probes
from pivottrace.run.directory import RunDir
from pivottrace.verifier import Verifier
from pivottrace.verifier.gold import agree

FILES: dict[Purpose, str] = {"probe": "probes_to_label.csv", "annotation": "annotate_to_label.csv"}
# For the second probes of an adaptive draw: the first file has answers in it by then.
MORE_PROBES = "more_probes_to_label.csv"


def export(run: RunDir, path: Path | None = None) -> Path:
    """Write the file of questions that wait for a label.

    Raises:
        RunDirError: No question waits for a label.
    """
    asked_as = requested(run)
    known = bought(run)
    missing = [i for i in asked_as if i not in known]
    if not missing:
        raise RunDirError(
            f"{run.path}: no question waits for a label. Go on with: pivottrace run {run.path}"
        )
    return write_requests(run, missing, asked_as[missing[0]], path)


def import_file(run: RunDir, path: Path) -> tuple[int, int]:
    """Take in a filled file; returns (labels added, rows without an answer).

    Raises:
        DataError: An unknown id, a question not chosen, or a conflict; nothing is taken in.
        BudgetError: More labels than allowed; nothing is taken in.
    """
    purposes = requested(run)
    known_ids = set(run.read_table("pool", made_by="run")["id"].to_pylist())
    with Verifier.of(run.config.answers) as verifier:
        result = read_answers(path, known_ids, verifier.equal, run.config.answers.pattern)
        _refuse_unasked(result, purposes)
        known = bought(run)
        _refuse_conflicts(result, known, verifier.equal)
    new = [(i, answer) for i, answer in result.answers if i not in known]
    added = take_in(run, [(i, answer, FILE.name, purposes[i]) for i, answer in new])
    return added, result.blank


def _refuse_unasked(result: ImportedAnswers, purposes: dict[str, Purpose]) -> None:
    unasked = [i for i, _ in result.answers if i not in purposes]
    if unasked:
        raise DataError(
            f"{result.places[unasked[0]]}: question {unasked[0]!r} does not wait for a label "
            f"({len(unasked)} such rows). Fill in only the file that the run wrote last."
        )


def _refuse_conflicts(
    result: ImportedAnswers, known: Mapping[str, Label], equal: Callable[[str, str], bool]
) -> None:
    for question_id, answer in result.answers:
        stored = known[question_id].answer if question_id in known else answer
        if not agree(answer, stored, equal):
            raise DataError(
                f"{result.places[question_id]}, column answer: question {question_id!r} is "
                f"answered {answer!r} here and has the answer {stored!r} already; "
                f"nothing was taken in. Give that one, or leave the row out; to change a "
                f"stored answer, begin a new run directory."
            )


def waiting_file(run: RunDir) -> Path | None:
    """The file that people have to fill in before the run can go on, if it waits for one."""
    if label_source(run.config.labels.source).ask is None or run.is_done("label"):
        return None
    purpose: Purpose = "annotation" if run.is_done("calibrate") else "probe"
    path, known = _request_file(run, purpose), bought(run)
    second = set(second_probes(run)) if purpose == "probe" else set()
    answered = [
        i in known
        for i, asked_as in requested(run).items()
        if asked_as == purpose and (i in second or not second)
    ]
    enough = any(answered) if run.config.labels.partial else all(answered)
    return path if answered and not enough and path.is_file() else None


def write_requests(
    run: RunDir, question_ids: Sequence[str], purpose: Purpose, path: Path | None = None
) -> Path:
    """Write the file that asks these questions; returns where it is.

    Args:
        run: In the round that asks.
        question_ids: In the order to ask them.
        purpose: The purpose of the labels.
        path: The file to write; None takes the request's own file in the run directory.

    Raises:
        DataError: As `exchange.export_requests`.
    """
    questions = questions_of(run, question_ids)
    path = path or _request_file(run, purpose)
    export_requests(path, [Request(i, questions[i], purpose) for i in question_ids])
    return path


def _request_file(run: RunDir, purpose: Purpose) -> Path:
    second = purpose == "probe" and second_probes(run)
    name = MORE_PROBES if second else FILES[purpose]
    if run.round_index:  # the first round's file has answers in it by then
        name = name.replace(".csv", f"_{run.round_index:02d}.csv")
    return run.path / name
